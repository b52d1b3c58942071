"""From activated heatmaps to coordinates.

The coordinate is the vertex of the Gaussian that fits the map around its highest pixel: a quadratic through
the logarithms of 5^D points an input pixel apart, by least squares weighted with the squared values (Guo
2011, A simple algorithm for fitting a Gaussian function, eq. 13). It is exact for a Gaussian of any
covariance, and its many points average the noise of a network's map, which the usual Taylor expansion over
3^D pixels (Zhang et al., CVPR 2020) follows. At a border the points are shifted inside, and the vertex may
lie beyond them.

The grid is the input's, or for `scale_heatmap_first` the original image's, on which the map is its
interpolating cubic spline (not-a-knot). The spline is never evaluated on the whole grid. An interpolating
spline is local in effect, a sample's weight falls by 0.27 a pixel, so each of the highest local maxima of the
map gets the spline of a small window around it, evaluated at the grid's points near it.

- Only original pixels between the outermost pixel centres of the map are searched: a cubic must not
  extrapolate noise. The vertex may lie on to the edge of the image.
- On an axis where the original is coarser than the input, the input's grid is used: nothing is to be gained
  by skipping pixels.
- An affine that rotates or shears has no common grid: such samples are decoded on the input's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lannunet_core.hookspecs import Coordinates, Decoder, EvaluationMode

BLOCK = 4  # of pixels a side: of two local maxima this close only the higher one is a candidate
BLOCKS = 64  # highest blocks of a map whose highest pixel is looked at
CANDIDATES = 8  # highest local maxima of a map whose spline is evaluated
REACH = 1.5  # input pixels between a local maximum of the map and the spline's
MOST_STEP = 1.5  # input pixels between the highest pixel and the vertex of the fit
LEAST_SHARE = 1e-4  # of the highest value that a point has to have to count for the fit
HALO = 9  # input pixels on either side that the spline of a window is made from


def decode_peak(
    heatmaps: Any, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
) -> Coordinates:
    """The peak of each map with sub-pixel refinement.

    A map that is flat, has no positive value or is not finite has no peak: NaN and confidence 0.

    Args:
        heatmaps: (B, N, *S) with 1 as certain as a perfect label's peak, or a list whose first is.
        affine: (B, D + 1, D + 1) from input pixels to original pixels.
        original_sizes: (B, D), (x, y[, z]).
        evaluation_mode: `scale_heatmap_first` decodes on the original pixel grid, the others on the input's.

    Returns:
        Points in input pixels and the refined peak's value clipped to 0 … 1, float64 on the CPU.
    """
    maps: Tensor = (heatmaps if isinstance(heatmaps, Tensor) else heatmaps[0]).detach()
    batch, landmarks, *shape = maps.shape
    size = torch.tensor(shape[::-1])
    grid = Grid.of_input(size, batch)
    if evaluation_mode == "scale_heatmap_first":
        grid = grid.refined_to_original(affine.cpu(), original_sizes.cpu())
    first_pixel = grid.start.floor().long()
    last_pixel = (grid.start + grid.step * (grid.count - 1)).ceil().long()
    found = [candidates(m, low, high) for m, low, high in zip(maps, first_pixel, last_pixel, strict=True)]
    most = max(pixels.shape[1] for pixels, _ in found)
    pixels = torch.stack([_pad(p, most) for p, _ in found]).flatten(0, 1)  # (M = B · N, K, D)
    has_peak = torch.stack([peak for _, peak in found]).flatten()
    grid = grid.repeat(landmarks)

    # Each candidate: its window of the map, and the highest grid point within reach.
    of_map = torch.arange(batch * landmarks).repeat_interleave(most)
    windows = Windows.around(maps.flatten(0, 1), of_map, pixels.flatten(0, 1))
    of_candidate = grid.repeat(most)
    coarse = (1 / of_candidate.step / 3).floor().clamp(min=1)  # at least three points an input pixel
    reach = (REACH / of_candidate.step / coarse).ceil()
    index, value = windows.highest(of_candidate, of_candidate.nearest(pixels.flatten(0, 1)), reach, coarse)

    # The map's highest candidate: every grid point where only some were looked at, then the refinement.
    best = value.view(-1, most).argmax(1) + torch.arange(batch * landmarks) * most
    windows, index, coarse = windows[best], index[best], coarse[best]
    index, _ = windows.highest(grid, index, coarse - 1, torch.ones_like(coarse))
    usable = grid.count >= 5
    stride = (1 / grid.step).round().minimum(((grid.count - 1) / 4).floor()).clamp(min=1)  # an input pixel
    centre = index.maximum(2 * stride).minimum(grid.count - 1 - 2 * stride)
    centre = torch.where(usable, centre, index)
    offsets = torch.where(usable, stride, 0)[..., None] * torch.arange(-2, 3)  # (M, D, 5)
    values = windows.evaluate(grid, list((centre[..., None] + offsets).unbind(1)))  # (M, [5,] 5, 5)
    low, high = grid.limits(index, centre, MOST_STEP * stride)
    step, value = refine(values, usable, low / stride, high / stride)
    points = grid.start + grid.step * (centre + stride * step * usable)

    has_peak &= torch.isfinite(value)
    points = torch.where(has_peak[:, None], points, math.nan)
    confidence = torch.where(has_peak, value, 0).clamp(0, 1)
    return Coordinates(points.view(batch, landmarks, -1), confidence.view(batch, landmarks))


DECODERS: dict[str, Callable[[], Decoder]] = {"auto": lambda: decode_peak, "peak": lambda: decode_peak}


def refine(values: Tensor, usable: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The step from the middle of 5^D points to the vertex of the Gaussian that fits them.

    Where too few values are positive, or what fits has no peak: the vertex of a parabola through the values
    along each axis, and no step along an axis where there is none.

    Args:
        values: (M, [5,] 5, 5).
        usable: (M, D), False for axes (x, y[, z]) too short for a fit.
        low: (M, D), how far the step may go.
        high: (M, D).

    Returns:
        The step (M, D) in points (x, y[, z]), and the value (M,) there.
    """
    dimensions = usable.shape[1]
    places = torch.cartesian_prod(*[torch.arange(-2.0, 3.0, dtype=values.dtype)] * dimensions).flip(1)
    pairs = list(itertools.combinations_with_replacement(range(dimensions), 2))
    terms = [places[:, a] * places[:, b] for a, b in pairs]
    design = torch.stack([torch.ones(len(places), dtype=values.dtype), *places.T, *terms], 1)  # (P, Q)
    first, second = zip(*pairs, strict=True)
    of_axis = torch.cat([usable.new_ones(len(values), 1), usable, usable[:, first] & usable[:, second]], 1)

    flat = values.flatten(1)
    top = flat.amax(1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    relative = (flat / top).clamp(min=0)
    logarithm = torch.where(relative > 0, relative, 1).log()
    weighted = design * relative.square()[..., None]  # (M, P, Q)
    normal = torch.where(of_axis[:, :, None] & of_axis[:, None], weighted.mT @ design, 0)
    normal = normal + torch.diag_embed((~of_axis).to(values.dtype))
    right = torch.where(of_axis, torch.einsum("mpq,mp->mq", weighted, logarithm), 0)
    factor, failed = torch.linalg.cholesky_ex(normal)
    enough = (relative > LEAST_SHARE).sum(1) >= of_axis.sum(1)
    fitted = enough & (failed == 0)
    factor = torch.where(fitted[:, None, None], factor, torch.eye(design.shape[1], dtype=values.dtype))
    coefficient = torch.cholesky_solve(right[..., None], factor)[..., 0]

    gradient = coefficient[:, 1 : 1 + dimensions]
    hessian = coefficient.new_zeros(len(values), dimensions, dimensions)
    for (a, b), bend in zip(pairs, coefficient[:, 1 + dimensions :].T, strict=True):
        hessian[:, a, b] += bend
        hessian[:, b, a] += bend
    hessian = hessian - torch.diag_embed((~usable).to(values.dtype))
    factor, failed = torch.linalg.cholesky_ex(-hessian)
    fitted &= failed == 0
    factor = torch.where(fitted[:, None, None], factor, torch.eye(dimensions, dtype=values.dtype))
    vertex = torch.cholesky_solve(gradient[..., None], factor)[..., 0]

    middle = flat.shape[1] // 2
    beside = [torch.stack([flat[:, middle - 5**a], flat[:, middle + 5**a]]) for a in range(dimensions)]
    before, after = torch.stack(beside, -1)  # (M, D) each
    bend = before + after - 2 * flat[:, middle, None]
    bends = usable & (bend < 0)
    parabola = torch.where(bends, (before - after) / 2 / torch.where(bends, bend, -1), 0)

    step = torch.where(fitted[:, None], vertex, parabola).maximum(low).minimum(high)
    log_value = coefficient[:, 0] + (gradient * step).sum(1)
    log_value = log_value + 0.5 * torch.einsum("mi,mij,mj->m", step, hessian, step)
    return step, torch.where(fitted, top[:, 0] * log_value.exp(), flat[:, middle])


@dataclass(frozen=True)
class Grid:
    """The points that are searched, in input pixels: start + step · (0 … count − 1); all (M, D) float64.

    A peak lies between `low` and `high`, the edges of the image.
    """

    start: Tensor
    step: Tensor
    count: Tensor
    low: Tensor
    high: Tensor

    @staticmethod
    def of_input(size: Tensor, batch: int) -> Grid:
        count = size.double().expand(batch, -1)
        return Grid(torch.zeros_like(count), torch.ones_like(count), count, count * 0 - 0.5, count - 0.5)

    def refined_to_original(self, affine: Tensor, original_sizes: Tensor) -> Grid:
        """The original's pixel grid on every axis where it is finer than this, the input's."""
        linear, shift = affine[:, :-1, :-1], affine[:, :-1, -1]
        scale = linear.diagonal(dim1=1, dim2=2)  # original pixels an input pixel; negative if mirrored
        diagonal = (linear - torch.diag_embed(scale)).abs().amax((1, 2)) < 1e-9
        scale = torch.where(diagonal[:, None], scale, 1)
        ends = torch.stack([-shift / scale, (original_sizes - 1 - shift) / scale]).sort(0).values
        scale = scale.abs()
        low = (ends[0] - 0.5 / scale).maximum(self.low)
        high = (ends[1] + 0.5 / scale).minimum(self.high)
        # A coarser original keeps the input's pixels, all that its own overlap.
        finer = scale >= 1
        start, step = torch.where(finer, ends[0], 0), torch.where(finer, 1 / scale, 1)
        tolerance = 1e-6
        first = torch.where(finer, (-start / step - tolerance).ceil(), (low - 0.5).ceil()).clamp(min=0)
        last = torch.where(
            finer,
            ((self.count - 1 - start) / step + tolerance).floor().minimum(original_sizes - 1),
            (high + 0.5).floor().minimum(self.count - 1),
        )
        usable = (diagonal & (last >= first).all(1))[:, None]
        return Grid(
            torch.where(usable, start + first * step, self.start),
            torch.where(usable, step, self.step),
            torch.where(usable, last - first + 1, self.count),
            torch.where(usable, low, self.low),
            torch.where(usable, high, self.high),
        )

    def repeat(self, times: int) -> Grid:
        return Grid(*(t.repeat_interleave(times, 0) for t in vars(self).values()))

    def nearest(self, points: Tensor) -> Tensor:
        return ((points - self.start) / self.step).round().clamp(min=0).minimum(self.count - 1)

    def limits(self, index: Tensor, centre: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """How far from `centre` a peak may lie: `most` around `index`, and not beyond the edge."""
        low = ((self.low - self.start) / self.step).maximum(index - most)
        high = ((self.high - self.start) / self.step).minimum(index + most)
        return low - centre, high - centre


@dataclass(frozen=True)
class Windows:
    """Windows cut from maps: values (M, [Wz,] Wy, Wx) float64, and each one's first pixel (M, D)."""

    values: Tensor
    first: Tensor

    @staticmethod
    def around(maps: Tensor, of_map: Tensor, pixels: Tensor) -> Windows:
        """Of maps (P, *S), those `of_map` (M,), around `pixels` (M, D); shifted inside at the borders."""
        size = torch.tensor(maps.shape[:0:-1])
        width = size.clamp(max=2 * HALO + 1)
        first = (pixels - HALO).clamp(min=0).minimum(size - width)
        axes = [first[:, axis, None] + torch.arange(int(width[axis])) for axis in range(len(size))]
        return Windows(gather(maps, of_map, axes).cpu().double(), first)

    def __getitem__(self, chosen: Tensor) -> Windows:
        return Windows(self.values[chosen], self.first[chosen])

    def evaluate(self, grid: Grid, indices: Sequence[Tensor]) -> Tensor:
        """The spline at the grid points with `indices`, (M, T) for each axis: (M, [Tz,] Ty, Tx)."""
        values = self.values
        for axis, index in enumerate(indices):
            position = grid.start[:, axis, None] + grid.step[:, axis, None] * index
            rows = spline_rows(values.shape[-1], position - self.first[:, axis, None])
            values = torch.einsum("m...w,mtw->mt...", values, rows)
        return values

    def highest(self, grid: Grid, around: Tensor, reach: Tensor, stride: Tensor) -> tuple[Tensor, Tensor]:
        """The highest of the grid points around + stride · (−reach … reach); its index (M, D), its value."""
        steps = torch.arange(-int(reach.max()), int(reach.max()) + 1)
        # Whoever reaches less far looks at its last points again.
        offsets = stride[..., None] * steps.maximum(-reach[..., None]).minimum(reach[..., None])  # (M, D, T)
        indices = (around[..., None] + offsets).clamp(min=0).minimum(grid.count[..., None] - 1)
        values = self.evaluate(grid, list(indices.unbind(1)))
        value, flat = values.flatten(1).max(1)
        chosen = torch.stack(torch.unravel_index(flat, values.shape[1:])[::-1], -1)  # (M, D)
        return indices.gather(2, chosen[..., None])[..., 0], value


def candidates(maps: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The highest local maxima of maps (N, *S), between the pixels `low` and `high` (D,) (x, y[, z]).

    Returns:
        Their pixels (N, K, D), highest first, and whether each map has a peak (N,).
    """
    inside = [slice(a, b + 1) for a, b in zip(low.tolist(), high.tolist(), strict=True)][::-1]
    box = (slice(None), *inside)
    maps = maps[box]
    size = torch.tensor(maps.shape[:0:-1])
    side = size.clamp(max=BLOCK)
    top = maps
    for axis in range(1, maps.ndim):
        top = block_maxima(top, axis)
    blocks = top.shape[1:]
    top, order = top.flatten(1).topk(min(BLOCKS, blocks.numel()))  # (N, BLOCKS)
    of_map = torch.arange(len(maps)).repeat_interleave(top.shape[1])
    first = torch.stack(torch.unravel_index(order.flatten().cpu(), blocks)[::-1], -1)
    first = (first * side).minimum(size - side)  # (N · BLOCKS, D)
    axes = [first[:, axis, None] + torch.arange(int(side[axis])) for axis in range(len(size))]
    inside_block = gather(maps, of_map, axes)
    position = torch.unravel_index(inside_block.flatten(1).argmax(1).cpu(), inside_block.shape[1:])
    pixels = first + torch.stack(position[::-1], -1)

    has_peak = torch.isfinite(top[:, 0]) & (top[:, 0] > 0)
    flat = top[:, 0] == top[:, -1]  # perhaps
    if flat.any():
        has_peak[flat] &= maps[flat].flatten(1).amin(1) < top[flat, 0]

    around = (pixels[..., None] + torch.arange(-1, 2)).clamp(min=0).minimum(size[:, None] - 1)
    neighbours = gather(maps, of_map, list(around.unbind(1))).flatten(1).amax(1).view_as(top)
    score = torch.where(top >= neighbours, top, -math.inf)
    score, order = score.topk(min(CANDIDATES, top.shape[1]))
    # The highest pixel is a local maximum: it stands in for those that are not.
    order = torch.where(score > -math.inf, order, order[:, :1]).cpu()
    pixels = pixels.view(*top.shape, -1).gather(1, order[..., None].expand(-1, -1, len(size)))
    return pixels + low, has_peak.cpu()


def block_maxima(maps: Tensor, axis: int) -> Tensor:
    """The maxima of every BLOCK pixels along `axis`; the last block ends where the map does."""
    side = maps.shape[axis]
    block = min(BLOCK, side)
    whole = side // block * block
    shape = (*maps.shape[:axis], -1, block, *maps.shape[axis + 1 :])
    maxima = maps.narrow(axis, 0, whole).reshape(shape).amax(axis + 1)
    if whole < side:
        last = maps.narrow(axis, side - block, block).amax(axis, keepdim=True)
        maxima = torch.cat([maxima, last], axis)
    return maxima


def gather(maps: Tensor, of_map: Tensor, axes: Sequence[Tensor]) -> Tensor:
    """Boxes (M, [Wz,] Wy, Wx) of maps (P, *S): of the maps `of_map` (M,), pixels (M, W) along x, y[, z]."""
    dimensions = len(axes)
    index = [of_map.reshape(-1, *[1] * dimensions)]
    index += [
        pixels.reshape(-1, *[1] * (dimensions - 1 - axis), pixels.shape[1], *[1] * axis)
        for axis, pixels in reversed(list(enumerate(axes)))
    ]
    return maps[tuple(i.to(maps.device) for i in index)]


def spline_rows(width: int, positions: Tensor) -> Tensor:
    """Rows (M, T, W) so that row · samples is the interpolating spline of W samples at `positions` (M, T)."""
    pieces = spline_pieces(width)
    piece = positions.floor().clamp(0, len(pieces) - 1)
    powers = (positions - piece)[..., None] ** torch.arange(pieces.shape[1])  # (M, T, 4)
    return torch.einsum("mtk,mtkw->mtw", powers, pieces[piece.long()])


@lru_cache
def spline_pieces(width: int) -> Tensor:
    """Coefficients (W − 1, 4, W) of the spline's polynomials between 0 … W − 1, for each unit impulse."""
    import numpy as np
    from scipy.interpolate import make_interp_spline

    degree = min(3, width - 1)
    spline = make_interp_spline(np.arange(width), np.eye(width), k=degree)
    left = np.arange(max(width - 1, 1))
    coefficients = [spline(left, nu=power) / math.factorial(power) for power in range(degree + 1)]
    return torch.from_numpy(np.stack(coefficients, axis=1))


def _pad(pixels: Tensor, most: int) -> Tensor:
    """Candidates (N, K, D) to (N, most, D), the first one again and again."""
    return torch.cat([pixels, pixels[:, :1].expand(-1, most - pixels.shape[1], -1)], 1)
