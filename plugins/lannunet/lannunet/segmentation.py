"""What models of `task: segmentation` answer."""

from lannunet_segmentation import Segmentation as Segmentation
