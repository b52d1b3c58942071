"""Weight maps from label maps: rare classes and the borders between objects have higher weights.

The weight of a voxel x is

    weight(x) = w_c(x) + w0 · exp(−d(x)² / (2σ²))

where w_c is 1 − the share of the class of x in the annotated voxels (1 if the class has all of them, so that
a case without foreground is trained on, too), and d is a distance:

- `unet`: d = d1 + d2, the distances to the nearest and the second-nearest object. The term is defined for
  "the separating background labels between touching cells" and is 0 inside objects. (Ronneberger, Fischer,
  Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015, sec. 3, eq. 2. Inside an
  object it would be as high next to a gap as in it, and would not distinguish them.)
- `nearest`: the distance to the nearest interior of a class, which is the class without its border voxels;
  the term is 0 inside interiors. (The formula of `nnUNet_diag_generate_unet_weightmaps` of the Diagnostic
  Image Analysis Group, Nijmegen.)

A voxel without annotation has no class: it is excluded from the shares and objects, its neighbours are not
border voxels because of it, and its w_c is 1, like that of a class without voxels.

Distances are exact, but computed only where the second term is significant in float32, in boxes around
objects. A map needs a fraction of the time and memory of distances over the whole volume.
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
"""Version of the formulas, increased when weights change, so that existing maps are recomputed."""

INVISIBLE = 2.0**-25
"""A summand that does not change a weight of 1/2 or more in float32."""

BLOCK = 1 << 17
"""Voxels per block, so that a block stays in the processor's cache."""


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
        classes: The label values of classes; all others except `IGNORE` are background.
        mode: The formula, see above.
        w0: The weight of borders.
        sigma: The width of borders, in voxels, or in mm if `spacing` is given.
        spacing: mm per voxel (x, y[, z]).
        objects: The objects of `unet`: `components` of each class, connected by faces; or `instances`: each
            positive value is an object, all of one class, and `classes` is not read.

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
    # In place, and plane by plane: another volume would need half as much memory again.
    for plane, kind in zip(squares, kinds, strict=True):
        plane /= -2 * sigma**2
        np.exp(plane, out=plane)
        plane *= w0
        plane += weights[kind]
    return squares


def _kinds(label: NDArray[np.integer[Any]], classes: Sequence[int]) -> NDArray[np.integer[Any]]:
    """Label values mapped to 0 background, 1 … K the classes in their order, K + 1 not annotated."""
    highest = max([0, *classes, int(label.max(initial=0))])
    small = np.min_scalar_type(len(classes) + 1)
    kinds = np.zeros(highest + 2, small)
    for index, value in enumerate(classes, 1):
        kinds[value] = index
    kinds[IGNORE] = len(classes) + 1  # the last entry, which has the index −1
    found: NDArray[np.integer[Any]] = kinds[label]
    return found


def _one_kind(label: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    kinds: NDArray[np.integer[Any]] = (label > 0).astype(np.uint8)
    kinds[label == IGNORE] = 2
    return kinds


def _class_weights(kinds: NDArray[np.integer[Any]], count: int) -> NDArray[np.float32]:
    """The weight w_c of each kind."""
    voxels = np.zeros(count + 2)
    for plane in kinds:
        voxels += np.bincount(plane.ravel(), minlength=count + 2)
    voxels[-1] = 0
    weights = np.asarray(1 - voxels / max(voxels.sum(), 1), np.float32)
    weights[voxels == max(voxels.sum(), 1)] = 1  # the only kind in the case
    return weights


# nearest


def _to_interiors(
    kinds: NDArray[np.integer[Any]], count: int, steps: NDArray[np.float64], reach: float
) -> NDArray[np.float32]:
    """Squared distance (*S) to the nearest interior; infinite inside interiors, and beyond `reach`."""
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
    """Voxels of a class whose face neighbours all have the same class or no annotation.

    Voxels at the edge of the image are not interior; an axis of one voxel is not considered.
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
    """Components of all classes, each with a unique number, from 1."""
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
    """(d1 + d2)² (*S) to the two nearest objects, exact where d1 + d2 ≤ reach, else any larger value.

    It is infinite inside objects.
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
    """Each object with another one within reach, and the box in which its distances are needed.

    The box follows from d1 + d2 ≤ reach. If both objects of a pair are right of x, at a_i and a_j, then
    (a_i − x) + (a_j − x) ≤ reach; if one is, x is at most `reach` from the other.
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
        # The box must contain the object.
        first = np.floor(np.minimum(start, low[index]) / steps).astype(int).clip(0)
        last = np.ceil(np.maximum(stop, high[index]) / steps).astype(int)
        yield number, tuple(slice(f, t + 1) for f, t in zip(first.tolist(), last.tolist(), strict=True))


# Distances


def _squared_distance(
    mask: NDArray[np.bool_], steps: NDArray[np.float64], reach: float
) -> NDArray[np.number[Any]]:
    """Squared distance (*S) of every voxel to the mask, 0 inside; any value above reach² beyond reach.

    The distance is computed axis by axis: with axis n + 1, it is the minimum over all positions along that
    axis of the squared distance by the first n axes plus the squared step to the position. (Saito, Toriwaki:
    New algorithms for Euclidean distance transformation of an n-dimensional digitized picture with
    applications, Pattern Recognition 1994.) Positions beyond reach are skipped, so a few operations on whole
    blocks are sufficient.
    """
    volume = mask if mask.ndim == 3 else mask[None]
    to_z, to_y, to_x = (1.0, *steps.tolist())[-3:]
    far = math.ceil(reach / to_z) + 1
    whole = to_z == to_y == to_x == 1 and 2 * far**2 < 2**16
    squares: NDArray[np.number[Any]] = np.full(volume.shape, far, np.uint16 if whole else np.float32)
    squares[volume] = 0
    for planes in (squares, squares[::-1]):  # forwards and backwards
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
    """Lower squared distances (L, …), in place, where a step along the first axis leads to a lower one."""
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
