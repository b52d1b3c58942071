"""Whether a data set needs a cascade, and how coarse its first stage is, as nnU-Net (Isensee et al. 2021).

Where a patch covers less than a quarter of the median image, a first stage gets the finest spacing at which
one covers a quarter. Sizes and spacings are (x, y[, z]).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lannunet_core import PlannedNetwork

ENOUGH = 0.25  # of the median image
STEP = 1.03  # by which the spacing grows
SIMILAR = 2.0  # finer axes grow alone, until none is over this many times as fine as the coarsest
LEAST_GAIN = 2.0  # a first stage with more than the image's voxels over this is left out


@dataclass(frozen=True)
class Coarse:
    """A first stage.

    Attributes:
        spacing: mm.
        median: Size of the median image in it.
        network: With its patch.
    """

    spacing: tuple[float, ...]
    median: tuple[float, ...]
    network: PlannedNetwork


def covered(network: PlannedNetwork, median: Sequence[float]) -> float:
    """The share of the median image that a patch covers."""
    return math.prod(min(side, whole) / whole for side, whole in zip(network.size, median, strict=True))


def first_stage(
    spacing: Sequence[float],
    median: Sequence[float],
    choose: Callable[[tuple[float, ...], tuple[float, ...]], PlannedNetwork],
) -> Coarse | None:
    """The first stage that a data set needs; None: it needs none, or that would be hardly coarser.

    Args:
        spacing: mm, of the second stage.
        median: Size of the median image in it.
        choose: The network for a spacing and the size of the median image in it.
    """
    steps, size = np.array(spacing, np.float64), tuple(median)
    network = choose(tuple(spacing), size)
    while covered(network, size) < ENOUGH:
        finer = steps.max() / steps > SIMILAR
        steps[finer if finer.any() else ...] *= STEP
        size = tuple((np.array(median) * spacing / steps).clip(1).tolist())
        network = choose(tuple(steps.tolist()), size)
    if math.prod(median) < LEAST_GAIN * math.prod(size):
        return None
    return Coarse(tuple(float(f"{step:.4g}") for step in steps), size, network)
