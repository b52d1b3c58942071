"""CVAT for images 1.1: one XML, with points or one skeleton per image.

https://docs.cvat.ai/docs/manual/advanced/xml_format/. The origin is the image's corner, so the first pixel's
centre is at (0.5, 0.5). A point that is `outside` is absent.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from lannunet_landmarks import Annotated, Annotations, ImageFinder, LandmarkFormat, Mark, mark_of, relative_to

from lannunet_core import UserError, atomic_path, image_header, terminal_text
from lannunet_formats.common import HALF, SPLITS, check_size, names_of, once

NAME = "annotations.xml"  # in the folder that CVAT exports


def matches(path: Path) -> bool:
    """The XML, or the folder that CVAT exports."""
    file = path / NAME if path.is_dir() else path
    if file.suffix.lower() != ".xml" or not file.is_file():
        return False
    with file.open("rb") as opened:
        _, root = next(iter(ET.iterparse(opened, ["start"])))
    return bool(root.tag == "annotations")


def read(path: Path, images: Path | None) -> Annotations:
    file = path / NAME if path.is_dir() else path
    try:
        root = ET.parse(file).getroot()
    except ET.ParseError as error:
        line, column = error.position
        raise UserError(f"{file}, line {line}, column {column}: malformed XML.") from None
    if root.find("track") is not None:
        raise UserError(f"{file}: is CVAT's export for videos. Export the task as CVAT for images 1.1.")
    labels = [one.text or "" for one in root.findall(".//label/name")]
    finder = ImageFinder(images, file.parent, file.parent / "images")
    found, left = [], 0
    for element in root.iter("image"):
        where = f"{file}, image {terminal_text(element.get('name'))}"
        image = finder.named(_attribute(element, "name", where), where)
        check_size(image, (element.get("width"), element.get("height")), where)
        split = SPLITS.get((element.get("subset") or "").lower())
        marks = _marks(element, labels, where)
        left += sum(shape.tag not in ("points", "skeleton", "tag") for shape in element)
        found.append(Annotated(image, marks, split=split, source=where))
    notes = (f"{file}: {left} shapes that are not points are left out.",) if left else ()
    return Annotations(names_of(found, labels), tuple(found), name=path.stem, notes=notes)


def _marks(image: ET.Element, labels: Sequence[str], where: str) -> dict[str, Mark]:
    skeletons = image.findall("skeleton")
    if len(skeletons) > 1:
        raise UserError(
            f"{where}: has {len(skeletons)} skeletons, but an image may have only one. Crop one image per "
            "skeleton."
        )
    marks: dict[str, Mark] = {}
    for shape in (*image.findall("points"), *(part for one in skeletons for part in one.findall("points"))):
        label = _attribute(shape, "label", where)
        if labels and label not in labels:
            raise UserError(
                f"{where}: {terminal_text(label)} is not one of the task's labels ({', '.join(labels):.200})."
            )
        points = [point.split(",") for point in _attribute(shape, "points", where).split(";")]
        for number, point in enumerate(points, 1):
            name = label if len(points) == 1 else f"{label}-{number}"
            if shape.get("outside") == "1":
                once(marks, name, Mark(None), where)
                continue
            placed = mark_of(point, f"{where}, {terminal_text(name)}")
            if placed.at is None or len(placed.at) != 2:
                raise UserError(f"{where}: {terminal_text(name)} is {point!r:.60}, should be x,y.")
            x, y = placed.at
            once(marks, name, Mark((x - HALF, y - HALF), shape.get("occluded") == "1"), where)
    return marks


def _attribute(element: ET.Element, name: str, where: str) -> str:
    if (found := element.get(name)) is None:
        raise UserError(f"{where}: <{element.tag}> has no {name}.")
    return found


def write(annotations: Annotations, out: Path) -> None:
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for name in annotations.names:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "type").text = "points"
    for number, one in enumerate(annotations.images):
        width, height = image_header(one.image, 2).size
        attributes = {"id": str(number), "name": relative_to(one.image, out.parent)}
        if one.split:
            attributes["subset"] = one.split.capitalize()
        image = ET.SubElement(root, "image", {**attributes, "width": str(width), "height": str(height)})
        for name in annotations.names:
            mark = one.marks.get(name)
            if mark is None or mark.at is None:
                continue
            points = ",".join(repr(value + HALF) for value in mark.at)
            hidden = "1" if mark.occluded else "0"
            shape = {"label": name, "source": "file", "occluded": hidden, "points": points, "z_order": "0"}
            ET.SubElement(image, "points", shape)
    ET.indent(root)
    with atomic_path(out) as temporary:
        ET.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


CVAT = LandmarkFormat(
    "cvat",
    "CVAT for images",
    matches,
    read,
    write,
    dimensions=(2,),
    holds=frozenset({"occluded", "splits", "unannotated"}),
    file="annotations.xml",
)
