"""Values and labels of voxels on another grid over the same space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lannunet_images import resample_axis, resample_matrix
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array

from lannunet_segmentation.types import IGNORE, Labels


def resample(values: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.float32]:
    """Values (*S) linearly resampled, anti-aliased if shrunk, to `size` (x, y[, z])."""
    for axis, weights in enumerate(_axis_weights(values.shape, size)):
        if weights is not None:
            values = resample_axis(weights, values, axis)
    return np.ascontiguousarray(values)


def resample_label(label: Labels, size: Sequence[int], thick: int | None = None) -> Labels:
    """A label map (*S) resampled to `size` (x, y[, z]).

    Each class's indicator is resampled linearly, one at a time, and the highest wins; along the axis `thick`
    of the array the nearest slice is used if their number grows. Voxels without annotation are ignored and
    stay unannotated: a new voxel is annotated if any of the voxels that it covers is, so that a single one is
    not lost.
    """
    if tuple(size) == label.shape[::-1]:
        return label
    if thick is not None and label.shape[thick] < size[::-1][thick]:
        label = label.take(_nearest(label.shape[thick], size[::-1][thick]), thick)
    best = np.zeros(size[::-1], np.float32)
    out = np.full(size[::-1], IGNORE, np.int16)
    matrices = _axis_weights(label.shape, size)
    for value, box in enumerate(ndimage.find_objects(label + 1)):
        if box is None:
            continue
        score = (label[box] == value).astype(np.float32)
        region = []  # part of the new grid that the box overlaps
        for axis, (weights, side) in enumerate(zip(matrices, box, strict=True)):
            reached = side
            if weights is not None:
                columns = weights[:, side]
                rows = np.flatnonzero(np.diff(columns.indptr))
                reached = slice(rows[0], rows[-1] + 1)
                score = resample_axis(columns[reached], score, axis)
            region.append(reached)
        here = tuple(region)
        wins = score > best[here]
        np.copyto(best[here], score, where=wins)
        out[here][wins] = value
    annotated = label != IGNORE
    if not annotated.all():
        out[~_any_of(annotated, size)] = IGNORE
    return out


def _axis_weights(shape: Sequence[int], size: Sequence[int]) -> list[csr_array | None]:
    """For each array axis the weights (new, old) of a resize to `size` (x, y[, z]); None: unchanged."""
    matrices: list[csr_array | None] = []
    for old, new in zip(shape, size[::-1], strict=True):
        positions = (np.arange(new, dtype=np.float64) + 0.5) * (old / new) - 0.5
        matrices.append(None if new == old else resample_matrix(old, positions, old / new))
    return matrices


def resample_nearest(values: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Values (*S) resampled to `size` (x, y[, z]), each from the nearest voxel."""
    for axis, (old, new) in enumerate(zip(values.shape, size[::-1], strict=True)):
        if new != old:
            values = values.take(_nearest(old, new), axis)
    return values


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """The old voxel that contains the middle of each new one, along an axis."""
    holding: NDArray[np.intp] = np.floor((np.arange(new) + 0.5) * (old / new)).astype(np.intp)
    return holding


def _any_of(mask: NDArray[np.bool_], size: Sequence[int]) -> NDArray[np.bool_]:
    """Whether the new voxel contains the middle of a true one, or its own middle is in a true one."""
    for axis, (old, new) in enumerate(zip(mask.shape, size[::-1], strict=True)):
        if new < old:
            first = np.searchsorted(_nearest(new, old), np.arange(new))
            mask = np.logical_or.reduceat(mask, first, axis)
        elif new > old:
            mask = mask.take(_nearest(old, new), axis)
    return mask
