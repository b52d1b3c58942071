"""Boxes of an array that may extend beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def cut_box(
    array: NDArray[Any], first: Sequence[int], size: Sequence[int], outside: float | None = None
) -> NDArray[Any]:
    """Cut a box from an array, without reading voxels outside of it.

    Args:
        array: (…, *S), may be memory-mapped.
        first: First voxel (x, y[, z]) of the box, may be negative.
        size: Size (x, y[, z]) of the box, which must overlap the array.
        outside: Value outside of the array; None: its mirror image. Images are mirrored, since zeros would
            change the mean and deviation of normalisation layers.

    Returns:
        (…, *size), a copy.
    """
    spatial = array.shape[::-1][: len(size)]
    box: tuple[Any, ...] = ()
    pads: list[tuple[int, int]] = []
    for start, length, side in zip(first, size, spatial, strict=True):
        low, high = max(start, 0), min(start + length, side)
        box = (slice(low, high), *box)
        pads.insert(0, (low - start, start + length - high))
    index: tuple[Any, ...] = (..., *box)
    part = np.array(array[index])
    if not any(map(any, pads)):
        return part
    pads = [(0, 0)] * (array.ndim - len(size)) + pads
    if outside is None:
        return np.pad(part, pads, mode="symmetric")
    return np.pad(part, pads, constant_values=outside)
