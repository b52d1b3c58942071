"""The image formats of LannU-Net, each read here or by Pillow or SimpleITK, whichever reads it right."""

from lannunet_images.claims import RATIO, check_claim

__all__ = ["RATIO", "check_claim"]
