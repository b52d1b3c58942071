"""The highest peak of a map, to the pixel of a grid.

The grid is the input's, or for `scale_heatmap_first` the original image's, on which the map is its
interpolating cubic spline (not-a-knot). The spline is never evaluated on the whole grid. Its support is
effectively local, as a sample's weight falls by a factor of 0.27 per pixel. So for each of the highest local
maxima of the map, the spline of a small window is evaluated at the grid's points near it.

- Only original pixels between the outermost pixel centres of the map are searched: a cubic must not
  extrapolate noise. The vertex may lie up to the edge of the image.
- On an axis where the original is coarser than the input, the input's grid is used: skipping pixels would
gain
  nothing.
- An affine that rotates or shears has no common grid: such samples are decoded on the input's grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.interpolate import make_interp_spline  # not below: a trial's first validation would load it
from torch import Tensor

from lannunet_core import Coordinates, EvaluationMode, Floats

BLOCK = 4  # pixels per side; of two local maxima this close only the higher one is a candidate
BLOCKS = 64  # highest blocks of a map whose highest pixel is inspected
CANDIDATES = 8  # highest local maxima of a map whose spline is evaluated
REACH = 1.5  # input pixels between a local maximum of the map and the spline's
HALO = 9  # input pixels on either side that a window's spline uses
MASS_STEPS = 12
LEAST_SIDE = 5  # pixels; a shorter axis is not refined


@dataclass(frozen=True)
class Peaks:
    """The highest peak of each of M = B · N maps.

    Attributes:
        maps: (M, *S).
        windows: Windows of the maps around the peaks.
        grid: Points that were searched.
        index: (M, D), the highest point, as index of the grid.
        value: (M,), the spline's value there.
        has_peak: (M,), False where a map is flat, has no positive value or is not finite.
        landmarks: N.
    """

    maps: Tensor
    windows: Crops
    grid: Grid
    index: Tensor
    value: Tensor
    has_peak: Tensor
    landmarks: int

    @property
    def points(self) -> Tensor:
        """(M, D) in input pixels."""
        return self.grid.start + self.grid.step * self.index

    @property
    def usable(self) -> Tensor:
        """(M, D), False for axes too short to refine along."""
        return self.grid.count >= LEAST_SIDE

    @property
    def stride(self) -> Tensor:
        """(M, D), the points of the grid per input pixel, limited by the axis."""
        return (1 / self.grid.step).round().minimum(((self.grid.count - 1) / 4).floor()).clamp(min=1)

    def wider(self, halo: int) -> Crops:
        of_map = torch.arange(len(self.maps))
        return Crops.around(self.maps, of_map, self.points.round().long(), halo)

    def coordinates(self, points: Tensor, value: Tensor) -> Coordinates:
        """Points (M, D) and values (M,) as the hook returns them: NaN and 0 if there is no peak."""
        has_peak = self.has_peak & torch.isfinite(value)
        points = torch.where(has_peak[:, None], points, math.nan)
        confidence = torch.where(has_peak, value, 0).clamp(0, 1)
        return Coordinates(
            points.view(-1, self.landmarks, points.shape[1]), confidence.view(-1, self.landmarks)
        )


def locate(heatmaps: Any, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode) -> Peaks:
    """The highest point of the grid in each map; see `decode.decode_peak` for the arguments."""
    maps = finest(heatmaps)
    landmarks = maps.shape[1]
    grid = Grid.searched(maps, affine, original_sizes, evaluation_mode)
    found = [candidates(m, *box) for m, box in zip(maps, grid.pixels(), strict=True)]
    most = max(pixels.shape[1] for pixels, _ in found)
    pixels = torch.stack([_pad(p, most) for p, _ in found]).flatten(0, 1)  # (M = B · N, K, D)
    has_peak = torch.stack([peak for _, peak in found]).flatten()
    return highest_of(maps.flatten(0, 1), grid.repeat(landmarks), pixels, has_peak, landmarks)


def highest_of(
    maps: Tensor,
    grid: Grid,
    pixels: Tensor,
    has_peak: Tensor,
    landmarks: int,
    most: tuple[int, int] | None = None,
) -> Peaks:
    """The highest point of the grid near candidates of each map.

    Args:
        maps: (M, *S).
        grid: Grid of M maps.
        pixels: (M, K, D), the candidates.
        has_peak: (M,).
        landmarks: N.
        most: Reaches of the two searches in points; None: as needed for the grid.
    """
    # Each candidate: its window of the map, and the highest grid point within reach.
    count, candidates_each = pixels.shape[:2]
    of_map = torch.arange(count).repeat_interleave(candidates_each)
    windows = Crops.around(maps, of_map, pixels.flatten(0, 1))
    of_candidate = grid.repeat(candidates_each)
    coarse = (1 / of_candidate.step / 3).floor().clamp(min=1)  # at least three points per input pixel
    reach = (REACH / of_candidate.step / coarse).ceil()
    first, second = most or (None, None)
    nearest = of_candidate.nearest(pixels.flatten(0, 1))
    index, value = windows.highest(of_candidate, nearest, reach, coarse, first)

    # The map's highest candidate: every grid point near it, as the first search skips points.
    best = value.view(-1, candidates_each).argmax(1) + torch.arange(count) * candidates_each
    windows, index, coarse = windows[best], index[best], coarse[best]
    index, value = windows.highest(grid, index, coarse - 1, torch.ones_like(coarse), second)
    return Peaks(maps, windows, grid, index, value, has_peak, landmarks)


def finest(heatmaps: Any) -> Tensor:
    """The maps (B, N, *S): the tensor itself, or the first of a list."""
    maps: Tensor = heatmaps if isinstance(heatmaps, Tensor) else heatmaps[0]
    return maps.detach()


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
    def searched(
        maps: Tensor, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
    ) -> Grid:
        """The grid of each sample with maps (B, N, *S)."""
        grid = Grid.of_input(torch.tensor(maps.shape[:1:-1]), len(maps))
        if evaluation_mode == "scale_heatmap_first":
            grid = grid.refined_to_original(affine.cpu(), original_sizes.cpu())
        return grid

    @staticmethod
    def of_input(size: Tensor, batch: int) -> Grid:
        count = size.double().expand(batch, -1)
        return Grid(torch.zeros_like(count), torch.ones_like(count), count, count * 0 - 0.5, count - 0.5)

    def refined_to_original(self, affine: Tensor, original_sizes: Tensor) -> Grid:
        """The original's pixel grid on every axis where it is finer than this grid, the input's."""
        linear, shift = affine[:, :-1, :-1], affine[:, :-1, -1]
        scale = linear.diagonal(dim1=1, dim2=2)  # original pixels per input pixel; negative if mirrored
        diagonal = (linear - torch.diag_embed(scale)).abs().amax((1, 2)) < 1e-9
        scale = torch.where(diagonal[:, None], scale, 1)
        ends = torch.stack([-shift / scale, (original_sizes - 1 - shift) / scale]).sort(0).values
        scale = scale.abs()
        low = (ends[0] - 0.5 / scale).maximum(self.low)
        high = (ends[1] + 0.5 / scale).minimum(self.high)
        # A coarser original keeps the input's pixels, all that its own pixels overlap.
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

    def pixels(self) -> list[tuple[Tensor, Tensor]]:
        """For each sample the first and last pixel (D,) of its points."""
        last = self.start + self.step * (self.count - 1)
        return list(zip(self.start.floor().long(), last.ceil().long(), strict=True))

    def repeat(self, times: int) -> Grid:
        return Grid(*(t.repeat_interleave(times, 0) for t in vars(self).values()))

    def nearest(self, points: Tensor) -> Tensor:
        return ((points - self.start) / self.step).round().clamp(min=0).minimum(self.count - 1)

    def limits(self, index: Tensor, centre: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """The range of a peak relative to `centre`: within `most` of `index`, and not beyond the edge."""
        low = ((self.low - self.start) / self.step).maximum(index - most)
        high = ((self.high - self.start) / self.step).minimum(index + most)
        return low - centre, high - centre


@dataclass(frozen=True)
class Crops:
    """Windows cut from maps: values (M, [Wz,] Wy, Wx) float64, and each one's first pixel (M, D)."""

    values: Tensor
    first: Tensor

    @staticmethod
    def around(maps: Tensor, of_map: Tensor, pixels: Tensor, halo: int = HALO) -> Crops:
        """Windows of the maps `of_map` (M,) among maps (P, *S), around `pixels` (M, D); shifted inside at
        borders."""
        size = maps.shape[:0:-1]
        width = [min(side, 2 * halo + 1) for side in size]
        first = (pixels - halo).clamp(min=0).minimum(last_pixel(maps) + 1 - torch.tensor(width))
        axes = [first[:, axis, None] + torch.arange(side) for axis, side in enumerate(width)]
        return Crops(gather(maps, of_map, axes).cpu().double(), first)

    def __getitem__(self, chosen: Tensor) -> Crops:
        return Crops(self.values[chosen], self.first[chosen])

    def blurred(self, sigma: Tensor) -> Crops:
        """Blur with Gaussians of these widths (M, D) (x, y[, z])."""
        values = self.values
        for axis in range(self.first.shape[1]):
            place = torch.arange(values.shape[-1], dtype=values.dtype)
            kernel = torch.exp(
                -0.5 * ((place[:, None] - place) / sigma[:, axis, None, None]) ** 2
            )  # (M, W, W)
            values = torch.einsum("m...w,mtw->mt...", values, kernel / kernel.sum(-1, keepdim=True))
        return Crops(values, self.first)

    def evaluate(self, grid: Grid, indices: Sequence[Tensor]) -> Tensor:
        """The spline at the grid points with `indices`, (M, T) for each axis: (M, [Tz,] Ty, Tx)."""
        values = self.values
        for axis, index in enumerate(indices):
            position = grid.start[:, axis, None] + grid.step[:, axis, None] * index
            rows = spline_rows(values.shape[-1], position - self.first[:, axis, None])
            values = torch.einsum("m...w,mtw->mt...", values, rows)
        return values

    def highest(
        self, grid: Grid, around: Tensor, reach: Tensor, stride: Tensor, most: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The highest of the grid points around + stride · (−reach … reach): its index (M, D), and its value.

        No reach exceeds `most`; if it is None, the largest reach is used.
        """
        most = int(reach.max()) if most is None else most
        steps = torch.arange(-most, most + 1)
        # A point with a smaller reach evaluates its last points again.
        offsets = stride[..., None] * steps.maximum(-reach[..., None]).minimum(reach[..., None])  # (M, D, T)
        indices = (around[..., None] + offsets).clamp(min=0).minimum(grid.count[..., None] - 1)
        values = self.evaluate(grid, list(indices.unbind(1)))
        value, flat = values.flatten(1).max(1)
        sides = [2 * most + 1] * around.shape[1]
        chosen = torch.stack(torch.unravel_index(flat, sides)[::-1], -1)  # (M, D)
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
    # The highest pixel is a local maximum: it replaces candidates that are not.
    order = torch.where(score > -math.inf, order, order[:, :1]).cpu()
    pixels = pixels.view(*top.shape, -1).gather(1, order[..., None].expand(-1, -1, len(size)))
    return pixels + low, has_peak.cpu()


def widths(values: Tensor, height: Tensor) -> Tensor:
    """The approximate width (sigma, in pixels) of peaks with height (M,) in windows (M, *W), from the
    half-maximum.

    A Gaussian exceeds half its height within sqrt(2 ln 2) sigma. Axes too short to refine are ignored.
    """
    long = [axis for axis in range(1, values.ndim) if values.shape[axis] >= LEAST_SIDE]
    short = [axis for axis in range(1, values.ndim) if axis not in long]
    if short:
        values = values.amax(short)
    pixels = (values.flatten(1) >= height[:, None] / 2).sum(1).clamp(min=1)
    ball = {0: 1.0, 1: 2.0, 2: math.pi, 3: 4 / 3 * math.pi}[len(long)]
    return (pixels / ball) ** (1 / max(len(long), 1)) / math.sqrt(2 * math.log(2))


def centre_of_mass(
    values: Tensor, start: Tensor, sigma: Tensor, usable: Tensor, steps: int = MASS_STEPS
) -> Tensor:
    """The centre of a Gaussian window that equals the mean of the positive values under it.

    The window follows the mean, as a fixed window would bias the mean towards itself. For a Gaussian peak as
    wide as the window, half of the distance remains after each step, hence steps of twice the length; these
    converge for any other width too.

    Args:
        values: (M, [Wz,] Wy, Wx).
        start: (M, D) in pixels of the window.
        sigma: (M,), the width of the Gaussian window.
        usable: (M, D), False for axes (x, y[, z]) along which the start is kept.
        steps: Number of steps; four leave a sixteenth of the distance.

    Returns:
        (M, D) in pixels of the window.
    """
    values = values.clamp(min=0)
    dimensions = start.shape[1]
    places = [torch.arange(w, dtype=values.dtype, device=values.device) for w in values.shape[:0:-1]]
    reach = 2 * sigma[:, None]
    middle = start
    for _ in range(steps):
        # Distances along each axis, and the window.
        away = [place - middle[:, axis, None] for axis, place in enumerate(places)]
        window = [torch.exp(-0.5 * (a / sigma[:, None]) ** 2) for a in away]
        mean = []
        for moment in (None, *range(dimensions)):
            mass = values
            for axis in range(dimensions):  # x is the last remaining axis
                line = window[axis] * away[axis] if axis == moment else window[axis]
                mass = torch.einsum("m...w,mw->m...", mass, line)
            mean.append(mass)
        step = torch.stack(mean[1:], 1) / mean[0].clamp(min=torch.finfo(values.dtype).tiny)[:, None]
        middle = torch.where(usable, middle + 2 * step, start).maximum(start - reach).minimum(start + reach)
    return middle


def block_maxima(maps: Tensor, axis: int) -> Tensor:
    """The maxima of every BLOCK pixels along `axis`; the last block ends at the end of the map."""
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
    """Boxes (M, [Wz,] Wy, Wx) of the maps `of_map` (M,) among maps (P, *S), at pixels (M, W) along x, y[,
    z]."""
    dimensions = len(axes)
    index = [of_map.reshape(-1, *[1] * dimensions)]
    index += [
        pixels.reshape(-1, *[1] * (dimensions - 1 - axis), pixels.shape[1], *[1] * axis)
        for axis, pixels in reversed(list(enumerate(axes)))
    ]
    return maps[tuple(i.to(maps.device) for i in index)]


def last_pixel(maps: Tensor) -> Tensor:
    """(D,) the last pixel (x, y[, z]) of maps (M, *S); in a recorded graph it depends on the input."""
    return torch.stack([torch.arange(side)[-1] for side in maps.shape[:0:-1]])


def spline_rows(width: int, positions: Tensor) -> Tensor:
    """Rows (M, T, W) so that row · samples is the interpolating spline of W samples at `positions` (M, T)."""
    pieces = torch.from_numpy(spline_pieces(int(width)))  # tensors are not cached: an export's are symbolic
    piece = positions.floor().clamp(0, len(pieces) - 1)
    powers = (positions - piece)[..., None] ** torch.arange(pieces.shape[1])  # (M, T, 4)
    return torch.einsum("mtk,mtkw->mtw", powers, pieces[piece.long()])


@lru_cache
def spline_pieces(width: int) -> Floats:
    """Coefficients (W − 1, 4, W) of the spline's polynomials between 0 … W − 1, for each unit impulse."""
    degree = min(3, width - 1)
    spline = make_interp_spline(np.arange(width), np.eye(width), k=degree)
    left = np.arange(max(width - 1, 1))
    coefficients = [spline(left, nu=power) / math.factorial(power) for power in range(degree + 1)]
    return np.stack(coefficients, axis=1)


def _pad(pixels: Tensor, most: int) -> Tensor:
    """Candidates (N, K, D) padded to (N, most, D) with the first one."""
    return torch.cat([pixels, pixels[:, :1].expand(-1, most - pixels.shape[1], -1)], 1)
