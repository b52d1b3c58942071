"""The systematic error of each landmark, measured on training images and subtracted from predictions.

A network can place a landmark with the same offset, of a fraction of an input pixel, in nearly every image,
because the loss of a wide heatmap hardly depends on it. The offset is about the same in images that the
network was trained on and in others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lannunet_core import Coordinates, EvaluationMode, Floats
from lannunet_landmarks.predict.predictor import Locate, Located

MOST_IMAGES = 50
FEWEST_IMAGES = 5  # of a landmark; with fewer, what chance explains is too uncertain
GROSS = 5.0  # median errors; a point that is further off is another structure, not the landmark


def systematic(errors: Floats, most: Floats | float) -> Floats:
    """The offset (N, D) of each landmark, shrunk by the part that chance explains.

    An offset is the mean error without gross errors. Over all landmarks, offsets are treated as normally
    distributed around 0, and each is replaced by its posterior mean (empirical Bayes; Efron & Morris 1973,
    Stein's estimation rule and its competitors): landmarks of few images, or without a common offset, are
    hardly changed. A landmark has the offset 0 in fewer than `FEWEST_IMAGES` images.

    Args:
        errors: (images, N, D) predicted minus annotated points; NaN where there is none.
        most: Length of a mean error from which the offset is 0, of each landmark (N,) or of all: it has not
            been learned.
    """
    lengths = np.linalg.norm(errors, axis=-1, keepdims=True)
    known = np.isfinite(lengths)
    if not known.any():
        return np.zeros(errors.shape[1:])
    own = [np.median(one[seen]) if seen.any() else np.inf for one, seen in
           zip(lengths[..., 0].T, known[..., 0].T, strict=True)]  # fmt: skip
    typical = np.minimum(np.median(lengths[known]), own)[:, None]  # whatever the other landmarks' errors
    used = known & (np.nan_to_num(lengths, nan=np.inf) <= GROSS * typical)
    count = used.sum(0)  # (N, 1)
    mean = np.where(used, errors, 0).sum(0) / np.maximum(count, 1)
    squares = np.where(used, errors - mean, 0) ** 2
    moved = np.linalg.norm(mean, axis=-1, keepdims=True)
    learned = (count >= FEWEST_IMAGES) & (moved < np.reshape(most, (-1, 1)))
    if not learned.any():
        return np.zeros_like(mean)
    chance = squares.sum(0) / np.maximum(count * (count - 1), 1)  # variance of the mean, (N, D)
    common = max(float((mean**2 - chance)[learned[:, 0]].mean()), 0.0)
    share = common / np.maximum(common + chance, np.finfo(float).tiny)
    return np.where(learned, mean * share, 0.0)


def corrected(locate: Locate, offsets: Floats) -> Locate:
    """`locate`, with the offsets (N, D) subtracted from its points, in pixels of the network's input."""

    def correct(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
        located = locate(batch, mode)
        methods = {name: without(found, offsets) for name, found in located.methods.items()}
        return replace(located, methods=methods)

    return correct


def without(found: Coordinates, offsets: Floats) -> Coordinates:
    return replace(found, points=found.points - torch.from_numpy(offsets).to(found.points))
