"""Elastic displacement: a cubic B-spline over a coarse grid of control points, which never folds.

imgaug generates an elastic field by smoothing uniform noise of ±alpha pixels with a Gaussian of sigma pixels.
A cubic B-spline with independent uniform coefficients c, one every h pixels, is the same kind of field, small
enough to send to workers and exact at any point. Averaged over all positions, with Σβ² = 151/315 and Σβ'² =
2/3 per axis, it has

    variance            Var(c) (151/315)^D                              imgaug: (alpha²/3) (2 √π sigma)^-D
    gradient/amplitude  √((2/3) / (151/315)) / h                         imgaug: 1 / (√2 sigma)

and equating both gives h = 1.668 sigma and Var(c). In 3D smoothing averages over more noise, so that the same
alpha gives smaller displacements: (2 √π sigma)^-3/2 instead of (2 √π sigma)^-1.

q ↦ q + u(q) stays one-to-one when no coefficient exceeds h / K, K = 2.0464 in 2D, 2.4795 in 3D (Choi & Lee,
Injectivity conditions of 2D and 3D uniform cubic B-spline functions, Graphical Models 62, 2000): K/h · max|c|
bounds every row sum of |∂u|, and a map whose displacements of two points differ by less than their distance
cannot fold. Here coefficients are limited to `CONTRACTION` of that bound: larger alphas are reduced to it,
see `largest_alpha`. So u is a contraction, its inverse can be iterated, and a spot of a few pixels keeps its
centroid within half a pixel of its moved point. The published ranges of the schemes reach far beyond it: for
alpha 0-50 with sigma 2-5, 86 % of the draws in 2D are reduced, to a quarter of their strength on average.
Folding begins at 2.5 times the limit, so no scaling could apply the drawn strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core.types import Floats

CONTRACTION = 0.4
"""The largest difference of two points' displacements, as a share of their distance (in the maximum norm)."""

_ONE_TO_ONE = {2: 2.046392675, 3: 2.479472335}
_VARIANCE = 151 / 315  # of a cubic B-spline with unit coefficients, along one axis
_KNOTS_PER_SIGMA = float(np.sqrt(2 * (2 / 3) / _VARIANCE))


def _coefficient(sigma: float, dimensions: int) -> float:
    """The largest coefficient of a field of alpha 1."""
    deviation = (2 * np.sqrt(np.pi) * sigma) ** (-dimensions / 2) / np.sqrt(3)
    return float(np.sqrt(3) * deviation / _VARIANCE ** (dimensions / 2))


def largest_alpha(sigma: float, dimensions: int) -> float:
    """The alpha from which a field of `sigma` gets no stronger: 0.55 sigma² in 2D, 0.6 sigma^2.5 in 3D."""
    largest = CONTRACTION * _KNOTS_PER_SIGMA * sigma / _ONE_TO_ONE[dimensions]
    return largest / _coefficient(sigma, dimensions)


@dataclass(frozen=True, eq=False)
class Elastic:
    """A displacement field around the centre of the output.

    Attributes:
        control: (D, [z,] y, x) float32 coefficients of the displacement (x, y[, z]), in pixels; knots lie
            symmetric about the centre.
        spacing: Pixels between knots. Points outside of the grid get the displacement of its nearest point.
    """

    control: NDArray[np.float32]
    spacing: float

    @staticmethod
    def draw(rng: np.random.Generator, size: Sequence[int], alpha: float, sigma: float) -> Elastic:
        """A random field for an output of `size` (x, y[, z]), with imgaug's alpha and sigma in pixels."""
        dimensions = len(size)
        spacing = _KNOTS_PER_SIGMA * sigma
        largest = min(alpha, largest_alpha(sigma, dimensions)) * _coefficient(sigma, dimensions)
        # One knot beyond each end of the pixels, so that all of them lie between four knots.
        knots = [int(np.ceil((length - 1) / spacing)) + 3 for length in reversed(size)]
        control = rng.uniform(-largest, largest, (dimensions, *knots))
        return Elastic(control.astype(np.float32), spacing)

    def at(self, points: Floats) -> Floats:
        """The displacement at points (P, D), relative to the output's centre; 0 at NaN."""
        dimensions = len(self.control)
        index: list[Any] = [slice(None)]  # then [z,] y, x: (P, 4, 1[, 1]), (P, 1, 4[, 1]) …
        weights: list[Floats] = []  # of x, y[, z]: (P, 4)
        for axis in reversed(range(dimensions)):
            near, weight = self._taps(points[:, axis], self.control.shape[-1 - axis])
            around = [4 if other == axis else 1 for other in reversed(range(dimensions))]
            index.append(near.reshape(-1, *around))
            weights.insert(0, weight)
        values: Any = self.control.astype(np.float64)[tuple(index)]  # (D, P, [4,] 4, 4)
        for axis, weight in enumerate(weights):  # the last axis of values is x, then y
            values = (values * weight.reshape(-1, *[1] * (dimensions - 1 - axis), 4)).sum(-1)
        return np.asarray(values.T)

    def basis(self, size: Sequence[int]) -> list[NDArray[np.float32]]:
        """Per axis (x, y[, z]) a matrix (pixels, knots): control times all matrices is the dense field."""
        matrices: list[NDArray[np.float32]] = []
        for length, knots in zip(size, self.control.shape[:0:-1], strict=True):
            near, weight = self._taps(np.arange(length, dtype=np.float64) - (length - 1) / 2, knots)
            matrix = np.zeros((length, knots), np.float32)
            np.put_along_axis(matrix, near, weight.astype(np.float32), axis=1)
            matrices.append(matrix)
        return matrices

    def _taps(self, positions: Floats, knots: int) -> tuple[NDArray[np.intp], Floats]:
        """The four knots around positions (P,) on one axis and their cubic B-spline weights, both (P, 4)."""
        place = np.clip(np.nan_to_num(positions) / self.spacing + (knots - 1) / 2, 1, knots - 2)
        first = np.minimum(np.floor(place), knots - 3) - 1
        near = first[:, None] + np.arange(4)
        distance = np.abs(place[:, None] - near)
        outer, inner = 2 - distance, np.maximum(1 - distance, 0)  # no knot is further away than 2
        return near.astype(np.intp), (outer**3 - 4 * inner**3) / 6
