"""Resample class scores from the prepared grid to labels on the original one.

Scores are resampled separably, like images, and class by class; only a slab of the result along the first
axis exists at a time. Each voxel is computed by the same operations in any slab, so labels do not depend on
the slabs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lannunet_images import resample_axis, resample_matrix
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from lannunet_core import Floats
from lannunet_segmentation.predict.slabs import in_slabs
from lannunet_segmentation.types import Labels

Keep = Callable[[slice, NDArray[np.float32]], None]
"""Called with the rows `slice` along the first axis of an original image: all classes' scores (K, rows,
*rest)."""
ROUNDING = 1e-6  # of a pixel
SLAB_BYTES = 128 * 2**20  # of resampled float32 scores of all classes


def argmax(scores: Tensor) -> Tensor:
    """The class with the highest score of (K, *S); the first if tied."""
    return scores.argmax(0)


@dataclass(frozen=True)
class Part:
    """Scores on one prepared grid.

    Attributes:
        scores: (K, *S) of the prepared image, on the CPU, in half precision or any other.
        affine: (D + 1, D + 1) from prepared to original pixels; it only scales, shifts and swaps axes.
        share: Weight of these scores in the mean.
    """

    scores: Tensor
    affine: Floats
    share: float = 1.0


def label_map(
    scores: Tensor,
    affine: Floats,
    original_size: Sequence[int],
    decide: Callable[[Tensor], Tensor] = argmax,
    keep: Keep | None = None,
) -> Labels:
    """The labels of the original image; see `Part` and `mean_label_map`."""
    return mean_label_map([Part(scores, affine)], original_size, decide, keep)


def mean_label_map(
    parts: Sequence[Part],
    original_size: Sequence[int],
    decide: Callable[[Tensor], Tensor] = argmax,
    keep: Keep | None = None,
    outside: int | None = 0,
) -> Labels:
    """The labels of the original image, by the mean of scores on one grid or several.

    In addition to scores and labels, memory holds one slab of all classes, of `SLAB_BYTES` or one plane.

    Voxels that a cropped prepared image does not contain are background.

    Args:
        parts: Parts, whose shares sum to 1.
        original_size: Size (x, y[, z]) in pixels.
        decide: Maps scores (K, *slab) float32 to labels (*slab), voxel by voxel; their memory
            is used again for the next slab.
        keep: Called with the resampled scores, which are 1 for `outside` where nothing is shown; None: not
            needed.
        outside: The class of voxels that are not shown; None: there is none, as for regions.

    Raises:
        UserError: The switch in the environment has an invalid value.
    """
    whole = np.zeros(original_size[::-1], np.int16)
    placed = [_Placed(part, whole.shape) for part in parts]
    box = tuple(
        slice(min(part.start for part in axis), max(part.stop for part in axis))
        for axis in zip(*(one.box for one in placed), strict=True)
    )
    labels = whole[box]
    shape, classes = labels.shape, len(parts[0].scores)
    plane = 4 * classes * math.prod((labels if keep is None else whole).shape[1:])
    thickness = max(SLAB_BYTES // plane, 1) if in_slabs() else shape[0]
    memory = torch.empty(classes, min(thickness, shape[0]), *shape[1:])
    for first in range(0, shape[0], thickness):
        slab = slice(first, min(first + thickness, shape[0]))
        stack = memory[:, : slab.stop - slab.start]
        if len(placed) == 1:
            for one, target in zip(placed[0].scores, stack, strict=True):
                target.copy_(resampled(one, placed[0].matrices, slab))
        else:
            stack.zero_()
            for part in placed:
                part.add_to(stack, slab, [axis.start for axis in box], outside)
        if keep is not None:
            rows = slice(box[0].start + slab.start, box[0].start + slab.stop)
            keep(rows, _surrounded(stack.numpy(), box[1:], whole.shape[1:], outside))
        labels[slab] = decide(stack).numpy()
    if keep is not None:
        nothing = _nothing((classes, 1, *whole.shape[1:]), outside)
        for row in (*range(box[0].start), *range(box[0].stop, len(whole))):
            keep(slice(row, row + 1), nothing)
    return whole


def _surrounded(
    shown: NDArray[np.float32], box: Sequence[slice], rest: Sequence[int], outside: int | None
) -> NDArray[np.float32]:
    """Scores (K, rows, *box) in rows of the whole image, (K, rows, *rest), with nothing around them."""
    if shown.shape[2:] == tuple(rest):
        return shown
    found = _nothing((*shown.shape[:2], *rest), outside)
    inside = (slice(None), slice(None), *box)
    found[inside] = shown
    return found


def _nothing(shape: Sequence[int], outside: int | None) -> NDArray[np.float32]:
    """The scores (K, rows, *rest) where nothing is shown."""
    found = np.zeros(shape, np.float32)
    if outside is not None:
        found[outside] = 1
    return found


class _Placed:
    """A part's scores, with their position in an original image (*S)."""

    def __init__(self, part: Part, original: Sequence[int]) -> None:
        self.scores, affine = turned_back(part.scores, part.affine)
        self.share = part.share
        self.box, affine = shown_part(original, self.scores.shape[1:], affine)
        shape = [axis.stop - axis.start for axis in self.box]
        self.matrices = axis_matrices(self.scores.shape[1:], affine, shape)

    def add_to(self, stack: Tensor, slab: slice, begin: Sequence[int], outside: int | None) -> None:
        """Add its share to the slab (K, *slab) that is `slab` of an image which begins at `begin`."""
        own = [slice(axis.start - at, axis.stop - at) for axis, at in zip(self.box, begin, strict=True)]
        first, last = max(slab.start, own[0].start), min(slab.stop, own[0].stop)
        if outside is not None:
            stack[outside] += self.share  # where the part shows nothing
        if first >= last:
            return
        inside = (slice(first - slab.start, last - slab.start), *own[1:])
        if outside is not None:
            stack[outside][inside] -= self.share
        rows = slice(first - own[0].start, last - own[0].start)
        for one, target in zip(self.scores, stack, strict=True):
            target[inside] += self.share * resampled(one, self.matrices, rows)


def turned_back(scores: Tensor, affine: Floats) -> tuple[Tensor, Floats]:
    """Scores (K, *S) with the axes of the original image, and the affine from them to original pixels."""
    last = len(affine) - 1
    along = np.abs(affine[:last, :last]).argmax(1).tolist()  # the prepared axis of x, y, z
    order = [last - along[last - axis] for axis in range(1, last + 1)]
    return scores.permute(0, *order), affine[:, [*along, last]]


def shown_part(
    original: Sequence[int], size: Sequence[int], affine: Floats
) -> tuple[tuple[slice, ...], Floats]:
    """The part of an original image (*S) that the prepared one shows, and the affine to its pixels."""
    box, moved = [], affine.copy()
    for axis, (side, wanted) in enumerate(zip(size, original, strict=True)):
        along = len(size) - 1 - axis  # x is the last axis
        scale, shift = affine[along, along], affine[along, -1]
        positions = (np.arange(wanted) - shift) / scale
        shown = np.flatnonzero((positions > -0.5 - ROUNDING) & (positions < side - 0.5 + ROUNDING))
        first, last = (int(shown[0]), int(shown[-1])) if len(shown) else (0, -1)
        box.append(slice(first, last + 1))
        moved[along, -1] -= first
    return tuple(box), moved


def axis_matrices(size: Sequence[int], affine: Floats, original: Sequence[int]) -> list[csr_array | None]:
    """For each array axis the weights (original, size) of its pixels; None: that axis is unchanged."""
    matrices: list[csr_array | None] = []
    for axis, (side, wanted) in enumerate(zip(size, original, strict=True)):
        along = len(size) - 1 - axis  # x is the last axis
        scale, shift = affine[along, along], affine[along, -1]
        if side == wanted and abs(scale - 1) < 1e-9 and abs(shift) < 1e-6:
            matrices.append(None)
        else:
            positions = (np.arange(wanted) - shift) / scale
            matrix = resample_matrix(side, positions, 1 / scale)
            matrix.eliminate_zeros()  # halves the work
            matrices.append(matrix)
    return matrices


def resampled(scores: Tensor, matrices: Sequence[csr_array | None], slab: slice) -> Tensor:
    """Rows `slab` of the resampled scores of one class (*S), float32."""
    first = matrices[0]
    if first is None:
        values = scores[slab].float().numpy()
    else:
        rows = first[slab]
        needed = slice(rows.indices.min(), rows.indices.max() + 1)
        values = resample_axis(rows[:, needed], scores[needed].float().numpy(), 0)
    for axis, matrix in enumerate(matrices[1:], start=1):
        if matrix is not None:
            values = resample_axis(matrix, values, axis)
    return torch.from_numpy(values)
