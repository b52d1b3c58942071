"""Predictions of models with `task: landmarks`."""

from lannunet_landmarks import Landmarks as Landmarks
