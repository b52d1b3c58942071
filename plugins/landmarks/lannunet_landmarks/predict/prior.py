"""The centre of a patch as a prior for the landmark in it.

A second stage sees a patch of the image around the first stage's point. If several positions in it look
alike, such as two fingertips, the one closer to that point is more probable. So the map of the second stage
is multiplied with a distribution around that point: Student's t, whose heavy tails allow for gross errors of
the first stage. It is wide, so that it decides between structures and hardly moves a peak.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lannunet_core import Coordinates, EvaluationMode, Floats, spatial_size
from lannunet_landmarks.predict.predictor import Located

DEGREES = 3.0  # of freedom
SCALE = 6.0  # median errors of centres; narrower ones made precise points worse (docs/recipe.md)
LEAST_SCALE = 1.0  # pixels; centres that are more precise are annotations


@dataclass(frozen=True)
class CentrePrior:
    """Multiplies probabilities of positions with Student's t around the centres of their patches.

    The sum of a map stays: it is the probability that the landmark is in the image.

    Args:
        scale: Scale of the distribution in pixels of the image; at this distance it is about half as high.
    """

    scale: float

    def __call__(self, maps: Tensor, centres: Tensor, size: tuple[int, ...]) -> Tensor:
        """The weighted maps.

        Args:
            maps: (P, N, *S) of P patches, at their resolution or a fraction of it.
            centres: (P, D) in pixels of the patches.
            size: Size (x, y[, z]) of a patch.
        """
        squares = squared_distances(maps, centres, size)
        exponent = -(DEGREES + len(size)) / 2
        weighted = maps * (1 + squares / (DEGREES * self.scale**2)) ** exponent
        return with_sums_of(weighted, maps)


def squared_distances(maps: Tensor, points: Tensor, size: Sequence[int]) -> Tensor:
    """The squared distances (P, 1, *S) of the pixels of maps (P, N, *S) from one point (P, D) each.

    Distances and points are in pixels of an image of `size` (x, y[, z]), at whose resolution or a fraction
    of it the maps are.
    """
    points = points.to(maps)
    squares = maps.new_zeros(len(maps), *[1] * (maps.ndim - 1))
    for axis, (side, full) in enumerate(zip(spatial_size(maps), size, strict=True)):
        places = (torch.arange(side).to(maps) + 0.5) * (full / side) - 0.5
        away = (places - points[:, axis, None]).square()
        squares = squares + away.view(len(maps), *[1] * (maps.ndim - 2 - axis), side, *[1] * axis)
    return squares


def with_sums_of(weighted: Tensor, maps: Tensor) -> Tensor:
    """Weighted maps (P, N, *S), each with the sum that it had before."""
    axes = tuple(range(2, maps.ndim))
    kept = weighted.sum(axes, keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
    return weighted * (maps.sum(axes, keepdim=True) / kept)


def prior_scale(errors: Floats) -> float | None:
    """The scale of the prior, from the errors (images, N, D) of centres in pixels.

    None: no error is known, or centres are annotations.
    """
    lengths = np.linalg.norm(errors, axis=-1)
    known = lengths[np.isfinite(lengths)]
    scale = SCALE * float(np.median(known)) if len(known) else 0.0
    return scale if scale >= LEAST_SCALE else None


def at_centres(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
    """The centres of a batch as if they were predicted."""
    centres = batch["centres"]
    return Located([], {"centres": Coordinates(centres, torch.ones(centres.shape[:2]))})
