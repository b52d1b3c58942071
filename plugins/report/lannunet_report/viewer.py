"""The case viewer of a page: layers to toggle, slices to scroll, pictures within a size budget.

The page holds a record of each case (JSON), which `viewer.js` draws. Pictures are WebP; the slices of a plane
are stacked in one picture. Marks and outlines are numbers and paths in pixels of the image.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lannunet_core import Floats

T = TypeVar("T")

PAGE_BYTES = 5_000_000
FOR_PICTURES = 3_800_000  # bytes; the rest is for tables and charts
LARGE, SMALL = 640, 288  # pixels of a picture's longer side
SHARE_OF_LARGE = 0.5  # of the budget
MOST_SLICES = 24  # per plane
QUALITY = 72
LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))  # where x, y and z of the patient (LPS) point to and come from
NAMES = ("sagittal", "coronal", "axial")


@dataclass(frozen=True)
class Plane:
    """A picture, or the slices of a volume perpendicular to one axis.

    Attributes:
        axis: Axis of (x, y, z) that the slices are numbered along; None: a picture.
        slices: Indices of the slices.
        start: Slice to show first.
        href: The stacked slices, as a data URI.
        size: (width, height) of a slice in pixels of the image.
        scale: (x, y) size of a pixel on the page.
        flipped: Whether the last row is shown at the top, as if z points up.
        name: Name, such as `axial`; empty: unknown.
        letters: Letters of the patient's directions at (left, right, top, bottom); None: unknown.
        heat: Stacked heatmaps of the slices; None: there are none.
        heat_box: (x, y, width, height) that a heatmap covers, in pixels of the image.
        shapes: For each slice, for each class in it: its `index` and the paths of `predicted`, `target`.
        ignored: For each slice, the path of the region without annotation.
        window: (x, y, width, height) in pixels of the image, shown enlarged: beside a picture, or instead of
            a whole plane; None: none.
    """

    axis: int | None
    slices: Sequence[int]
    start: int
    href: str
    size: tuple[int, int]
    scale: tuple[float, float]
    flipped: bool = False
    name: str = ""
    letters: Sequence[str] | None = None
    heat: str | None = None
    heat_box: Sequence[float] | None = None
    shapes: Sequence[Sequence[Mapping[str, Any]]] = ()
    ignored: Sequence[str] = ()
    window: Sequence[int] | None = None


@dataclass(frozen=True)
class CaseView:
    """A case on the page.

    Attributes:
        planes: One picture, or three planes.
        marks: Landmarks: `name`, `text`, `prediction` and `target` (x, y[, z] or None), `radius` of its
            region along x, y[, z] (or None), and `figure` beside its name.
        focus: Index of the first selected mark; None: none.
    """

    planes: Sequence[Plane]
    marks: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    focus: int | None = None

    def as_json(self) -> str:
        planes = [
            {
                k: v
                for k, v in vars(plane).items()
                if v is not None and not (isinstance(v, (list, tuple, str)) and not v)
            }
            for plane in self.planes
        ]
        return json.dumps(
            {"planes": planes, "marks": list(self.marks), "focus": self.focus}, separators=(",", ":")
        )


def case_views(
    cases: Sequence[T], view: Callable[[T, bool], CaseView], first: int, limit: float | None
) -> list[Markup | None]:
    """The records of cases, as JSON for the page; None for those that exceed the budget.

    Args:
        cases: Cases, the most important ones first.
        view: Creates a view, with large or with small pictures.
        first: Largest number of cases with large pictures.
        limit: Bytes; None: all cases have large pictures.
    """
    found: list[Markup | None] = []
    left = float("inf") if limit is None else limit
    for number, case in enumerate(cases):
        large = limit is None or (number < first and left > (1 - SHARE_OF_LARGE) * limit)
        if left <= 0:
            found.append(None)
            continue
        text = view(case, large).as_json().replace("<", "\\u003c")  # cannot end a script element
        left -= len(text.encode())
        found.append(Markup(text) if left > 0 else None)
    return found


def webp_url(shown: NDArray[np.uint8], lossless: bool = False) -> str:
    """A picture (H, W, 3 or 4) as a data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(shown)).save(
        buffer, "WEBP", quality=QUALITY, lossless=lossless, method=4
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture_size(large: bool) -> int:
    """Pixels of a picture's longer side."""
    return LARGE if large else SMALL


def stacked_url(pictures: Sequence[NDArray[np.uint8]], longest: int = LARGE) -> str:
    """Pictures of one size (H, W, 3 or 4), stacked, not larger than they are shown."""
    from PIL import Image

    height, width = pictures[0].shape[:2]
    shrunk = min(longest / max(height, width), 1.0)
    size = (max(round(width * shrunk), 1), max(round(height * shrunk), 1))
    small = [
        np.asarray(Image.fromarray(np.ascontiguousarray(one)).resize(size, Image.Resampling.LANCZOS))
        if size != (width, height)
        else one
        for one in pictures
    ]
    return webp_url(np.concatenate(small))


def heat_colours(heat: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Maps (H, W) from 0 to 255 as colours (H, W, 4), dark red to yellow, transparent at 0."""
    share = heat.astype(np.float32) / 255
    colours = np.stack([0.45 + 0.55 * share, share**1.5, 0.1 * share, 0.85 * np.sqrt(share)], axis=-1)
    return np.asarray((colours * 255).round(), np.uint8)


def chosen_slices(size: int, wanted: Sequence[float], large: bool) -> list[int]:
    """Indices of slices: through the wanted positions, and evenly between them if pictures are large."""
    places = [int(np.clip(round(place), 0, size - 1)) for place in wanted if np.isfinite(place)]
    found = set(list(dict.fromkeys(places))[:MOST_SLICES]) or {size // 2}
    if large:
        found |= set(np.linspace(0, size - 1, min(size, MOST_SLICES // 2)).round().astype(int).tolist())
    return sorted(found)


def letters_of(direction: Floats | None, horizontal: int, vertical: int, flipped: bool) -> list[str] | None:
    """The patient's letters at (left, right, top, bottom) of a plane.

    Args:
        direction: (3, 3) the columns are the unit vectors of x, y and z in the patient (LPS); None: unknown.
        horizontal: Axis of (x, y, z) that points to the right.
        vertical: Axis that points down, unless `flipped`.
        flipped: Whether it points up.
    """
    if direction is None or direction.shape != (3, 3):
        return None
    right, left = _ends(direction[:, horizontal])
    bottom, top = _ends(direction[:, vertical])
    return [left, right, *((bottom, top) if flipped else (top, bottom))]


def plane_name(direction: Floats | None, axis: int) -> str:
    """The medical name of the plane perpendicular to an axis of the image."""
    if direction is None or direction.shape != (3, 3):
        return ""
    return NAMES[int(np.abs(direction[:, axis]).argmax())]


def points_up(direction: Floats | None) -> bool:
    """Whether the axis z of an image points to the patient's head; True if unknown."""
    return direction is None or direction.shape != (3, 3) or _ends(direction[:, 2])[0] != "I"


def _ends(vector: Floats) -> tuple[str, str]:
    """The patient's directions that a direction of the image points to, and comes from."""
    axis = int(np.abs(vector).argmax())
    to, come = LETTERS[axis]
    return (to, come) if vector[axis] > 0 else (come, to)


def planes_of(depth: int) -> Iterator[tuple[int, int, int]]:
    """(axis, horizontal, vertical) of the planes of an image of this many dimensions: of (x, y, z)."""
    yield from ((2, 0, 1), (1, 0, 2), (0, 1, 2)) if depth == 3 else ()
