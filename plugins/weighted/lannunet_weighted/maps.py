"""Weight maps from label maps: rare classes and the borders between objects count more.

Every voxel x has

    weight(x) = w_c(x) + w0 · exp(−d(x)² / (2σ²))

where w_c is 1 − the share of the annotated voxels that x's class takes (1 where it takes all: a case without
foreground trains, too), and d says how near a border is:

- `unet`: d = d1 + d2, the distances to the nearest and the second-nearest object. The term is for "the
  separating background labels between touching cells": there is none in an object. (Ronneberger, Fischer,
  Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015, sec. 3, eq. 2. Within an
  object it would be as high beside a gap as in it, and so not distinguish the two.)
- `nearest`: the distance to the nearest class interior, which is a class without the voxels at its border;
  there is no such term in an interior itself. (What `nnUNet_diag_generate_unet_weightmaps` of the Diagnostic
  Image Analysis Group, Nijmegen, computes.)

A voxel without annotation is of no class: it counts in no share, belongs to no object, makes no border of
what lies beside it, and its w_c is 1, that of a class without voxels.

Distances are exact, but found only where the second term shows in float32, in boxes around objects: a map
costs a fraction of the time and memory of distances over the whole volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from lannunet_segmentation import IGNORE
from numpy.typing import NDArray
from scipy import ndimage

Mode = Literal["unet", "nearest"]
Objects = Literal["components", "instances"]
Box = tuple[slice, ...]

FORMULA = 3
"""Raised when weights change, so that kept maps are recomputed."""

INVISIBLE = 2.0**-25
"""What is added to a weight of 1/2 or more without changing it in float32."""

BLOCK = 1 << 17
"""Voxels that are worked on at a time: they stay in the cache."""


def weight_map(
    label: NDArray[np.integer[Any]],
    classes: Sequence[int],
    mode: Mode = "unet",
    *,
    w0: float = 10.0,
    sigma: float = 5.0,
    spacing: Sequence[float] | None = None,
    objects: Objects = "components",
) -> NDArray[np.float32]:
    """The weight of each voxel.

    Args:
        label: (*S), signed; `IGNORE` where there is no annotation.
        classes: The label values that are classes; all others but `IGNORE` are background.
        mode: Which formula, see above.
        w0: The weight of borders.
        sigma: How far borders reach, in voxels, or in mm where `spacing` is given.
        spacing: mm per voxel (x, y[, z]).
        objects: What `unet` calls an object: `components` of a class that touch by their faces, or
            `instances`, each positive value one, all of one class; `classes` is then not read.

    Returns:
        (*S).
    """
    instances = objects == "instances"
    kinds, count = (_one_kind(label), 1) if instances else (_kinds(label, classes), len(classes))
    steps = np.ones(label.ndim) if spacing is None else np.array(spacing[::-1], float)
    reach = sigma * math.sqrt(2 * math.log(max(w0 / INVISIBLE, 1)))
    if mode == "nearest":
        squares = _to_interiors(kinds, count, steps, reach)
    else:
        squares = _to_two_objects(label if instances else _components(kinds, count), steps, reach)
    weights = _class_weights(kinds, count)
    # In place, and plane by plane: a volume more would be half of the memory.
    for plane, kind in zip(squares, kinds, strict=True):
        plane /= -2 * sigma**2
        np.exp(plane, out=plane)
        plane *= w0
        plane += weights[kind]
    return squares


def _kinds(label: NDArray[np.integer[Any]], classes: Sequence[int]) -> NDArray[np.integer[Any]]:
    """Label values as 0 background, 1 … K the classes in their order, K + 1 not annotated."""
    highest = max([0, *classes, int(label.max(initial=0))])
    small = np.min_scalar_type(len(classes) + 1)
    kinds = np.zeros(highest + 2, small)
    for index, value in enumerate(classes, 1):
        kinds[value] = index
    kinds[IGNORE] = len(classes) + 1  # the last entry, where an index of −1 leads
    found: NDArray[np.integer[Any]] = kinds[label]
    return found


def _one_kind(label: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    kinds: NDArray[np.integer[Any]] = (label > 0).astype(np.uint8)
    kinds[label == IGNORE] = 2
    return kinds


def _class_weights(kinds: NDArray[np.integer[Any]], count: int) -> NDArray[np.float32]:
    """w_c of each kind."""
    voxels = np.zeros(count + 2)
    for plane in kinds:
        voxels += np.bincount(plane.ravel(), minlength=count + 2)
    voxels[-1] = 0
    weights = np.asarray(1 - voxels / max(voxels.sum(), 1), np.float32)
    weights[voxels == max(voxels.sum(), 1)] = 1  # the only kind there is
    return weights


# nearest


def _to_interiors(
    kinds: NDArray[np.integer[Any]], count: int, steps: NDArray[np.float64], reach: float
) -> NDArray[np.float32]:
    """Squared distance (*S) to the nearest interior; infinite within one, and beyond reach."""
    interior = _interior(kinds, count)
    box = _box_of(interior)
    if box is None:
        return np.full(kinds.shape, np.inf, np.float32)
    box = _grown(box, np.ceil(reach / steps).astype(int), kinds.shape)
    found = _squared_distance(interior[box], steps, reach)
    squares = np.full(kinds.shape, np.inf, np.float32)
    for plane, near in zip(squares[box], found, strict=True):
        np.copyto(plane, near, where=(near > 0) & (near <= reach**2))
    return squares


def _interior(kinds: NDArray[np.integer[Any]], count: int) -> NDArray[np.bool_]:
    """Voxels of a class whose neighbours, by faces, all are of it, too, or not annotated.

    Beyond the image there is no class; an axis of one voxel is none.
    """
    unknown = kinds == count + 1
    interior: NDArray[np.bool_] = (kinds > 0) & ~unknown
    for axis, length in enumerate(kinds.shape):
        if length == 1:
            continue
        kind, blank = np.moveaxis(kinds, axis, 0), np.moveaxis(unknown, axis, 0)
        inner = np.moveaxis(interior, axis, 0)
        same = kind[:-1] == kind[1:]
        inner[:-1] &= same | blank[1:]
        inner[1:] &= same | blank[:-1]
        inner[0] = inner[-1] = False
    return interior


def _box_of(mask: NDArray[np.bool_]) -> Box | None:
    found = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else None


def _grown(box: Box, margin: NDArray[np.int64], shape: tuple[int, ...]) -> Box:
    return tuple(
        slice(max(side.start - more, 0), min(side.stop + more, length))
        for side, more, length in zip(box, margin, shape, strict=True)
    )


# unet


def _components(kinds: NDArray[np.integer[Any]], count: int) -> NDArray[np.int32]:
    """Every component of every class with a number of its own, from 1."""
    numbered = np.zeros(kinds.shape, np.int32)
    total = 0
    for kind, box in enumerate(ndimage.find_objects(kinds, count), 1):
        if box is None:
            continue
        mask = kinds[box] == kind
        found, parts = ndimage.label(mask)
        np.copyto(numbered[box], found + np.int32(total), where=mask)
        total += parts
    return numbered


def _to_two_objects(
    numbered: NDArray[np.integer[Any]], steps: NDArray[np.float64], reach: float
) -> NDArray[np.float32]:
    """(d1 + d2)² (*S) to the two nearest objects, right where d1 + d2 ≤ reach, else anything beyond.

    Infinite in objects.
    """
    nearest = np.full(numbered.shape, np.inf, np.float32)
    second = np.full(numbered.shape, np.inf, np.float32)
    for number, box in _objects_with_neighbours(numbered, steps, reach):
        to_this = np.sqrt(_squared_distance(numbered[box] == number, steps, reach), dtype=np.float32)
        first, other = nearest[box], second[box]
        np.minimum(other, np.maximum(first, to_this), out=other)
        np.minimum(first, to_this, out=first)
    nearest += second
    nearest *= nearest
    nearest[numbered > 0] = np.inf
    return nearest


def _objects_with_neighbours(
    numbered: NDArray[np.integer[Any]], steps: NDArray[np.float64], reach: float
) -> Iterator[tuple[int, Box]]:
    """Each object that has another within reach, and the box that its distances are needed in.

    d1 + d2 ≤ reach says how far x may be on either side of a pair: with both on its right, at a_i and a_j,
    (a_i − x) + (a_j − x) ≤ reach; with one, it is no further than reach from the other.
    """
    found = [(i, box) for i, box in enumerate(ndimage.find_objects(numbered), 1) if box is not None]
    # First and last voxels (N, D).
    low = np.array([[s.start for s in box] for _, box in found]).reshape(-1, len(steps)) * steps
    high = np.array([[s.stop - 1 for s in box] for _, box in found]).reshape(-1, len(steps)) * steps
    for index, (number, _) in enumerate(found):
        between = np.maximum(low - high[index], low[index] - high).clip(0)
        near = (between**2).sum(1) <= reach**2
        near[index] = False
        if not near.any():
            continue
        a, b = low[near], high[near]
        start = np.maximum((low[index] + a - reach) / 2, np.maximum(low[index], a) - reach).min(0)
        stop = np.minimum((high[index] + b + reach) / 2, np.minimum(high[index], b) + reach).max(0)
        # The object itself has to be in it.
        first = np.floor(np.minimum(start, low[index]) / steps).astype(int).clip(0)
        last = np.ceil(np.maximum(stop, high[index]) / steps).astype(int)
        yield number, tuple(slice(f, t + 1) for f, t in zip(first.tolist(), last.tolist(), strict=True))


# Distances


def _squared_distance(
    mask: NDArray[np.bool_], steps: NDArray[np.float64], reach: float
) -> NDArray[np.number[Any]]:
    """Squared distance (*S) of every voxel to the mask, 0 in it; anything above reach² beyond reach.

    Axis by axis: the squared distance in the (n + 1)th is the least, over all places along it, of what the
    first n say there and the squared way to it. (Saito, Toriwaki: New algorithms for Euclidean distance
    transformation of an n-dimensional digitized picture with applications, Pattern Recognition 1994.)
    No place further than reach has to be inspected, so that few operations on whole blocks do.
    """
    volume = mask if mask.ndim == 3 else mask[None]
    to_z, to_y, to_x = (1.0, *steps.tolist())[-3:]
    far = math.ceil(reach / to_z) + 1
    whole = to_z == to_y == to_x == 1 and 2 * far**2 < 2**16
    squares: NDArray[np.number[Any]] = np.full(volume.shape, far, np.uint16 if whole else np.float32)
    squares[volume] = 0
    for planes in (squares, squares[::-1]):  # counted forth and back
        for before, plane in pairwise(planes):
            np.minimum(plane, before + 1, out=plane)
    np.multiply(squares, squares, out=squares)
    if not whole:
        np.multiply(squares, to_z**2, out=squares)
    together = max(1, BLOCK // squares[0].size)
    for start in range(0, len(squares), together):
        block = squares[start : start + together]
        _along(np.moveaxis(block, 1, 0), to_y, reach)
        _along(np.moveaxis(block, 2, 0), to_x, reach)
    return squares.reshape(mask.shape)


def _along(squares: NDArray[np.number[Any]], step: float, reach: float) -> None:
    """Lower squared distances (L, …), in place, to what is nearer by a way along the first axis."""
    before = squares.copy(order="K")
    raised = np.empty_like(before)
    highest = before.max()
    for way in range(1, min(len(squares), math.floor(reach / step) + 1)):
        square = way**2 if step == 1 else (way * step) ** 2
        if square >= highest:
            break
        np.add(before, square, out=raised, casting="unsafe")
        np.minimum(squares[way:], raised[:-way], out=squares[way:])
        np.minimum(squares[:-way], raised[way:], out=squares[:-way])
