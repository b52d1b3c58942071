"""LabelMe: one JSON per image, with one shape of type `point` per landmark.

https://github.com/wkentaro/labelme. The origin is the image's corner, so the first pixel's centre is at
(0.5, 0.5); images are shown in the orientation of their EXIF tag.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lannunet_landmarks import (
    Annotated,
    Annotations,
    ImageFinder,
    LandmarkFormat,
    Mark,
    mark_of,
    read_json,
    relative_to,
)

from lannunet_core import UserError, image_header, terminal_text
from lannunet_formats.common import (
    FEW,
    HALF,
    check_size,
    field,
    file_of,
    files_in,
    json_of,
    names_of,
    objects,
    once,
    write_json,
)

VERSION = "5.5.0"
OCCLUDED = "occluded"  # a flag of a shape


def matches(path: Path) -> bool:
    """Whether it is a file of LabelMe, or a folder that contains one; other JSON files may be there."""
    if path.is_dir():
        return any(matches(file) for file in files_in(path, ".json")[:FEW])
    return _is_labelme(json_of(path))


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read(path: Path, images: Path | None) -> Annotations:
    files = [path] if path.is_file() else files_in(path, ".json")
    found, left, foreign = [], 0, 0
    for file in files:
        content = read_json(file)
        if path.is_dir() and not _is_labelme(content):
            foreign += 1
            continue
        marks, others = _marks(objects(content, "shapes", str(file)), str(file))
        left += others
        image = _image(content, file, images)
        check_size(image, (content.get("imageWidth"), content.get("imageHeight")), str(file))
        found.append(Annotated(image, marks, source=str(file)))
    notes = [f"{path}: {left} shapes that are not points are left out."] if left else []
    if foreign:
        notes.append(f"{path}: {foreign} JSON files that are not of LabelMe are left out.")
    return Annotations(names_of(found), tuple(found), name=path.stem, notes=tuple(notes))


def _image(content: Mapping[str, Any], file: Path, images: Path | None) -> Path:
    named = field(content, "imagePath", str, str(file))
    try:
        return ImageFinder(images, file.parent).named(named, str(file))
    except UserError as error:
        if content.get("imageData"):
            raise UserError(f"{error} The copy inside the JSON is not read.") from None
        raise


def _marks(shapes: list[Any], where: str) -> tuple[dict[str, Mark], int]:
    """The points, and the number of other shapes."""
    marks: dict[str, Mark] = {}
    left = 0
    for shape in shapes:
        if shape.get("shape_type") != "point":
            left += 1
            continue
        name = field(shape, "label", str, where)
        point = field(shape, "points", list, where)
        if len(point) != 1 or len(point[0]) != 2:
            raise UserError(f"{where}: point {terminal_text(name)} is {point!r:.60}, should be [[x, y]].")
        placed = mark_of(point[0], where)
        x, y = placed.at or ()
        hidden = bool((shape.get("flags") or {}).get(OCCLUDED))
        once(marks, name, Mark((x - HALF, y - HALF), occluded=hidden), where)
    return marks, left


def write(annotations: Annotations, out: Path) -> None:
    files = [file_of(out, one, ".json") for one in annotations.images]
    out.mkdir(parents=True)
    for one, file in zip(annotations.images, files, strict=True):
        width, height = image_header(one.image, 2).size
        shapes = [
            {
                "label": name,
                "points": [[value + HALF for value in mark.at]],
                "group_id": None,
                "description": "",
                "shape_type": "point",
                "flags": {OCCLUDED: True} if mark.occluded else {},
                "mask": None,
            }
            for name in annotations.names
            if (mark := one.marks.get(name)) is not None and mark.at is not None
        ]
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": relative_to(one.image, out),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_json(content, file)


LABELME = LandmarkFormat(
    "labelme", "LabelMe", matches, read, write, dimensions=(2,), holds=frozenset({"occluded", "unannotated"})
)
