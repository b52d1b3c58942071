"""Label Studio's JSON: a list of tasks, each an image with `keypointlabels`.

https://labelstud.io/tags/keypointlabels. Coordinates are percentages of the image's width and height, from
its corner.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

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
from lannunet_formats.common import HALF, check_size, field, json_of, names_of, objects, once, write_json

UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # prefix of the name of an uploaded file
KIND = "keypointlabels"


def matches(path: Path) -> bool:
    content = json_of(path)
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and "data" in first and ("annotations" in first or "completions" in first)


def read(path: Path, images: Path | None) -> Annotations:
    finder = ImageFinder(images, path.parent, path.parent / "images")
    found = []
    for number, task in enumerate(read_json(path), 1):
        where = f"{path}, task {terminal_text(task.get('id', number))}"
        results = _results(task, where)
        image = _image(field(task, "data", dict, where), finder, where)
        marks: dict[str, Mark] = {}
        for result in results:
            size = (result.get("original_width"), result.get("original_height"))
            width, height = check_size(image, size, where)
            if result.get("image_rotation"):
                raise UserError(f"{where}: the image was rotated in Label Studio. Undo the rotation there.")
            value = field(result, "value", dict, where)
            names = field(value, KIND, list, where)
            if len(names) != 1:
                raise UserError(f"{where}: a point has {len(names)} labels, should have one.")
            x, y = mark_of((value.get("x"), value.get("y")), where).at or ()
            once(marks, str(names[0]), Mark((x / 100 * width - HALF, y / 100 * height - HALF)), where)
        found.append(Annotated(image, marks, source=where))
    return Annotations(names_of(found), tuple(found), name=path.stem)


def _results(task: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The points of the annotation that is used."""
    given = task.get("annotations", task.get("completions")) or []
    every = [one for one in given if not one.get("was_cancelled")]
    chosen = [one for one in every if one.get("ground_truth")] or every
    if len(chosen) > 1:
        raise UserError(
            f"{where}: has {len(chosen)} annotations. Keep one, or mark one of them as ground truth."
        )
    results = [result for one in chosen for result in objects(one, "result", where)]
    return [result for result in results if result.get("type") == KIND]


def _image(data: dict[str, Any], finder: ImageFinder, where: str) -> Path:
    named = next((str(data[key]) for key in ("image", "img") if key in data), None)
    if named is None:
        texts = [value for value in data.values() if isinstance(value, str)]
        if len(texts) != 1:
            raise UserError(f'{where}: "data" does not name its image (image: …).')
        (named,) = texts
    address = urlsplit(named)
    local = parse_qs(address.query).get("d")  # /data/local-files/?d=folder/x.png
    name = local[0] if local else unquote(address.path)
    try:
        return finder.named(name, where)
    except UserError:
        last = name.rpartition("/")[2]
        if UPLOADED.match(last):
            return finder.named(UPLOADED.sub("", last), where)
        raise


def write(annotations: Annotations, out: Path) -> None:
    tasks = []
    for number, one in enumerate(annotations.images, 1):
        width, height = image_header(one.image, 2).size
        results = []
        for name in annotations.names:
            mark = one.marks.get(name)
            if mark is None or mark.at is None:
                continue
            x, y = ((value + HALF) / side * 100 for value, side in zip(mark.at, (width, height), strict=True))
            results.append(
                {
                    "id": f"{number}-{name}",
                    "type": KIND,
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": width,
                    "original_height": height,
                    "image_rotation": 0,
                    "value": {"x": x, "y": y, "width": 0.5, KIND: [name]},
                }
            )
        image = relative_to(one.image, out.parent)
        tasks.append({"id": number, "data": {"image": image}, "annotations": [{"result": results}]})
    write_json(tasks, out)


LABEL_STUDIO = LandmarkFormat(
    "label-studio",
    "Label Studio",
    matches,
    read,
    write,
    dimensions=(2,),
    holds=frozenset({"unannotated"}),
    file="annotations.json",
)
