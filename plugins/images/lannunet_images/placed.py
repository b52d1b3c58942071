"""Spacing and placement of voxels from the values of a header."""

import math
from collections.abc import Sequence

import numpy as np

from lannunet_core import Floats, Placement, Stated


def placed(
    size: Sequence[int],
    channels: int,
    steps: Sequence[float | None],
    origin: Sequence[float],
    axes: Floats,
) -> Stated:
    """Interpret the spacing of some files: negative (the axis is reversed), 0 or NaN (unknown).

    Args:
        size: Size along the file's axes.
        channels: C.
        steps: mm per pixel of each axis.
        origin: Origin, as in `Placement`.
        axes: The direction matrix.
    """
    known = [step if step and math.isfinite(step) else None for step in steps]
    turned = np.array([-1.0 if step and step < 0 else 1.0 for step in known])
    spacing = tuple(None if step is None else abs(step) for step in known)
    whole = tuple(step or 1.0 for step in spacing[:3])
    count = len(whole)
    placement = Placement(whole, tuple(origin[:count]), (np.asarray(axes) * turned)[:count, :count])
    return Stated(tuple(size), channels, spacing, placement)
