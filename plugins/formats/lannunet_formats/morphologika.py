"""Morphologika's text files: specimens with the same number of landmarks, 2D or 3D.

The image of a specimen has its name. Coordinates are in pixels from the first pixel's centre; y points down
unless the user states otherwise. `NA` is a missing landmark, as geomorph writes it.
"""

from __future__ import annotations

from pathlib import Path

from lannunet_landmarks import (
    Annotated,
    Annotations,
    ImageFinder,
    LandmarkFormat,
    Mark,
    mark_of,
    without_suffix,
)

from lannunet_core import UserError, terminal_text, write_text
from lannunet_formats.common import first_line, text_of
from lannunet_formats.table import turned

MISSING = "NA"


def matches(path: Path) -> bool:
    if path.suffix.lower() not in (".txt", ".morphologika"):
        return False
    return first_line(path).strip().lower() == "[individuals]"


def read(path: Path, images: Path | None, y_up: bool | None) -> Annotations:
    parts = _parts(path)
    individuals, landmarks, dimensions = (
        _count(parts, name, path) for name in ("individuals", "landmarks", "dimensions")
    )
    names = [line for _, line in _part(parts, "names", path)]
    # A line with the name or the number of a specimen begins with an apostrophe.
    points = [(number, line) for number, line in _part(parts, "rawpoints", path) if not line.startswith("'")]
    if len(names) != individuals or len(points) != individuals * landmarks:
        raise UserError(
            f"{path}: states {individuals} individuals of {landmarks} landmarks, but has {len(names)} "
            f"names and {len(points)} points."
        )
    labels = [label for _, line in parts.get("labels", []) for label in line.split()]
    values = [line.split() for _, line in parts.get("labelvalues", [])]
    finder = ImageFinder(images, path.parent, path.parent / "images")
    found = []
    for n, name in enumerate(names):
        marks: dict[str, Mark] = {}
        for k, (number, line) in enumerate(points[n * landmarks : (n + 1) * landmarks], 1):
            numbers = line.replace(",", " ").split()
            if len(numbers) != dimensions:
                raise UserError(
                    f"{path}, line {number}: '{terminal_text(line):.40}' is not a point of {dimensions} "
                    "numbers."
                )
            if MISSING not in numbers:
                marks[str(k)] = mark_of(numbers, f"{path}, line {number}")
        extra = dict(zip(labels, values[n], strict=False)) if n < len(values) else {}
        where = f"{path}, {terminal_text(name)}"
        one = Annotated(finder.of_case(name, where), marks, extra=extra, source=where)
        found.append(turned(one) if y_up and dimensions == 2 else one)
    return Annotations(tuple(str(k + 1) for k in range(landmarks)), tuple(found), name=path.stem)


def _parts(path: Path) -> dict[str, list[tuple[int, str]]]:
    """The lines below each [head], with their numbers."""
    parts: dict[str, list[tuple[int, str]]] = {}
    current: list[tuple[int, str]] = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        text = line.strip()
        if text.startswith("[") and text.endswith("]"):
            current = parts.setdefault(text[1:-1].strip().lower(), [])
        elif text:
            current.append((number, text))
    return parts


def _part(parts: dict[str, list[tuple[int, str]]], name: str, path: Path) -> list[tuple[int, str]]:
    if not parts.get(name):
        raise UserError(f"{path}: has nothing below [{name}].")
    return parts[name]


def _count(parts: dict[str, list[tuple[int, str]]], name: str, path: Path) -> int:
    number, text = _part(parts, name, path)[0]
    if not text.isdecimal():
        raise UserError(f"{path}, line {number}: '{terminal_text(text):.40}' is not a count.")
    return int(text)


def write(annotations: Annotations, out: Path) -> None:
    every = [mark.at for one in annotations.images for mark in one.marks.values() if mark.at is not None]
    axes = max(map(len, every), default=2)
    lines = ["[individuals]", str(len(annotations.images)), "[landmarks]", str(len(annotations.names))]
    lines += ["[dimensions]", str(axes), "[names]"]
    lines += [_name(one) for one in annotations.images]
    lines += ["", "[rawpoints]"]
    for number, one in enumerate(annotations.images, 1):
        lines += ["", f"'#{number}"]
        for name in annotations.names:
            at = one.marks.get(name, Mark(None)).at
            lines.append(" ".join([MISSING] * axes if at is None else map(repr, at)))
    write_text(out, "\n".join(lines) + "\n")


def _name(one: Annotated) -> str:
    return without_suffix(one.image.name)


MORPHOLOGIKA = LandmarkFormat(
    "morphologika",
    "Morphologika",
    matches,
    read,
    write,
    holds=frozenset({"unannotated"}),
    file="landmarks.txt",
)
