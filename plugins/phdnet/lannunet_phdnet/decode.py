"""From activated outputs to coordinates: candidate smoothing (Schobs et al., ISBI 2021).

Each patch votes with a small Gaussian at its centre + displacement. The sum of a landmark's votes, multiplied
by its bilinearly upsampled heatmap, is its map; the map's peak is the landmark, and the value there its
confidence. Without the heatmap branch, the map consists of the votes only. Without displacements, it is the
heatmap, and the peak is the vertex of a parabola through logarithms, which is exact for a Gaussian.

The map is never computed as a whole: at 512² with 19 landmarks it has five million pixels with up to 4096
votes each. It is searched by branch and bound. The number of votes around a patch gives an upper bound for
the map within the patch. If this exceeds the best value so far, the numbers of votes in each quarter around
give a tighter bound. Only the remaining patches are evaluated point by point. Votes from beyond the
neighbouring patches, at least five widths of a vote away, are left out.

The map is a function of continuous coordinates, and its peak is refined between pixels: all evaluation modes
return the same point, but `scale_heatmap_first` searches only the area of the original image.

Shapes: M maps (B · N), D dimensions, P patches per axis ([z,] y, x), V patches in total, R evaluated regions,
each a patch in a map; K votes near a region; T points along an axis. Positions ("places") are (x, y[, z]) in
patches: patch i covers i − ½ … i + ½ of an axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lannunet_core import Coordinates, EvaluationMode

BLOB = 0.2  # width of a vote
TAIL = math.exp(-0.5 / BLOB**2)  # value of a vote at a distance of one patch
QUARTERS = 4  # parts of a patch along an axis, for bounds
POINTS = 8  # evaluated points of a patch along an axis
SPACING = 0.5 / POINTS  # distance of the points of a parabola
STEPS = 2  # iterations of the refinement
NUMBERS = 2**18  # approximate size of the largest array of regions, which fits the processor's cache
MOST = 2**22  # approximate size of any array of maps
FAR = 1e6  # position of votes that are not finite


def decode(
    maps: Mapping[str, Tensor],
    affine: Tensor,
    original_sizes: Tensor,
    evaluation_mode: EvaluationMode,
    patch_size: int,
    every_patch_votes: bool = False,
) -> Coordinates:
    """Coordinates from the network's outputs after the loss's `activation`.

    Args:
        maps: `heatmap` (B, N, *P) and `displacement` (B, N · D, *P) in pixels, or one of them.
        affine: (B, D + 1, D + 1) from input pixels to original pixels.
        original_sizes: (B, D), (x, y[, z]).
        evaluation_mode: See above.
        patch_size: Pixels per side.
        every_patch_votes: Whether displacements of all patches were trained, not only those near a landmark.

    Returns:
        Points in input pixels, and as confidence the value of the peak: votes as a share of the expected
        votes, at most 1, times the heatmap. NaN and 0 for a map without a peak.
    """
    batch, dimensions = original_sizes.shape
    heatmap = maps["heatmap"].flatten(0, 1) if "heatmap" in maps else None
    if "displacement" in maps:
        displacement = maps["displacement"] / patch_size
        displacement = displacement.reshape(-1, dimensions, *displacement.shape[2:])  # (M, D, *P)
        landmarks, patches = len(displacement) // batch, math.prod(displacement.shape[2:])
        covered = None
        if evaluation_mode == "scale_heatmap_first":
            to_original = (affine @ to_pixels(patch_size, affine)).repeat_interleave(landmarks, 0)
            sizes = original_sizes.repeat_interleave(landmarks, 0)
            covered = Region(to_original.to(displacement), sizes.to(displacement))
        places, votes, certain = smooth_candidates(displacement, heatmap, covered)
        nearby = min(
            (2 * math.pi) ** (dimensions / 2), patches
        )  # patches with weight in the narrowest Gaussian
        if every_patch_votes:
            share = votes / patches
        elif heatmap is None:
            share = votes / (votes + nearby)  # there is no heatmap to lower the confidence
        else:
            share = votes / nearby
        confidence = certain * share.clamp(max=1)
    else:
        assert heatmap is not None
        landmarks = len(heatmap) // batch
        places, confidence = heatmap_peaks(heatmap)
    points = (places + 0.5) * patch_size - 0.5
    return Coordinates(points.view(batch, landmarks, -1), confidence.view(batch, landmarks))


def to_pixels(patch_size: int, like: Tensor) -> Tensor:
    """The matrix (D + 1, D + 1) from patches to pixels."""
    matrix = patch_size * torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)
    matrix[:-1, -1] = (patch_size - 1) / 2
    matrix[-1, -1] = 1
    return matrix


def heatmap_peaks(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """The places (M, D) of the peaks of maps (M, *P), and the values there, within 0 … 1."""
    flat = heatmap.flatten(1)
    height, index = flat.max(1)
    has_peak = torch.isfinite(flat).all(1) & (height > 0) & (flat.amin(1) < height)
    highest = torch.stack(torch.unravel_index(index, heatmap.shape[1:])[::-1], -1)  # (M, D)
    places = highest.to(heatmap.dtype)
    sides = heatmap.shape[:0:-1]
    bends: list[Tensor] = []
    for axis in sorted(range(len(sides)), key=lambda axis: sides[axis] < 3):
        line = line_through(heatmap, highest, axis)  # (M, P_axis)
        middle = places.new_full((len(line),), 0.5)
        if sides[axis] >= 3:  # at a border, the parabola is fitted to the three outermost patches
            centre = highest[:, axis].clamp(1, sides[axis] - 2)
            slope, bend = log_parabola(*line.gather(1, centre[:, None] + torch.arange(-1, 2).to(centre)).T)
            middle = centre.to(places)
            bends.append(bend)
        elif sides[axis] == 2 and bends:  # two patches do not determine the width; that of other axes is used
            slope = line.clamp(min=torch.finfo(line.dtype).tiny).log().diff()[:, 0]
            bend = torch.stack(bends).nanmean(0)
        else:
            continue
        offset = (middle - highest[:, axis] - slope / bend).clamp(-0.5, 0.5)
        places[:, axis] += offset.nan_to_num(0)
        height = height * (-0.5 * bend * offset**2).nan_to_num(0).exp()
    places = torch.where(has_peak[:, None], places, math.nan)
    return places, torch.where(has_peak, height, 0).clamp(0, 1)


def line_through(maps: Tensor, at: Tensor, axis: int) -> Tensor:
    """The values (M, P_axis) of maps (M, *P) along an axis (0 is x) through patches (M, D)."""
    patch = list(at[..., None].unbind(1))
    patch[axis] = torch.arange(maps.shape[-1 - axis], device=maps.device)
    index = (torch.arange(len(maps), device=maps.device)[:, None], *patch[::-1])
    return maps[index]


def log_parabola(before: Tensor, centre: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and curvature at the middle of the parabola through three logarithms; NaN if it has no peak."""
    tiny = torch.finfo(centre.dtype).tiny
    first, second, third = (value.clamp(min=tiny).log() for value in (before, centre, after))
    slope, bend = (third - first) / 2, first - 2 * second + third
    peaked = (before > 0) & (centre > 0) & (after > 0) & (bend < 0)
    return torch.where(peaked, slope, math.nan), torch.where(peaked, bend, math.nan)


def smooth_candidates(
    displacement: Tensor, heatmap: Tensor | None, covered: Region | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The peaks of votes · heatmap.

    Args:
        displacement: (M, D, *P) in patches.
        heatmap: (M, *P); None: 1 everywhere.
        covered: The area to search; None: all patches.

    Returns:
        Places (M, D), and the votes and the heatmap there (M,). NaN and 0 for a map without a peak.
    """
    maps, dimensions, *patches = displacement.shape
    found = [
        find_peaks(
            displacement[part],
            None if heatmap is None else heatmap[part],
            None if covered is None else covered[part],
        )
        for part in chunks(maps, MOST // (math.prod(patches) * QUARTERS**dimensions))
    ]
    place, votes, certain = (torch.cat(parts) for parts in zip(*found, strict=True))
    # If all displacements are equal, each patch votes for a different place.
    flat = displacement.flatten(2)
    has_peak = (votes * certain > 0) & ((flat.amin(2) < flat.amax(2)).any(1) | (flat.shape[2] == 1))
    if heatmap is not None:
        has_peak &= torch.isfinite(heatmap).flatten(1).all(1)
    place = torch.where(has_peak[:, None], place, math.nan)
    return place, torch.where(has_peak, votes, 0), torch.where(has_peak, certain, 0)


def find_peaks(
    displacement: Tensor, heatmap: Tensor | None, covered: Region | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The places of the maps' peaks (M, D), and the votes and the heatmap there (M,)."""
    candidates = Candidates(displacement, heatmap, covered)
    place, _ = candidates.peaks()
    return candidates.uphill(place)


def first_highest(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """The index (G,) of the first maximum in each group of values (K,) with groups (K,), none empty."""
    top = values.new_full((groups,), -math.inf).scatter_reduce(0, group, values, "amax")
    index = torch.arange(len(values), device=values.device)
    index = torch.where(values == top[group], index, len(values))
    return torch.full_like(index[:groups], len(values)).scatter_reduce(0, group, index, "amin")


class Region:
    """The area of the original image.

    Args:
        affine: (M, D + 1, D + 1) from places to original pixels.
        size: (M, D), size of the original image.
    """

    def __init__(self, affine: Tensor, size: Tensor) -> None:
        self.affine = affine
        self.size = size

    def __getitem__(self, maps: slice) -> Region:
        return Region(self.affine[maps], self.size[maps])

    def covers(self, of_map: Tensor, centre: Tensor, offsets: Tensor) -> Tensor:
        """Whether centres (R, D) + offsets (T,) along each axis are in the area: (R, [Tz,] Ty, Tx)."""
        dimensions = centre.shape[1]
        along = [centre[:, axis, None] + offsets for axis in range(dimensions)]
        points = [len(centre), *[len(offsets)] * dimensions]
        places = torch.stack([values.expand(points) for values in spread(along)], -1)
        matrix = self.affine[of_map]
        pixels = places.flatten(1, -2) @ matrix[:, :-1, :-1].mT + matrix[:, None, :-1, -1]
        tolerance = 1e-3  # for rounding errors
        inside = (pixels > -0.5 - tolerance) & (pixels < self.size[of_map][:, None] - 0.5 + tolerance)
        return inside.all(-1).view(places.shape[:-1])


def spread(along: Sequence[Tensor]) -> list[Tensor]:
    """Reshape (R, T) along x, y[, z] to (R, [Tz,] Ty, Tx), with 1 for the other axes, for broadcasting."""
    axes = len(along)
    return [
        values.reshape(len(values), *[1] * (axes - 1 - axis), -1, *[1] * axis)
        for axis, values in enumerate(along)
    ]


def count_in_cells(along: Tensor, sides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Count votes (M, D, V) in the cells of grids *sides ([z,] y, x); cells of all maps have one flat index.

    Returns:
        The cell of each vote (M · V,), one past the last for votes in no cell, and the votes per cell.
    """
    cell = torch.arange(len(along), device=along.device)[:, None]
    inside = torch.ones_like(along[:, 0], dtype=torch.bool)
    for axis, side in zip(reversed(range(len(sides))), sides, strict=True):  # [z,] y, x
        cell = cell * side + along[:, axis]
        inside &= (along[:, axis] >= 0) & (along[:, axis] < side)
    total = len(along) * math.prod(sides)
    cell = torch.where(inside, cell, total).flatten()
    count = torch.zeros(total + 1, device=along.device)
    return cell, count.index_add_(0, cell, count.new_ones(1).expand(len(cell)))[:-1]


def over_neighbours(values: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine the 3^D values around each patch: (M, *P + 2) → (M, *P)."""
    for axis in range(1, values.ndim):
        length = values.shape[axis] - 2
        first, second, third = (values.narrow(axis, start, length) for start in range(3))
        values = combine(combine(first, second), third)
    return values


def chunks(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, max(size, 1)):
        yield slice(start, start + max(size, 1))


def heatmap_at(around: Tensor, places: Sequence[Tensor]) -> Tensor:
    """Heatmaps, interpolated linearly between patch centres.

    Args:
        around: (R, *3), values of a patch and its neighbours.
        places: (R, T) or (T,) along x, y[, z], relative to the patch's centre, within ± 1.

    Returns:
        (R, [Tz,] Ty, Tx).
    """
    for along in places:
        weight = (1 - (along[..., None] - torch.arange(-1, 2, device=along.device)).abs()).clamp(min=0)
        # The last axis becomes the first.
        around = torch.einsum("tn,r...n->rt..." if along.ndim == 1 else "rtn,r...n->rt...", weight, around)
    return around


class Near(NamedTuple):
    """The votes around some patches.

    Attributes:
        of_map: (R,).
        patch: (R, D).
        votes: Votes in the 3^D patches around, (R, K) along x, y[, z], relative to the patch's centre.
        missing: (R, K), the padding of patches with fewer votes than others.
    """

    of_map: Tensor
    patch: Tensor
    votes: list[Tensor]
    missing: Tensor


def votes_at(near: Near, places: Tensor, offsets: Tensor) -> Tensor:
    """The sum of the votes at places + offsets along each axis: (R, [Tz,] Ty, Tx).

    Args:
        near: The votes.
        places: (R, D), relative to the centres of the patches.
        offsets: (T,).
    """
    # exp(−(v − o)² / 2) = exp(−v² / 2) · exp(v · o) · exp(−o² / 2), with v from the place to a vote and o to
    # a point, in widths.
    step = offsets / BLOB
    square = torch.zeros_like(near.votes[0])
    factors = []
    for axis, along in enumerate(near.votes):
        vote = ((along - places[:, axis, None]) / BLOB).masked_fill_(near.missing, 0)
        square += vote.square()
        factors.append((step[:, None] * vote[:, None]).exp_())  # (R, T, K)
    alone = square.mul_(-0.5).exp_().masked_fill_(near.missing, 0)
    product = factors.pop().mul_(alone[:, None])
    while len(factors) > 1:
        product = (product[:, :, None] * factors.pop()[:, None]).flatten(1, 2)
    values = (product @ factors.pop().mT).view(len(places), *[len(offsets)] * places.shape[1])
    alone = step.square().mul_(-0.5).exp_()
    for axis in range(places.shape[1]):
        values = values * alone.reshape(-1, *[1] * axis)
    return values


class Candidates:
    """The votes of all patches, sorted by the patch that contains them, and the heatmaps.

    Args:
        displacement: (M, D, *P).
        heatmap: (M, *P) or None.
        covered: The area outside of which the map is 0; None: unlimited.
    """

    def __init__(self, displacement: Tensor, heatmap: Tensor | None, covered: Region | None) -> None:
        self.heatmap: Tensor | None = None  # (M, *P + 2), with a ring of copies
        if heatmap is not None:
            ring = (1, 1) * (heatmap.ndim - 1)
            heatmap = torch.nan_to_num(heatmap).clamp(min=0)
            self.heatmap = functional.pad(heatmap[:, None], ring, mode="replicate")[:, 0]
        self.covered = covered
        self.shape = displacement.shape[2:]  # *P
        self.dimensions = len(self.shape)
        sides = [torch.arange(side).to(displacement) for side in self.shape]
        centres = torch.stack(torch.meshgrid(*sides, indexing="ij")[::-1])
        votes = torch.nan_to_num(displacement + centres, nan=FAR).clamp(-FAR, FAR).flatten(2)
        self.votes = votes  # (M, D, V)

        # Cells are the patches and a ring around them, for votes just outside.
        self.cells = [side + 2 for side in self.shape]
        cell, self.counts = count_in_cells((votes + 1.5).floor().long(), self.cells)
        # The number of sorted votes before those of each cell.
        self.before = functional.pad(self.counts.long().cumsum(0), (1, 0))
        order = cell.int().sort(stable=True).indices
        self.sorted = [votes[:, axis].flatten()[order] for axis in range(self.dimensions)]

        quarters = [QUARTERS * side for side in self.cells]
        _, counts = count_in_cells(((votes + 1.5) * QUARTERS).floor().long(), quarters)
        self.quarter_counts = counts.view(-1, *quarters)

    def peaks(self) -> tuple[Tensor, Tensor]:
        """The highest points: places (M, D) and the maps there (M,)."""
        maps = torch.arange(len(self.votes), device=self.votes.device)
        bounds = self.bounds()
        place, height = self.near_mode(bounds.argmax(1))
        of_map, patch = (bounds > height[:, None]).nonzero(as_tuple=True)
        promising = self.tight_bounds(of_map, patch) > height[of_map]
        of_map, patch = of_map[promising], patch[promising]
        rival_height, rival_place = self.highest(of_map, patch)
        height, place = torch.cat([height, rival_height]), torch.cat([place, rival_place])
        winner = first_highest(height, torch.cat([maps, of_map]), len(maps))
        return place[winner], height[winner]

    def bounds(self) -> Tensor:
        """An upper bound of the map in each patch: (M, V)."""
        counts = over_neighbours(self.counts.view(-1, *self.cells), torch.add)
        bounds = counts + TAIL * self.votes.shape[2]
        if self.heatmap is not None:
            bounds = bounds * over_neighbours(self.heatmap, torch.maximum)
        return bounds.flatten(1)

    def tight_bounds(self, of_map: Tensor, patch: Tensor) -> Tensor:
        """Tighter bounds in patches (R,), flat index, of maps (R,), from distances of votes to quarters."""
        # A vote j quarters away is at least |j| − 1 quarters away from any point.
        apart = torch.arange(QUARTERS, 2 * QUARTERS)[:, None] - torch.arange(3 * QUARTERS)
        most = (-0.5 * ((apart.abs() - 1).clamp(min=0) / QUARTERS / BLOB) ** 2).exp().to(self.votes)
        corners = (torch.arange(QUARTERS + 1) / QUARTERS - 0.5).to(self.votes)
        around = torch.arange(3 * QUARTERS, device=patch.device)
        bounds = [self.votes.new_empty(0)]
        for part in chunks(len(patch), NUMBERS // (3 * QUARTERS) ** self.dimensions):
            index = torch.stack(torch.unravel_index(patch[part], self.shape)[::-1], -1)  # (R, D)
            quarter = [QUARTERS * index[:, axis, None] + around for axis in range(self.dimensions)]
            cells = (of_map[part].reshape(-1, *[1] * self.dimensions), *spread(quarter)[::-1])
            near = self.quarter_counts[cells]  # (R, *3Q)
            for _ in range(self.dimensions):
                near = torch.einsum("qn,r...n->rq...", most, near)  # the last axis becomes the first
            near = near + TAIL * self.votes.shape[2]
            if self.heatmap is not None:
                # It is linear between corners at patch centres and edges, so the highest corner is a bound.
                heatmap = heatmap_at(self.heatmaps(of_map[part], index), [corners] * self.dimensions)
                for axis in range(1, heatmap.ndim):
                    heatmap = heatmap.narrow(axis, 0, QUARTERS).maximum(heatmap.narrow(axis, 1, QUARTERS))
                near = near * heatmap
            bounds.append(near.flatten(1).amax(1))
        return torch.cat(bounds)

    def near_mode(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        """A place with many votes in each map, by mean shift (Cheng 1995) from a patch (M,).

        Returns:
            Places (M, D), and the map there (M,).
        """
        index = torch.stack(torch.unravel_index(patch, self.shape)[::-1], -1)  # (M, D)
        place = index.to(self.votes)
        for width in (1.0, *[BLOB] * STEPS):
            square = (self.votes - place[..., None]).square_().sum(1)
            # The tail is subtracted to remove distant votes from the sum.
            weight = square.mul_(-0.5 / width**2).clamp_(min=math.log(TAIL)).exp_().sub_(TAIL)
            votes = weight.sum(1, keepdim=True)
            mean = (self.votes @ weight[..., None])[..., 0] / votes.clamp(min=TAIL)
            before, place = place, self.inside(mean)
        maps, patch = torch.arange(len(place), device=place.device), self.patch_at(before)
        height = votes[:, 0] * self.heatmap_in(maps, patch, before)
        if self.covered is not None:
            height = height * self.covered.covers(maps, before, place.new_zeros(1)).flatten()
        return before, height

    def highest(self, of_map: Tensor, patch: Tensor) -> tuple[Tensor, Tensor]:
        """The highest point of each region of patches (R,), flat index: its value (R,) and place (R, D)."""
        index = torch.stack(torch.unravel_index(patch, self.shape)[::-1], -1)  # (R, D)
        offsets = (torch.arange(POINTS, device=patch.device).to(self.votes) + 0.5) / POINTS - 0.5
        # Regions with similar numbers of votes are evaluated together, so that arrays have little padding.
        amount, order = self.runs(of_map, index)[1].sum(1).sort(descending=True, stable=True)
        values, places = [self.votes.new_empty(0)], [self.votes.new_empty(0, self.dimensions)]
        start = 0
        while start < len(order):
            numbers = (int(amount[start]) + POINTS) * POINTS ** (self.dimensions - 1)
            chosen = order[start : start + max(NUMBERS // numbers, 1)]
            start += len(chosen)
            near = self.near(of_map[chosen], index[chosen])
            value, flat = self.map_at(near, offsets).flatten(1).max(1)
            at = torch.stack(torch.unravel_index(flat, [POINTS] * self.dimensions)[::-1], -1)
            values.append(value)
            places.append(index[chosen] + offsets[at])
        back = order.argsort()
        return torch.cat(values)[back], torch.cat(places)[back]

    def uphill(self, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Refine places (M, D), one per map, to the peak of the votes, by parabolas along the axes.

        A heatmap, which is coarser, selects among the peaks of the votes but does not move them.

        Returns:
            Places (M, D), and the votes and the heatmap there (M,).
        """
        maps, patch = torch.arange(len(place), device=place.device), self.patch_at(place)
        near = self.near(maps, patch)
        offsets = (torch.arange(-1, 2, device=place.device) * SPACING).to(place)
        middle = 3**self.dimensions // 2
        votes = votes_at(near, place - patch, offsets[1:2]).flatten()
        for _ in range(STEPS):
            values = votes_at(near, place - patch, offsets).flatten(1)
            moves = []
            for axis in range(self.dimensions):
                slope, bend = log_parabola(*(values[:, middle + side * 3**axis] for side in (-1, 0, 1)))
                moves.append((-slope / bend).nan_to_num(0).clamp(-2, 2))
            moved = self.inside(place + SPACING * torch.stack(moves, 1))
            there = votes_at(near, moved - patch, offsets[1:2]).flatten()
            better = there > votes
            if self.covered is not None:
                better &= self.covered.covers(maps, moved, offsets[1:2]).flatten()
            place = torch.where(better[:, None], moved, place)
            votes = torch.where(better, there, votes)
        return place, votes, self.heatmap_in(maps, patch, place)

    def patch_at(self, place: Tensor) -> Tensor:
        """The patch (R, D) nearest to each place (R, D)."""
        limits = torch.tensor(self.shape[::-1], device=place.device) - 1
        return (place + 0.5).floor().long().clamp(min=0).minimum(limits)

    def inside(self, place: Tensor) -> Tensor:
        """The nearest place on the patches."""
        sides = torch.tensor(self.shape[::-1], device=place.device)
        return place.clamp(min=-0.5).minimum(sides - 0.5)

    def runs(self, of_map: Tensor, patch: Tensor) -> tuple[Tensor, Tensor]:
        """The votes in the 3^D cells around patches (R, D): one run of sorted votes per row along x.

        Returns:
            Starts and lengths of the runs, both (R, 3^(D − 1)).
        """
        starts, ends = [], []
        for steps in itertools.product((0, 1, 2), repeat=self.dimensions - 1):  # the ring shifts cells by 1
            cell = of_map
            for axis, step in zip(reversed(range(1, self.dimensions)), steps, strict=True):  # [z,] y
                cell = cell * self.cells[-1 - axis] + patch[:, axis] + step
            cell = cell * self.cells[-1] + patch[:, 0]
            starts.append(self.before[cell])
            ends.append(self.before[cell + 3])
        start = torch.stack(starts, 1)
        return start, torch.stack(ends, 1) - start

    def near(self, of_map: Tensor, patch: Tensor) -> Near:
        """The votes that contribute in patches (R, D)."""
        start, length = self.runs(of_map, patch)
        last = length.cumsum(1)
        number = torch.arange(int(last[:, -1].max()), device=start.device)
        index = start[:, :1] + number  # (R, K)
        for run in range(1, start.shape[1]):
            jump = start[:, run] - start[:, run - 1] - length[:, run - 1]
            index += jump[:, None] * (number >= last[:, run - 1, None])
        missing = number >= last[:, -1:]
        index.masked_fill_(missing, 0)
        votes = [along[index] - patch[:, axis, None] for axis, along in enumerate(self.sorted)]
        return Near(of_map, patch, votes, missing)

    def heatmap_in(self, of_map: Tensor, patch: Tensor, place: Tensor) -> Tensor:
        """The heatmap at places (R, D) in patches (R, D): (R,)."""
        if self.heatmap is None:
            return torch.ones_like(place[:, 0])
        offset = (place - patch)[..., None]
        return heatmap_at(self.heatmaps(of_map, patch), offset.unbind(1)).flatten()

    def heatmaps(self, of_map: Tensor, patch: Tensor) -> Tensor:
        """The heatmap of patches (R, D) and their neighbours: (R, *3)."""
        assert self.heatmap is not None
        around = patch[..., None] + torch.arange(3, device=patch.device)  # the ring shifts patches by 1
        index = (of_map.reshape(-1, *[1] * self.dimensions), *spread(around.unbind(1))[::-1])
        return self.heatmap[index]

    def map_at(self, near: Near, offsets: Tensor) -> Tensor:
        """Votes · heatmap at the patches' centres + offsets (T,) along each axis: (R, [Tz,] Ty, Tx)."""
        values = votes_at(near, torch.zeros_like(near.patch, dtype=offsets.dtype), offsets)
        if self.heatmap is not None:
            around = self.heatmaps(near.of_map, near.patch)
            values = values * heatmap_at(around, [offsets] * self.dimensions)
        if self.covered is not None:
            values = values * self.covered.covers(near.of_map, near.patch, offsets)
        return values
