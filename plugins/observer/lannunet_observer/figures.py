"""Metrics in addition to the core's summary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lannunet_landmarks import Prediction, radial_errors

from lannunet_core import State


def figures(predictions: Sequence[Prediction], radius: float) -> dict[str, float]:
    """The median confidence, and the share of images with every visible landmark within `radius`.

    The radius is in mm where every image has a spacing, else in pixels. A landmark that was not found
    counts as an infinite error. Metrics that are undefined for the predictions are left out.
    """
    found: dict[str, float] = {}
    confidence = np.concatenate([prediction.confidence for prediction in predictions] or [np.empty(0)])
    if len(confidence):
        found["median_confidence"] = float(np.median(confidence))
    has_spacing = all(prediction.spacing is not None for prediction in predictions)
    complete = []
    for prediction in predictions:
        if prediction.states is None or not (visible := prediction.states == State.VISIBLE).any():
            continue
        pixels, millimetres = radial_errors(prediction)
        errors = (millimetres if has_spacing else pixels)[visible]
        complete.append(bool((errors <= radius).all()))  # NaN is not
    if complete:
        found["images_within_radius"] = float(np.mean(complete))
    return found
