"""The augmentation package imgaug as a LannU-Net plugin."""
