"""The default decoder in the operations of an exported graph.

It differs from `peaks.locate` in how candidates are found: all local maxima compete, not those of the highest
blocks, which takes no loop and no size that depends on the maps. What follows is the same code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lannunet_core import Coordinates, EvaluationMode
from lannunet_landmarks.maps.decode import vertex_of
from lannunet_landmarks.maps.peaks import CANDIDATES, Grid, highest_of

MOST = (9, 8)
"""How far the two searches of `highest_of` reach at most: the first never has to reach further, the second
does where an original pixel is less than 1/30 of an input pixel."""


def decode_in_graph(
    heatmaps: Tensor, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
) -> Coordinates:
    """As `decode.decode_peak`, of a batch of 1."""
    maps = heatmaps[0]
    lines = [torch.arange(side, dtype=torch.float64) for side in maps.shape[:0:-1]]
    size = torch.stack([line[-1] + 1 for line in lines])
    grid = Grid.of_input(size, 1)
    if evaluation_mode == "scale_heatmap_first":
        grid = grid.refined_to_original(affine, original_sizes)
    low, high = grid.start.floor(), (grid.start + grid.step * (grid.count - 1)).ceil()
    inside = torch.ones_like(maps[0], dtype=torch.bool)
    for axis, line in enumerate(lines):
        shown = (line >= low[0, axis]) & (line <= high[0, axis])
        inside = inside & shown.reshape(-1, *[1] * axis)

    pixels, has_peak = candidates(maps, inside, size.long())
    return vertex_of(highest_of(maps, grid.repeat(len(maps)), pixels, has_peak, len(maps), MOST))


def candidates(maps: Tensor, inside: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The highest local maxima of maps (N, *S) of `size` (D,), `inside` (*S); see `peaks.candidates`."""
    kept = torch.where(inside, maps, -torch.inf)
    pool: Any = functional.max_pool2d if maps.ndim == 3 else functional.max_pool3d
    around = pool(kept[None], 3, stride=1, padding=1)[0]
    score = torch.where(inside & (kept >= around), kept, -torch.inf).flatten(1)
    value, order = score.topk(CANDIDATES)
    order = torch.where(value > -torch.inf, order, order[:, :1])
    pixels = []
    for side in size.unbind():  # x is the last axis
        pixels.append(order % side)
        order = order // side
    lowest = torch.where(inside, maps, torch.inf).flatten(1).amin(1)
    has_peak = torch.isfinite(value[:, 0]) & (value[:, 0] > 0) & (lowest < value[:, 0])
    return torch.stack(pixels, -1), has_peak
