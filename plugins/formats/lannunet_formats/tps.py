"""tps files of tpsDig and geomorph: one block per specimen, with landmarks by number.

y points up from the image's lower edge, y = height − (y downwards), unless the user states that it points
down. In TPS the bottom is 0, while image programs have 0 at the top, according to StereoMorph's manual
(TPSToShapes); ml-morph reads height − y, which is right for its example images. A landmark with a negative
coordinate, or `NA`, is missing. Coordinates are in pixels regardless of SCALE, which becomes the field
`scale`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lannunet_landmarks import Annotated, Annotations, ImageFinder, LandmarkFormat, Mark, mark_of, relative_to

from lannunet_core import UserError, image_header, terminal_text, write_text
from lannunet_formats.common import first_line, text_of

POINTS = ("LM", "LM3")


class Block(NamedTuple):
    line: int
    points: list[list[str]]
    fields: dict[str, str]
    curves: int


def matches(path: Path) -> bool:
    if path.suffix.lower() not in (".tps", ".txt"):
        return False
    return first_line(path).partition("=")[0].strip().upper() in POINTS


def read(path: Path, images: Path | None, y_up: bool | None) -> Annotations:
    finder = ImageFinder(images, path.parent, path.parent / "images")
    found: list[Annotated] = []
    turns, curves, negative, count = 0, 0, 0, None
    for block in _blocks(path):
        where = f"{path}, line {block.line}"
        if count is not None and len(block.points) != count:
            raise UserError(f"{where}: has {len(block.points)} landmarks, but the first block has {count}.")
        count, curves = len(block.points), curves + block.curves
        named, name = block.fields.get("IMAGE"), block.fields.get("ID")
        if named is None and name is None:
            raise UserError(f"{where}: has neither IMAGE= nor ID=, so its image is unknown.")
        image = finder.named(named, where) if named else finder.of_case(str(name), where)
        marks = {
            str(number): mark_of(point, f"{where}, landmark {number}")
            for number, point in enumerate(block.points, 1)
            if not _is_missing(point)
        }
        negative += sum(_is_missing(point) and "NA" not in map(str.upper, point) for point in block.points)
        extra = {
            key.lower(): value for key, value in block.fields.items() if key in ("ID", "SCALE", "COMMENT")
        }
        one = Annotated(
            image, marks, extra={f"tps_{key}": value for key, value in extra.items()}, source=where
        )
        up = y_up is not False and bool(block.points) and len(block.points[0]) == 2
        turns, found = turns + up, [*found, turned(one) if up else one]
    notes = [f"{path}: {curves} curves are left out."] if curves else []
    if turns and y_up is None:
        notes.append(
            f"{path}: y is assumed to point up, as tpsDig writes it. If it points down, set --y-down."
        )
    if negative:
        notes.append(f"{path}: {negative} landmarks with a negative coordinate are read as missing.")
    names = tuple(str(n + 1) for n in range(count or 0))
    return Annotations(names, tuple(found), name=path.stem, notes=tuple(notes))


def _is_missing(point: list[str]) -> bool:
    """Whether it is NA or outside of a 2D image; world coordinates of a volume may be negative."""
    outside = len(point) == 2 and any(value.startswith("-") for value in point)
    return outside or "NA" in map(str.upper, point)


def _blocks(path: Path) -> Iterator[Block]:
    lines = iter(list(enumerate(text_of(path).splitlines(), 1)))
    block: Block | None = None
    for number, line in lines:
        key, equals, value = (part.strip() for part in line.partition("="))
        key = key.upper()
        if not line.strip():
            continue
        if not equals:
            raise UserError(f"{path}, line {number}: '{terminal_text(line):.40}' is not KEY=VALUE.")
        if key in POINTS:
            if block is not None:
                yield block
            count = _count(value, f"{path}, line {number}")
            block = Block(number, _points(lines, count, 3 if key == "LM3" else 2, path), {}, 0)
        elif block is None:
            raise UserError(f"{path}, line {number}: precedes the first LM=.")
        elif key == "CURVES":
            block = block._replace(curves=block.curves + _count(value, f"{path}, line {number}"))
        elif key == "POINTS":  # of a curve
            _points(lines, _count(value, f"{path}, line {number}"), 2, path)
        else:
            block.fields[key] = value
    if block is not None:
        yield block


def _count(value: str, where: str) -> int:
    if not value.isdecimal():
        raise UserError(f"{where}: '{terminal_text(value):.40}' is not a count.")
    return int(value)


def _points(lines: Iterator[tuple[int, str]], count: int, axes: int, path: Path) -> list[list[str]]:
    points = []
    for _ in range(count):
        number, line = next(lines, (0, ""))
        if len(line.split()) != axes or "=" in line:
            place = f", line {number}" if number else ", at its end"
            raise UserError(f"{path}{place}: '{terminal_text(line):.40}' is not a point of {axes} numbers.")
        points.append(line.split())
    return points


def turned(one: Annotated) -> Annotated:
    height = image_header(one.image, 2).size[1]
    marks = {
        name: mark if mark.at is None else replace(mark, at=(mark.at[0], height - mark.at[1]))
        for name, mark in one.marks.items()
    }
    return replace(one, marks=marks)


def write(annotations: Annotations, out: Path) -> None:
    lines = []
    for number, one in enumerate(annotations.images):
        points = [one.marks.get(name, Mark(None)).at for name in annotations.names]
        axes = max((len(point) for point in points if point), default=2)
        if axes == 2:
            shown = turned(one)
            points = [shown.marks.get(name, Mark(None)).at for name in annotations.names]
        lines.append(f"{'LM3' if axes == 3 else 'LM'}={len(points)}")
        missing = "-1 -1" if axes == 2 else "NA NA NA"
        lines += [missing if point is None else " ".join(map(repr, point)) for point in points]
        lines += [f"IMAGE={relative_to(one.image, out.parent)}", f"ID={number}"]
    write_text(out, "\n".join(lines) + "\n")


TPS = LandmarkFormat(
    "tps",
    "a tps file",
    matches,
    read,
    write,
    holds=frozenset({"unannotated"}),
    file="landmarks.tps",
)
