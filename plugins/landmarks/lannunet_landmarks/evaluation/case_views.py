"""The cases of a report, as `lannunet_report.CaseView`: images, marks, maps and regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lannunet_report import (
    CaseView,
    Plane,
    chosen_slices,
    heat_colours,
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
from lannunet_landmarks.types import Heat, Prediction

MOST_THROUGH = 8  # landmarks with their own slices in a small picture of a volume


def case_view(
    prediction: Prediction,
    names: Sequence[str],
    errors: Floats,
    unit: str,
    pixels: NDArray[Any],
    large: bool,
) -> CaseView:
    """The view of a case, focused on its largest error; without annotation on its least confident landmark.

    Args:
        prediction: Prediction of the case.
        names: Names of the N landmarks.
        errors: (N,) in `unit`, NaN where there is none.
        unit: `mm` or `px`.
        pixels: (C, *S) in the frame of the coordinates.
        large: Whether pictures are large, and volumes have slices to scroll through.
    """
    dimensions = pixels.ndim - 1
    spacing = np.asarray(prediction.spacing or (1.0,) * dimensions)
    target = np.full_like(prediction.coordinates, np.nan) if prediction.target is None else prediction.target
    focus = focus_of(prediction, errors)
    radii = region_radii(prediction)
    marks = [
        {
            "name": name,
            "text": said_of(prediction, n, name, errors, unit),
            "figure": f"{errors[n]:.2f} {unit}"
            if np.isfinite(errors[n])
            else f"{prediction.confidence[n]:.2f}",
            "prediction": _point(prediction.coordinates[n]),
            "target": _point(target[n]),
            "radius": None if radii is None or not np.isfinite(radii[n]).all() else _point(radii[n]),
        }
        for n, name in enumerate(names)
    ]
    shown, scale = to_display(pixels), spacing / spacing.min()
    if dimensions == 2:
        planes = [_picture(shown, scale, prediction.heat, large)]
    else:
        ranked = np.argsort(-np.nan_to_num(errors, nan=-1.0), kind="stable")
        through = np.where(np.isnan(target), prediction.coordinates, target)
        planes = _planes(shown, scale, prediction, through[[focus, *ranked]], large)
    return CaseView(planes, marks, focus)


def focus_of(prediction: Prediction, errors: Floats) -> int:
    """The landmark with the largest error; without annotation, the least confident one."""
    if np.isfinite(errors).any():
        return int(np.nanargmax(errors))
    return int(np.argmin(np.nan_to_num(prediction.confidence)))


def said_of(prediction: Prediction, n: int, name: str, errors: Floats, unit: str) -> str:
    """A line about a landmark: its error, confidence, presence and region."""
    told = [f"{errors[n]:.2f} {unit} off"] if np.isfinite(errors[n]) else []
    told.append(f"confidence {prediction.confidence[n]:.2f}")
    if prediction.presence is not None:
        told.append(f"present with probability {prediction.presence[n]:.2f}")
    if prediction.calibrated is not None and np.isfinite(prediction.calibrated.radius[n]):
        told.append(f"region of {prediction.calibrated.radius[n]:.2f} {prediction.calibrated.unit}")
    return f"{name}: {', '.join(told)}"


def region_radii(prediction: Prediction) -> Floats | None:
    """(N, D) in pixels: the radius of the calibrated region, else the radius that confidence refers to."""
    count, dimensions = prediction.coordinates.shape
    if prediction.calibrated is not None:
        radius, unit = prediction.calibrated.radius, prediction.calibrated.unit
    elif prediction.within is not None:
        radius, unit = np.full(count, prediction.within[0]), prediction.within[1]
    else:
        return None
    spacing = np.asarray(prediction.spacing or (1.0,) * dimensions) if unit == "mm" else np.ones(dimensions)
    return np.asarray(radius[:, None] / spacing, np.float64)


def _point(point: Floats) -> list[float] | None:
    return [round(float(value), 2) for value in point] if np.isfinite(point).all() else None


def _picture(shown: NDArray[np.uint8], scale: Floats, heat: Heat | None, large: bool) -> Plane:
    height, width = shown.shape[:2]
    layer: dict[str, Any] = (
        {} if heat is None else {"heat": stacked_url([heat_colours(heat.values)]), "heat_box": heat.box()}
    )
    return Plane(
        axis=None,
        slices=[0],
        start=0,
        href=stacked_url([shown], picture_size(large)),
        size=(width, height),
        scale=(float(scale[0]), float(scale[1])),
        **layer,
    )


def _planes(
    shown: NDArray[np.uint8], scale: Floats, prediction: Prediction, through: Floats, large: bool
) -> list[Plane]:
    """The three planes of a volume (z, y, x, 3), through points (P, 3); the first point is shown first."""
    world = prediction.world
    direction = None
    if world is not None and world.matrix.shape == (3, 3):
        direction = world.matrix / np.linalg.norm(world.matrix, axis=0)
    if not large:
        through = through[:MOST_THROUGH]
    size = shown.shape[2::-1]
    planes = []
    for axis, horizontal, vertical in planes_of(3):
        slices = chosen_slices(size[axis], through[:, axis].tolist(), large)
        flipped = vertical == 2 and points_up(direction)
        cuts = [_cut(shown, axis, place, flipped) for place in slices]
        start = through[0, axis]
        layer: dict[str, Any] = {}
        heat = prediction.heat
        if heat is not None:
            cut_heat = [_cut(heat.values, axis, heat.index(axis, place), flipped) for place in slices]
            layer["heat"] = stacked_url([heat_colours(one) for one in cut_heat])
            layer["heat_box"] = heat.box(horizontal, vertical)
        planes.append(
            Plane(
                axis=axis,
                slices=slices,
                start=min(slices, key=lambda place: abs(place - (0 if np.isnan(start) else start))),
                href=stacked_url(cuts, picture_size(large) // 2),
                size=(size[horizontal], size[vertical]),
                scale=(float(scale[horizontal]), float(scale[vertical])),
                flipped=flipped,
                name=plane_name(direction, axis),
                letters=letters_of(direction, horizontal, vertical, flipped),
                **layer,
            )
        )
    return planes


def _cut(values: NDArray[Any], axis: int, place: int, flipped: bool) -> NDArray[Any]:
    """The slice `place` of a volume (z, y, x, …) perpendicular to the axis (x, y, z)."""
    cut = np.asarray(values.take(place, axis=2 - axis))
    return cut[::-1] if flipped else cut
