"""Candidate smoothing of PHD-Net (Schobs et al., ISBI 2021) with NumPy alone, for exported networks.

`decode.py` of LannU-Net computes the same for many landmarks at once. Positions are in patches: patch i
covers i − ½ … i + ½ of an axis. D dimensions, P patches per axis ([z,] y, x), V patches in all, N landmarks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BLOB = 0.2  # width of a vote
TAIL = math.exp(-0.5 / BLOB**2)
POINTS = 8  # evaluated points of a patch along an axis
SPACING = 0.5 / POINTS  # distance of the points of a parabola
FAR = 1e6
TINY = np.finfo(np.float32).tiny


def decode(answers: Mapping[str, Array], settings: Mapping[str, Any]) -> tuple[Array, Array]:
    """Points (N, D) in pixels of the network's input, NaN for a map without a peak, and confidence (N,).

    Args:
        answers: `heatmap` (1, N, *P) and `displacement` (1, N · D, *P) in pixels, or one of them; `affine`
            (D + 1, D + 1) from pixels of the input to those of the image; `size` (D,) of the image.
        settings: `patch_size`, `every_patch_votes`, `evaluation_mode`.
    """
    heatmaps: Array | None = answers["heatmap"][0].astype(float) if "heatmap" in answers else None
    patch, dimensions = settings["patch_size"], len(answers["size"])
    if heatmaps is not None and "displacement" not in answers:
        found = [heatmap_peak(one) for one in heatmaps]
    else:
        moves = answers["displacement"][0].astype(float) / patch
        moves = moves.reshape(-1, dimensions, *moves.shape[1:])
        to_image = answers["affine"].astype(float)
        to_image = to_image @ np.diag([*[patch] * dimensions, 1.0])
        to_image[:-1, -1] += answers["affine"][:-1, :-1].sum(1) * (patch - 1) / 2
        only_there = settings["evaluation_mode"] == "scale_heatmap_first"
        covered = (to_image, answers["size"]) if only_there else None
        found = [
            smoothed(one, None if heatmaps is None else heatmaps[number], covered, settings)
            for number, one in enumerate(moves)
        ]
    places, confidence = zip(*found, strict=True)
    return (np.array(places) + 0.5) * patch - 0.5, np.array(confidence)


def smoothed(
    moves: Array, heatmap: Array | None, covered: tuple[Array, Array] | None, settings: Mapping[str, Any]
) -> tuple[Array, float]:
    """The place (D,) of the maximum of votes · heatmap for displacements (D, *P), and its confidence."""
    votes = Votes(moves, heatmap, covered)
    place, amount, certain = votes.peak()
    constant = moves[0].size > 1 and all(axis.min() == axis.max() for axis in moves)
    if not amount * certain > 0 or constant or (heatmap is not None and not np.isfinite(heatmap).all()):
        return np.full(len(moves), np.nan), 0.0
    nearby = min((2 * math.pi) ** (len(moves) / 2), moves[0].size)
    if settings["every_patch_votes"]:
        share = amount / moves[0].size
    else:
        share = amount / (amount + nearby if heatmap is None else nearby)
    return place, certain * min(share, 1.0)


class Votes:
    """The votes of the patches for one landmark."""

    def __init__(self, moves: Array, heatmap: Array | None, covered: tuple[Array, Array] | None) -> None:
        shape = moves.shape[1:]
        self.sides = np.array(shape[::-1])
        centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")[::-1])
        votes = np.nan_to_num(moves + centres, nan=FAR, posinf=FAR, neginf=-FAR)
        self.votes = votes.clip(-FAR, FAR).reshape(len(shape), -1).T  # (V, D)
        ring = np.ones(shape) if heatmap is None else np.nan_to_num(heatmap).clip(min=0)
        self.ring = np.pad(ring, 1, mode="edge")
        self.covered = covered
        self.cells = np.floor(self.votes + 1.5)  # the patches and a ring around them
        self.counted = ((self.cells >= 0) & (self.cells < self.sides + 2)).all(1)

    def peak(self) -> tuple[Array, float, float]:
        """The place, the votes and the heatmap there."""
        counts = np.zeros(self.ring.shape)
        np.add.at(counts, tuple(self.cells[self.counted].astype(int).T[::-1]), 1)
        around = (3,) * counts.ndim
        axes = tuple(range(-counts.ndim, 0))
        windows = np.lib.stride_tricks.sliding_window_view
        bounds = windows(counts, around).sum(axes) + TAIL * len(self.votes)
        bounds = bounds * windows(self.ring, around).max(axes)
        best, highest = self.near_mode(unravel(bounds.argmax(), bounds.shape))
        offsets = (np.arange(POINTS) + 0.5) / POINTS - 0.5
        for flat in np.flatnonzero(bounds > highest):
            patch = unravel(flat, bounds.shape)
            places = patch + grid(offsets, len(patch))
            heights = self.amount(self.near(patch), places) * self.heatmap(places) * self.covers(places)
            if heights.max() > highest:
                best, highest = places[heights.argmax()], heights.max()
        return self.uphill(best)

    def near_mode(self, patch: Array) -> tuple[Array, float]:
        """A place with many votes, by mean shift (Cheng 1995), and the map there."""
        place = patch.astype(float)
        for width in (1.0, BLOB, BLOB):
            square = ((self.votes - place) ** 2).sum(1)
            weight = np.exp(np.maximum(-0.5 * square / width**2, math.log(TAIL))) - TAIL
            before, place = place, self.inside(weight @ self.votes / max(weight.sum(), TAIL))
        at = before[None]
        return before, (weight.sum() * self.heatmap(at) * self.covers(at))[0]

    def uphill(self, place: Array) -> tuple[Array, float, float]:
        """Refine a place to the peak of the votes, by parabolas along the axes."""
        near = self.near(np.minimum(np.floor(place + 0.5).clip(0), self.sides - 1))
        amount = self.amount(near, place[None])[0]
        for _ in range(2):
            step = np.zeros(len(place))
            for axis, unit in enumerate(np.eye(len(place))):
                three = self.amount(near, place + SPACING * unit * np.array([[-1], [0], [1]]))
                slope, bend = log_parabola(three)
                step[axis] = np.clip(np.nan_to_num(-slope / bend), -2, 2)
            moved = self.inside(place + SPACING * step)
            there = self.amount(near, moved[None])[0]
            if there > amount and self.covers(moved[None])[0]:
                place, amount = moved, there
        return place, amount, self.heatmap(place[None])[0]

    def near(self, patch: Array) -> Array:
        """The votes (K, D) in the 3^D patches around a patch."""
        chosen: Array = self.votes[self.counted & (abs(self.cells - patch - 1) <= 1).all(1)]
        return chosen

    @staticmethod
    def amount(votes: Array, places: Array) -> Array:
        """The sum of votes (K, D) at places (T, D): (T,)."""
        sums: Array = np.exp(-0.5 * ((places[:, None] - votes) ** 2).sum(-1) / BLOB**2).sum(-1)
        return sums

    def heatmap(self, places: Array) -> Array:
        """The heatmap at places (T, D), interpolated linearly between the patches' centres."""
        first = np.minimum(np.floor(places + 1), self.sides).astype(int)
        share = places + 1 - first
        total = np.zeros(len(places))
        for corner in itertools.product((0, 1), repeat=places.shape[1]):
            weight = np.where(corner, share, 1 - share).prod(1)
            total += weight * self.ring[tuple((first + corner).T[::-1])]
        return total

    def covers(self, places: Array) -> Array:
        """Whether places (T, D) are in the image."""
        if self.covered is None:
            return np.ones(len(places), bool)
        matrix, size = self.covered
        pixels = places @ matrix[:-1, :-1].T + matrix[:-1, -1]
        return np.asarray(((pixels > -0.501) & (pixels < size - 0.499)).all(1))

    def inside(self, place: Array) -> Array:
        return np.clip(place, -0.5, self.sides - 0.5)


def heatmap_peak(heatmap: Array) -> tuple[Array, float]:
    """The place (D,) of the peak of a heatmap (*P), and the value there."""
    height, lowest = heatmap.max(), heatmap.min()
    if not np.isfinite(heatmap).all() or height <= 0 or lowest >= height:
        return np.full(heatmap.ndim, np.nan), 0.0
    highest = unravel(heatmap.argmax(), heatmap.shape)
    place, sides, bends = highest.astype(float), heatmap.shape[::-1], []
    for axis in sorted(range(len(sides)), key=lambda axis: sides[axis] < 3):
        index = [*highest]
        index[axis] = slice(None)
        line = heatmap[tuple(index[::-1])]
        middle: Any = 0.5
        if sides[axis] >= 3:
            middle = np.clip(highest[axis], 1, sides[axis] - 2)
            slope, bend = log_parabola(line[middle - 1 : middle + 2])
            bends.append(bend)
        elif sides[axis] == 2 and not np.isnan(bends).all():
            slope, bend = np.diff(np.log(np.maximum(line, TINY)))[0], float(np.nanmean(bends))
        else:
            continue
        offset = np.nan_to_num(np.clip(middle - highest[axis] - slope / bend, -0.5, 0.5))
        place[axis] += offset
        height *= math.exp(np.nan_to_num(-0.5 * bend * offset**2))
    return place, min(max(height, 0.0), 1.0)


def log_parabola(three: Array) -> tuple[float, float]:
    """Slope and curvature at the middle of the parabola through three logarithms; NaN if it has no peak."""
    first, second, third = np.log(np.maximum(three, TINY))
    bend = first - 2 * second + third
    peaked = min(three) > 0 and bend < 0
    return (third - first) / 2, bend if peaked else np.nan


def unravel(flat: Any, shape: tuple[int, ...]) -> Array:
    """The position (x, y[, z]) of a flat index."""
    return np.array(np.unravel_index(flat, shape)[::-1])


def grid(offsets: Array, dimensions: int) -> Array:
    """All combinations (T^D, D) of offsets, x fastest."""
    return np.array(list(itertools.product(offsets, repeat=dimensions)))[:, ::-1]
