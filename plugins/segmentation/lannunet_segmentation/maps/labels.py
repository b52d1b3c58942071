"""Label maps and weights at each supervised resolution, computed for a whole batch on its device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lannunet_images import level_scale, queued_copy
from torch import Tensor
from torch.nn import functional

from lannunet_segmentation.types import IGNORE


def segmentation_labels(
    label: Tensor, level_sizes: Sequence[Sequence[int]], weight: Tensor | None = None
) -> dict[str, list[Tensor]]:
    """The labels of each level, and the weights of its voxels.

    A voxel of a level has the label in the middle of the block that it covers. Its weight is the mean of
    the block's annotated voxels, and 0 if that label is ignored or has weight 0 itself: a label that
    should not count has no weight at any level.

    Args:
        label: (B, *S) of integers, `IGNORE` where there is no annotation.
        level_sizes: Size (x, y[, z]) of each level.
        weight: (B, *S), at least 0; its values at ignored voxels have no meaning. None: 1 everywhere.

    Returns:
        `segmentation`, one (B, *S_l) int64 per level, and `weight`, one (B, *S_l) float32 per level.
    """
    annotated = (label != IGNORE).float()
    weights = annotated if weight is None else torch.where(annotated.bool(), weight.float(), 0.0)
    segmentation, level_weights = [], []
    for size in level_sizes:
        strides = level_scale(label.shape[:0:-1], size)[::-1]
        shape = tuple(size)[::-1]
        chosen, level_weight = label, weights
        for axis, (stride, length) in enumerate(zip(strides, shape, strict=True), start=1):
            middles = _middles(stride, length, label.shape[axis], label.device)
            chosen, level_weight = (one.index_select(axis, middles) for one in (chosen, level_weight))
        segmentation.append(chosen.long())
        if weight is not None:
            total = _block_sums(weights, strides, shape)
            voxels = _block_sums(annotated, strides, shape)
            level_weight = torch.where(level_weight > 0, total / voxels, 0.0)
        level_weights.append(level_weight)
    return {"segmentation": segmentation, "weight": level_weights}


def _middles(stride: float, length: int, full: int, device: torch.device) -> Tensor:
    """The middle voxel of each block along one axis, (length,)."""
    middles = ((torch.arange(length, dtype=torch.float64) + 0.5) * stride).long()
    return queued_copy(middles.clamp(max=full - 1), device, torch.int64)


def _block_sums(maps: Tensor, strides: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Sums of (B, *S) over the blocks of a level; strides and the level's shape are ([z,] y, x)."""
    for axis, (stride, length) in enumerate(zip(strides, shape, strict=True), start=1):
        if stride == 1:
            continue
        voxels = torch.arange(maps.shape[axis], dtype=torch.float64)
        blocks = ((voxels + 0.5) / stride).long().clamp(max=length - 1)
        belongs = queued_copy(functional.one_hot(blocks, length), maps.device, maps.dtype)  # (S, S_l)
        maps = (maps.movedim(axis, -1) @ belongs).movedim(-1, axis)
    return maps
