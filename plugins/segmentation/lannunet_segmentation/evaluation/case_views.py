"""The cases of a report, as `lannunet_report.CaseView`: images, and outlines of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lannunet_report import (
    CaseView,
    Plane,
    chosen_slices,
    display_limits,
    letters_of,
    picture_size,
    plane_name,
    planes_of,
    points_up,
    stacked_url,
    to_display,
)
from numpy.typing import NDArray

from lannunet_core import Floats
from lannunet_segmentation.evaluation.contours import outline
from lannunet_segmentation.types import IGNORE, CaseImage, Labels, SegmentationDataset

SMALL = 1 / 3  # of a picture's area: smaller foreground is shown enlarged
SLICES = 5  # of a small picture, in addition to the one with the most errors
COLOURS = ("#ffb000", "#4f8cff", "#f2559a", "#7ee081", "#ff7a2f", "#b39bff", "#19cfd6", "#e8e06a")
"""Colours that also differ in lightness, on grey images."""
ENOUGH_ROOM = 4  # smallest margin around the foreground, in pixels


def case_view(
    stored: CaseImage, predicted: Labels, dataset: SegmentationDataset, placed: bool, large: bool
) -> CaseView:
    """The view of a case: a picture, or three planes through the largest errors.

    Args:
        stored: Image and annotation.
        predicted: (*S) the predicted labels.
        dataset: Data set with classes and channels.
        placed: Whether the image's file states its orientation in the patient.
        large: Whether pictures are large, and volumes have slices throughout.
    """
    colours = dataset.dimensions == 2 and len(dataset.channel_names) == 3
    pixels = stored.pixels if colours else stored.pixels[:1]
    label = stored.label
    target = label if label is not None and (label != IGNORE).any() else None
    foreground, wrong = _masks(predicted, target)
    window = _window(foreground)
    limits = display_limits(pixels.transpose(*range(1, pixels.ndim), 0)[window])
    scale = np.asarray(stored.geometry.spacing) / min(stored.geometry.spacing)
    if dataset.dimensions == 2:
        shown = to_display(pixels, limits)
        return CaseView([
            Plane(
                axis=None,
                slices=[0],
                start=0,
                href=stacked_url([shown], picture_size(large)),
                size=(shown.shape[1], shown.shape[0]),
                scale=(float(scale[0]), float(scale[1])),
                shapes=[_shapes(predicted, target, dataset)],
                ignored=_ignored([target]),
                window=_enlarged(window, foreground.shape),
            )
        ])  # fmt: skip
    seen = next((mask for mask in (wrong, foreground) if mask.any()), None)
    direction = _direction(stored) if placed else None
    size = predicted.shape[::-1]
    planes = []
    for axis, horizontal, vertical in planes_of(3):
        others = tuple(other for other in range(3) if other != 2 - axis)
        start = size[axis] // 2 if seen is None else int(seen.sum(axis=others).argmax())
        held = np.flatnonzero(foreground.any(axis=others))
        chosen = held[((np.arange(SLICES) + 0.5) / SLICES * len(held)).astype(int)] if held.size else []
        slices = chosen_slices(size[axis], [start, *(chosen if large or axis == 2 else ())], large)
        flipped = vertical == 2 and points_up(direction)
        cuts = [np.asarray(predicted.take(place, axis=2 - axis)) for place in slices]
        truths = [
            None if target is None else np.asarray(target.take(place, axis=2 - axis)) for place in slices
        ]
        pictures = [to_display(np.asarray(pixels.take(place, axis=3 - axis)), limits) for place in slices]
        planes.append(
            Plane(
                axis=axis,
                slices=slices,
                start=start,
                href=stacked_url(
                    [one[::-1] if flipped else one for one in pictures], picture_size(large) // 2
                ),
                size=(size[horizontal], size[vertical]),
                scale=(float(scale[horizontal]), float(scale[vertical])),
                flipped=flipped,
                name=plane_name(direction, axis),
                letters=letters_of(direction, horizontal, vertical, flipped),
                shapes=[_shapes(cut, truth, dataset) for cut, truth in zip(cuts, truths, strict=True)],
                ignored=_ignored(truths),
                window=_enlarged(
                    (window[2 - vertical], window[2 - horizontal]), (size[vertical], size[horizontal])
                ),
            )
        )
    return CaseView(planes)


def _masks(predicted: Labels, target: Labels | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of all classes, and of the differences."""
    if target is None:
        return predicted > 0, np.zeros(predicted.shape, bool)
    known = target != IGNORE
    return known & ((predicted > 0) | (target > 0)), known & (predicted != target)


def _window(foreground: NDArray[np.bool_]) -> tuple[slice, ...]:
    """A box around the foreground, with a margin; the whole plane if there is none."""
    window: list[slice] = []
    for axis in range(foreground.ndim):
        others = tuple(other for other in range(foreground.ndim) if other != axis)
        held = np.flatnonzero(foreground.any(axis=others))
        if not held.size:
            return (slice(None),) * foreground.ndim
        margin = max(ENOUGH_ROOM, int(held[-1] - held[0] + 1) // 4)
        window.append(slice(max(int(held[0]) - margin, 0), int(held[-1]) + 1 + margin))
    return tuple(window)


def _enlarged(window: Sequence[slice], shape: Sequence[int]) -> list[int] | None:
    """(x, y, width, height) of a window (y, x) of a plane (H, W); None: it is most of the plane."""
    ends = [part.indices(size) for part, size in zip(window, shape, strict=True)]
    (top, bottom, _), (left, right, _) = ends
    box = [left, top, right - left, bottom - top]
    return box if box[2] * box[3] < SMALL * shape[0] * shape[1] else None


def _direction(stored: CaseImage) -> Floats | None:
    """(3, 3) the orientation of a file with three axes; the columns are x, y and z."""
    direction = np.asarray(stored.geometry.direction, np.float64)
    return direction.reshape(3, 3) if direction.size == 9 else None


def _shapes(predicted: Labels, target: Labels | None, dataset: SegmentationDataset) -> list[dict[str, Any]]:
    """The outlines of each class, or region, in a slice."""
    present = np.unique(predicted if target is None else np.stack([predicted, target])).tolist()
    return [
        {
            "index": number + 1,
            "predicted": outline(region.mask(predicted)),
            "target": "" if target is None else outline(region.mask(target)),
        }
        for number, region in enumerate(dataset.compared)
        if not set(present).isdisjoint(region.labels)
    ]


def _ignored(targets: Sequence[Labels | None]) -> list[str]:
    """For each slice the region without annotation; empty if all is annotated."""
    paths = ["" if target is None else outline(target == IGNORE) for target in targets]
    return paths if any(paths) else []


def classes_of(names: Sequence[str]) -> list[dict[str, str]]:
    """Name and colour of each class except the background."""
    return [{"name": name, "colour": COLOURS[n % len(COLOURS)]} for n, name in enumerate(names)]
