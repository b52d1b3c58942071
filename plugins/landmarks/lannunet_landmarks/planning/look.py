"""Properties of a landmark data set: the headers of its images, and the shapes of its landmarks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lannunet_core import Floats, State, progress_bar
from lannunet_landmarks.data.annotations import LandmarkDataset

WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^A-Za-z\d]+")
OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}


@dataclass(frozen=True)
class Look:
    """The input of a plan.

    Attributes:
        dataset: The data set.
        sizes: (images, D) of the training images, (x, y[, z]).
        spacings: (images, D) in mm; ones where unknown.
        states_spacing: Whether the spacing of every training image is known.
        channels: C.
        turned: The rotation in degrees against the mean shape that 95 % of the training images do not exceed;
            None: there are too few landmarks to estimate it.
        pairs: Landmarks that form a left and right pair by their names.
        mirrored: Pairs of landmarks that a mirror swaps, by the mean shape; empty if it is not symmetric.
    """

    dataset: LandmarkDataset
    sizes: Floats
    spacings: Floats
    states_spacing: bool
    channels: int
    turned: float | None
    pairs: tuple[tuple[int, int], ...]
    mirrored: tuple[tuple[int, int], ...]


def look(dataset: LandmarkDataset, symmetric: float) -> Look:
    """Inspect the headers of all training images, and their annotations.

    Args:
        dataset: A data set with training samples.
        symmetric: The largest distance of a shape from its mirror image, see `mirror_pairs`.
    """
    samples, dimensions = dataset.samples["training"], dataset.dimensions
    sizes, spacings, known, channels = [], [], [], 1
    with progress_bar("reading headers", len(samples)) as progress:
        for sample in samples:
            header = dataset.files.header(sample.image, dimensions)
            spacing = sample.spacing or header.spacing
            sizes.append(header.size)
            spacings.append(spacing or (1.0,) * dimensions)
            known.append(spacing is not None)
            channels = header.channels
            progress.advance(1)
    all_known = all(known)
    steps = np.array(spacings) if all_known else np.ones((len(samples), dimensions))
    shapes = np.array(
        [
            np.where((sample.states == State.VISIBLE)[:, None], sample.coordinates, np.nan) * step
            for sample, step in zip(samples, steps, strict=True)
        ]
    )
    mean = mean_shape(shapes)
    return Look(
        dataset,
        np.array(sizes, float),
        steps,
        all_known,
        channels,
        turned_by(shapes, mean),
        named_pairs(dataset.landmark_names),
        mirror_pairs(mean, symmetric),
    )


def named_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Landmarks whose names differ only in left and right, in any case, also as a word `L` and `R`."""
    index = {name.casefold(): n for n, name in enumerate(names)}
    pairs: dict[int, int] = {}
    for n, name in enumerate(names):
        for other in (_swapped_inside(name), _swapped_words(name)):
            partner = index.get(other, n)
            if partner > n and n not in pairs and partner not in pairs.values():
                pairs[n] = partner
    return tuple((left, right) for left, right in pairs.items() if right not in pairs)


def _swapped_inside(name: str) -> str:
    return re.sub("left|right", lambda found: OTHER_SIDE[found[0]], name.casefold())


def _swapped_words(name: str) -> str:
    words = [word.casefold() for word in WORDS.findall(name)]
    return "".join(OTHER_SIDE.get(word, word) for word in words)


def mean_shape(shapes: Floats) -> Floats:
    """The mean (N, D) of shapes (images, N, D), each centred and scaled to size 1, not rotated.

    NaN for a landmark that is never placed.
    """
    total, count = np.zeros(shapes.shape[1:]), np.zeros(shapes.shape[1])
    for shape in shapes:
        known = np.isfinite(shape).all(axis=-1)
        if known.sum() > 1:
            centred = shape[known] - shape[known].mean(axis=0)
            total[known] += centred / max(np.sqrt((centred**2).sum(axis=-1).mean()), 1e-12)
            count[known] += 1
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count[:, None] > 0, total / count[:, None], np.nan))


def rotation_onto(points: Floats, target: Floats) -> Floats:
    """The rotation (D, D) that maps points (n, D) closest to a target (Kabsch 1976), both centred."""
    left, _, right = np.linalg.svd(points.T @ target)
    signs = np.ones(points.shape[1])
    signs[-1] = np.sign(np.linalg.det(left @ right))
    return np.asarray((left * signs @ right).T)


def turned_by(shapes: Floats, mean: Floats) -> float | None:
    """The rotation in degrees against the mean shape that 95 % of the shapes do not exceed; None: it cannot
    be estimated.

    If shapes have arbitrary orientations, their mean is close to 0, and the angles are large too.
    """
    dimensions, angles = shapes.shape[2], []
    for shape in shapes:
        known = np.isfinite(shape).all(axis=-1) & np.isfinite(mean).all(axis=-1)
        if known.sum() < max(3, dimensions):
            continue
        ends = [points[known] - points[known].mean(axis=0) for points in (shape, mean)]
        trace = np.trace(rotation_onto(*ends))
        cosine = trace / 2 if dimensions == 2 else (trace - 1) / 2
        angles.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return float(np.quantile(angles, 0.95)) if angles else None


def mirror_pairs(mean: Floats, symmetric: float) -> tuple[tuple[int, int], ...]:
    """The landmarks that a mirror swaps in a shape (N, D), if it is its own mirror image.

    A mirror of a symmetric shape is perpendicular to one of its principal axes. Landmarks are matched with
    their mirror images so that the sum of squared distances is minimal (the assignment problem).

    Args:
        mean: Centred shape; NaN for a landmark that is never placed.
        symmetric: Largest root mean square distance, relative to the shape's own radius.

    Returns:
        The pairs; empty if the shape is not symmetric, or if all landmarks lie on the mirror.
    """
    from scipy.optimize import linear_sum_assignment

    where = np.flatnonzero(np.isfinite(mean).all(axis=-1))
    if len(where) < 3:
        return ()
    shape = mean[where] - mean[where].mean(axis=0)
    radius = np.sqrt((shape**2).sum(axis=-1).mean())
    best: float = symmetric * radius
    pairs: tuple[tuple[int, int], ...] = ()
    for axis in np.linalg.svd(shape, full_matrices=True)[2]:
        mirrored = shape - 2 * np.outer(shape @ axis, axis)
        squares = ((shape[:, None] - mirrored[None]) ** 2).sum(axis=-1)
        _, partner = linear_sum_assignment(squares)
        swaps = [(n, int(partner[n])) for n in range(len(where)) if partner[n] > n]
        off = np.sqrt(squares[np.arange(len(where)), partner].mean())
        if swaps and off < best and (partner[partner] == np.arange(len(where))).all():
            best = off
            pairs = tuple((int(where[left]), int(where[right])) for left, right in swaps)
    return pairs
