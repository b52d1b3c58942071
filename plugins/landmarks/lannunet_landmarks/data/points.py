"""The landmarks of an entry of the JSON: a point for each, null, or "absent"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Floats, State, UserError

LARGEST = 1e9  # pixels or mm


class Points(NamedTuple):
    """All N landmarks of one entry.

    Attributes:
        coordinates: (N, D) as written in the JSON, NaN where there is none.
        states: (N,) of `State`.
        occluded: (N,) whether the landmark is hidden, although its position is given.
    """

    coordinates: Floats
    states: NDArray[np.int64]
    occluded: NDArray[np.bool_]


def read_points(where: str, entry: Mapping[str, Any], must: bool, shape: tuple[int, int]) -> Points:
    """Read the landmarks of one entry.

    Args:
        where: Name of the entry in messages.
        entry: The entry.
        must: Whether it has to be annotated.
        shape: Number of landmarks and of dimensions.
    """
    count, dimensions = shape
    coordinates = np.full((count, dimensions), np.nan)
    states = np.full(count, State.UNLABELLED, np.int64)
    occluded = np.zeros(count, dtype=bool)
    points, annotated = entry.get("coordinates"), entry.get("has_annotation", True)
    if not isinstance(annotated, bool):
        raise UserError(
            f'{where}: "has_annotation" is {shown(annotated)}; it must be true or false, without quotes.'
        )
    if points is None or not annotated:
        lacks = "has no coordinates" if points is None else 'says "has_annotation": false'
        if must:
            raise UserError(f"{where}: {lacks}. Annotate it, or move it to another list.")
        if entry.get("has_annotation") is not False:
            raise UserError(f'{where}: has no coordinates. Set "has_annotation": false if that is intended.')
        return Points(coordinates, states, occluded)
    if not isinstance(points, list) or len(points) != count:
        found = f"{len(points)} landmarks" if isinstance(points, list) else f"{points!r:.60}"
        raise UserError(
            f"{where}: has {found} where the others have {count}. Write null for one without annotation."
        )
    for landmark, written in enumerate(points):
        if written is None:
            continue
        if written == "absent":
            states[landmark] = State.ABSENT
            continue
        point, occluded[landmark] = _placed(where, landmark, written)
        if not isinstance(point, list) or not all(is_number(value) for value in point):
            raise UserError(
                f"{where}: landmark {landmark} is {shown(written)}; "
                'it must be a list of numbers, null or "absent".'
            )
        if len(point) != dimensions:
            raise UserError(
                f"{where}: landmark {landmark} is {point!r:.60} where the others have {dimensions} "
                "dimensions."
            )
        if not all(abs(value) < LARGEST for value in point):  # also false for NaN
            raise UserError(
                f"{where}: landmark {landmark} is {point}, which is not finite, or outside of any image. "
                "Write null instead."
            )
        coordinates[landmark] = point
        states[landmark] = State.VISIBLE
    return Points(coordinates, states, occluded)


def place_of(written: Any) -> Any:
    """The point in `{"at": [x, y], "occluded": true}` or `[x, y]`."""
    return written.get("at") if isinstance(written, dict) else written


def _placed(where: str, landmark: int, written: Any) -> tuple[Any, bool]:
    if not isinstance(written, dict):
        return written, False
    occluded = written.get("occluded", False)
    if written.keys() - {"at", "occluded"} or not isinstance(occluded, bool):
        raise UserError(
            f"{where}: landmark {landmark} is {shown(written)}; an object must be "
            '{"at": [x, y], "occluded": true}.'
        )
    return place_of(written), occluded


def shown(value: Any) -> str:
    """A value as JSON, shortened."""
    return f"{json.dumps(value):.60}"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
