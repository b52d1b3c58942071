"""COCO keypoints, one object per image: the format of COCO, which CVAT and many other programs export.

https://cocodataset.org/#format-data. The origin is the first pixel's centre, x points right, y points down.
"""

from __future__ import annotations

from dataclasses import replace
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
from lannunet_formats.common import SPLITS, check_size, field, json_of, names_of, objects, once, write_json

UNLABELLED, OCCLUDED, VISIBLE = 0, 1, 2


def matches(path: Path) -> bool:
    """A file, or a folder as CVAT exports it: `annotations/person_keypoints_train.json`."""
    if path.is_dir():
        return bool(_files(path))
    content = json_of(path)
    categories = content.get("categories") if isinstance(content, dict) else None
    return isinstance(categories, list) and any("keypoints" in one for one in categories)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("annotations/*keypoints*.json"))


def read(path: Path, images: Path | None) -> Annotations:
    if path.is_file():
        return _read(path, images)
    parts = []
    for file in _files(path):
        split = SPLITS.get(file.stem.rpartition("_")[2].lower().rstrip("0123456789"))
        part = _read(file, images)
        parts.append(replace(part, images=tuple(replace(one, split=split) for one in part.images)))
    every = tuple(one for part in parts for one in part.images)
    return replace(parts[0], images=every, names=names_of(every, parts[0].names), name=path.name)


def _read(path: Path, images: Path | None) -> Annotations:
    content = read_json(path)
    listed = _by_id(content, "images", path)
    categories = {
        number: one for number, one in _by_id(content, "categories", path).items() if one.get("keypoints")
    }
    shown: dict[Any, list[dict[str, Any]]] = {}
    for one in objects(content, "annotations", str(path)):
        if one.get("iscrowd") or not any(one.get("keypoints") or ()):
            continue
        if one.get("category_id") not in categories:
            raise UserError(
                f"{path}, annotation {terminal_text(one.get('id'))}: has keypoints of the category "
                f"{one.get('category_id')!r:.40}, which has no names of keypoints. Add them to the category."
            )
        shown.setdefault(one.get("image_id"), []).append(one)
    used = list(dict.fromkeys(one["category_id"] for of_image in shown.values() for one in of_image))
    if len(used) > 1:
        known = ", ".join(terminal_text(categories[one].get("name")) for one in used)
        raise UserError(f"{path}: has keypoints of several categories ({known}). Export one of them.")
    names = tuple(map(str, categories[used[0]]["keypoints"])) if used else ()
    finder = ImageFinder(
        images, path.parent, path.parent / "images", path.parent.parent / "images", path.parent.parent
    )
    if unknown := [one for one in shown if one not in listed]:
        raise UserError(f'{path}: annotations are of image {unknown[0]!r:.40}, which is not in "images".')
    found = []
    for number, entry in listed.items():
        where = f"{path}, image {terminal_text(entry.get('file_name', number))}"
        of_image = shown.get(number, [])
        if len(of_image) > 1:
            raise UserError(
                f"{where}: has {len(of_image)} objects with keypoints, but an image may have only one. Crop "
                "one image per object."
            )
        image = finder.named(field(entry, "file_name", str, where), where)
        check_size(image, (entry.get("width"), entry.get("height")), where)
        marks = _marks(of_image[0]["keypoints"], names, where) if of_image else {}
        found.append(Annotated(image, marks, source=where))
    return Annotations(names, tuple(found), name=path.stem)


def _by_id(content: Any, key: str, path: Path) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for one in objects(content, key, str(path)):
        if one["id"] in found:
            raise UserError(f'{path}: two of its "{key}" have the id {one["id"]!r:.40}. Number them again.')
        found[one["id"]] = one
    return found


def _marks(numbers: list[Any], names: tuple[str, ...], where: str) -> dict[str, Mark]:
    if len(numbers) != 3 * len(names):
        raise UserError(
            f"{where}: has {len(numbers)} numbers of keypoints, should have 3 per keypoint of {len(names)}."
        )
    marks: dict[str, Mark] = {}
    for n, name in enumerate(names):
        x, y, visibility = numbers[3 * n : 3 * n + 3]
        if visibility not in (UNLABELLED, OCCLUDED, VISIBLE):
            raise UserError(f"{where}: {name} has visibility {visibility!r:.20}, should have 0, 1 or 2.")
        if visibility != UNLABELLED:
            once(marks, name, mark_of((x, y), where, occluded=visibility == OCCLUDED), where)
    return marks


def write(annotations: Annotations, out: Path) -> None:
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for number, one in enumerate(annotations.images, 1):
        width, height = image_header(one.image, 2).size
        name = relative_to(one.image, out.parent)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        placed = {name: mark for name, mark in one.marks.items() if mark.at is not None}
        if not placed:
            continue
        numbers: list[float] = []
        for name in annotations.names:
            mark = placed.get(name)
            visibility = UNLABELLED if mark is None else OCCLUDED if mark.occluded else VISIBLE
            numbers += [*(mark.at if mark and mark.at else (0, 0)), visibility]
        xs, ys = (axis for axis in zip(*(mark.at for mark in placed.values() if mark.at), strict=True))
        box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
        objects.append(
            {
                "id": len(objects) + 1,
                "image_id": number,
                "category_id": 1,
                "keypoints": numbers,
                "num_keypoints": len(placed),
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
        )
    category = {"id": 1, "name": annotations.name or "object", "keypoints": annotations.names, "skeleton": []}
    write_json({"images": images, "annotations": objects, "categories": [category]}, out)


COCO = LandmarkFormat(
    "coco",
    "COCO keypoints",
    matches,
    read,
    write,
    dimensions=(2,),
    holds=frozenset({"occluded", "unannotated"}),
    file="annotations.json",
)
