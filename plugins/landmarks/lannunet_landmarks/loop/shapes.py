"""How far a shape of landmarks is from those of the training images, whatever its place, turn and size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lannunet_core import Floats

LEAST = 3  # points that a shape needs: of two, all shapes are alike
FLOOR = 0.02  # of the shape's size: the least deviation that a landmark is taken to have
ROUNDS = 3  # of generalised Procrustes analysis


def aligned(points: Floats, mean: Floats) -> Floats:
    """`points` (N, D) moved, turned and scaled to lie closest to `mean` (N, D), without mirroring.

    Points of NaN take no part and stay NaN (Umeyama 1991).
    """
    known = np.isfinite(points).all(axis=1) & np.isfinite(mean).all(axis=1)
    centre, goal = points[known].mean(axis=0), mean[known].mean(axis=0)
    moved, wanted = points[known] - centre, mean[known] - goal
    u, values, v = np.linalg.svd(wanted.T @ moved)
    signs = np.ones(len(values))
    signs[-1] = np.sign(np.linalg.det(u @ v))
    scale = (values * signs).sum() / max((moved**2).sum(), 1e-12)
    return np.asarray((points - centre) @ (scale * (u * signs) @ v).T + goal)


class Shapes:
    """The shapes of annotated images.

    Args:
        shapes: Each (N, D) in units that are equal along all axes; NaN where a landmark is not placed. Those
            with fewer than three points are left out.

    Raises:
        ValueError: None is left.
    """

    def __init__(self, shapes: Sequence[Floats]) -> None:
        whole = [shape for shape in shapes if np.isfinite(shape).all(axis=1).sum() >= LEAST]
        if not whole:
            raise ValueError("no shape has three points")
        most = max(whole, key=lambda shape: int(np.isfinite(shape).all(axis=1).sum()))
        size = np.sqrt(np.nansum((most - np.nanmean(most, axis=0)) ** 2))
        self.mean = (most - np.nanmean(most, axis=0)) / size
        for _ in range(ROUNDS):
            stack = np.stack([aligned(shape, self.mean) for shape in whole])
            known = np.isfinite(stack)
            count = known.sum(axis=0)
            mean = np.where(known, stack, 0).sum(axis=0) / np.maximum(count, 1)
            self.mean = np.where(count > 0, mean, self.mean)
        off = np.where(known, stack - self.mean, 0)
        variance = (off**2).sum(axis=(0, 2)) / np.maximum(count[:, 0], 1)
        self.deviation = np.sqrt(variance + FLOOR**2)  # (N,)

    def distance(self, shape: Floats) -> float:
        """The root mean square distance to the mean shape, in deviations of each landmark.

        Infinite where fewer than three landmarks are placed.
        """
        known = np.isfinite(shape).all(axis=1) & np.isfinite(self.mean).all(axis=1)
        if known.sum() < LEAST:
            return float("inf")
        off = np.linalg.norm(aligned(shape, self.mean) - self.mean, axis=1) / self.deviation
        return float(np.sqrt(np.mean(off[known] ** 2)))
