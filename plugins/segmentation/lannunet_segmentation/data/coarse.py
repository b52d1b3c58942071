"""Whether a data set needs a cascade, and the spacing of its first stage, as nnU-Net (Isensee et al. 2021).

If a patch covers less than a quarter of the median image, a first stage gets the finest spacing at which a
patch covers a quarter. Sizes and spacings are (x, y[, z]).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lannunet_core import PlannedNetwork

ENOUGH = 0.25  # of the median image
STEP = 1.03  # by which the spacing grows
SIMILAR = 2.0  # axes finer than the coarsest by more than this factor grow first
LEAST_GAIN = 2.0  # the least ratio of the image's voxels to those of the first stage


@dataclass(frozen=True)
class Coarse:
    """A first stage of a cascade.

    Attributes:
        spacing: mm.
        median: Size of the median image at this spacing.
        network: The network and its patch.
    """

    spacing: tuple[float, ...]
    median: tuple[float, ...]
    network: PlannedNetwork


def covered(network: PlannedNetwork, median: Sequence[float]) -> float:
    """Share of the median image that a patch covers."""
    return math.prod(min(side, whole) / whole for side, whole in zip(network.size, median, strict=True))


def first_stage(
    spacing: Sequence[float],
    median: Sequence[float],
    choose: Callable[[tuple[float, ...], tuple[float, ...]], PlannedNetwork],
) -> Coarse | None:
    """The first stage that a data set needs; None if it needs none, or if that would be hardly coarser.

    Args:
        spacing: mm, of the second stage.
        median: Size of the median image at that spacing.
        choose: Returns the network for a spacing and the size of the median image at it.
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
