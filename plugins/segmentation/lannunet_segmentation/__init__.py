"""Segmentation, also of partial annotations, as a LannU-Net task."""
