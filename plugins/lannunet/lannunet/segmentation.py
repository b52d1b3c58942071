"""Predictions of models with `task: segmentation`."""

from lannunet_segmentation import Segmentation as Segmentation
