"""The default decoder, written in operations that an exported graph supports.

It differs from `peaks.locate` in how candidates are found: first local maxima, then those that are the
highest of their blocks, which needs no loop and no size that depends on the maps. The following steps share
the code.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lannunet_core import Coordinates, EvaluationMode
from lannunet_landmarks.maps.decode import vertex_of
from lannunet_landmarks.maps.peaks import BLOCK, BLOCKS, CANDIDATES, Grid, gather, highest_of

MOST = (9, 8)
"""The largest reach of the two searches of `highest_of`. The first never needs more; the second does if an
original pixel is less than 1/30 of an input pixel."""


def decode_in_graph(
    heatmaps: Tensor, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
) -> Coordinates:
    """As `decode.decode_peak`, for a batch of 1."""
    maps = heatmaps[0]
    lines = [torch.arange(side, dtype=torch.float64) for side in maps.shape[:0:-1]]
    size = torch.stack([line[-1] + 1 for line in lines])
    grid = Grid.of_input(size, 1)
    if evaluation_mode == "scale_heatmap_first":
        grid = grid.refined_to_original(affine, original_sizes)
    low, high = grid.start.floor(), (grid.start + grid.step * (grid.count - 1)).ceil().minimum(size - 1)
    inside = torch.ones_like(maps[0], dtype=torch.bool)
    for axis, line in enumerate(lines):
        shown = (line >= low[0, axis]) & (line <= high[0, axis])
        inside = inside & shown.reshape(-1, *[1] * axis)

    pixels, has_peak = candidates(maps, inside, size.long(), low[0].long(), high[0].long())
    return vertex_of(highest_of(maps, grid.repeat(len(maps)), pixels, has_peak, len(maps), MOST))


def candidates(
    maps: Tensor, inside: Tensor, size: Tensor, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """As `peaks.candidates`, for maps (N, *S) of `size` (D,); `inside` (*S) masks the allowed pixels."""
    kept = torch.where(inside, maps, -torch.inf)
    pool: Any = functional.max_pool2d if maps.ndim == 3 else functional.max_pool3d
    around = pool(kept[None], 3, stride=1, padding=1)[0]
    score = torch.where(inside & (kept >= around), kept, -torch.inf).flatten(1)
    value, order = score.topk(int(min(BLOCKS, score.shape[1])))
    places = []
    for side in size.unbind():  # x is the last axis
        places.append(order % side)
        order = order // side
    pixels = torch.stack(places, -1)
    highest = highest_of_blocks(maps, pixels, value, low, high)
    rank = torch.where(highest, value[..., None], -torch.inf).flatten(1)
    rank, chosen = rank.topk(CANDIDATES)
    chosen = torch.where(rank > -torch.inf, chosen, chosen[:, :1]) // highest.shape[-1]
    pixels = pixels.gather(1, chosen[..., None].expand(-1, -1, maps.ndim - 1))
    lowest = torch.where(inside, maps, torch.inf).flatten(1).amin(1)
    has_peak = torch.isfinite(value[:, 0]) & (value[:, 0] > 0) & (lowest < value[:, 0])
    return pixels, has_peak


def highest_of_blocks(maps: Tensor, pixels: Tensor, value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(N, K, 2^D) whether pixels (N, K, D) of values (N, K) are the highest of their blocks of
    `peaks.block_maxima`.

    Blocks begin at `low`; if the last one along an axis is incomplete, another one ends at `high`, and a
    pixel may be in both.
    """
    maps_each, count, dimensions = pixels.shape
    of_map = torch.arange(maps_each).repeat_interleave(count)
    length = high - low + 1
    block = length.clamp(max=BLOCK)
    pixels = pixels.maximum(low).minimum(high)  # pixels without a value may be outside
    away = pixels - low
    whole = length // block * block
    begins = (low + away // block * block, (high - block + 1).expand_as(pixels))
    within = (away < whole, (pixels > high - block) & (whole < length))
    found = []
    for kinds in itertools.product((0, 1), repeat=dimensions):  # kinds of blocks along each axis
        axes = []
        for axis, kind in enumerate(kinds):
            first = begins[kind][..., axis].reshape(-1, 1)
            axes.append((first + torch.arange(BLOCK)).minimum(high[axis]))
        there = torch.stack([within[kind][..., axis] for axis, kind in enumerate(kinds)], -1).all(-1)
        top = gather(maps, of_map, axes).flatten(1).amax(1).view(maps_each, count)
        found.append(there & (value >= top))
    return torch.stack(found, -1)
