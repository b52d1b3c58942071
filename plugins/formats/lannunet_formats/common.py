"""Functions that several formats use."""

from __future__ import annotations

import codecs
import csv
import functools
import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lannunet_landmarks import Annotated, Mark, Split, read_json

from lannunet_core import UserError, image_header, inside, terminal_text, write_text

HALF = 0.5
"""Coordinate of the first pixel's centre in programs whose origin is the image's corner, as in Qt and
browsers."""
DECIMAL = re.compile(r"^\s*([-+]?\d+),(\d+)\s*$")
FEW = 20
"""Number of files that are inspected to recognise the format of a folder."""
LONGEST = 1 << 16
"""Characters of a line that are inspected to recognise a format."""
SPLITS: dict[str, Split] = {
    "train": "training",
    "training": "training",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "testing",
    "testing": "testing",
}
"""Names of the splits in other programs, in lower case."""


def json_of(path: Path) -> Any:
    """The content of a JSON, to recognise its format; None: it is not JSON."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return None
    stat = path.stat()
    return _content(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=1)  # each format reads it once
def _content(path: Path, _changed: int, _size: int) -> Any:
    try:
        return read_json(path)
    except UserError:
        return None


def text_of(path: Path) -> str:
    """The content of a text file, with any line endings.

    Raises:
        UserError: The file is neither in UTF-8 nor marked as UTF-16.
    """
    try:
        return path.read_text(encoding=_encoding(path))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not in UTF-8 (byte {error.start}). Save it as UTF-8 text, in Excel as CSV UTF-8."
        ) from None


def first_line(path: Path) -> str:
    """The first line that is not blank, to recognise a format; "": it is not a file."""
    if not path.is_file():
        return ""
    with path.open(encoding=_encoding(path), errors="replace") as file:
        return next((line for line in iter(lambda: file.readline(LONGEST), "") if line.strip()), "")


def delimiter_of(line: str) -> str:
    """The delimiter of a table's cells, guessed from its first line."""
    return max(",;\t", key=line.count)


class Cells(NamedTuple):
    """The content of a table.

    Attributes:
        lines: Lines that are not blank, each with its number.
        notes: Sentences about conversions.
    """

    lines: list[tuple[int, list[str]]]
    notes: tuple[str, ...] = ()


def cells_of(path: Path) -> Cells:
    """The cells of a table; numbers have decimal points.

    If cells are separated by semicolons or tabs, a comma in a number is its decimal point, as spreadsheets
    write tables in many countries.
    """
    text = text_of(path)
    delimiter = delimiter_of(next((line for line in text.splitlines() if line.strip()), ""))
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    every = [(lines.line_num, cells) for cells in lines if any(cell.strip() for cell in cells)]
    if delimiter == "," or not any(DECIMAL.match(cell) for _, cells in every for cell in cells):
        return Cells(every)
    points = [(number, [DECIMAL.sub(r"\1.\2", cell) for cell in cells]) for number, cells in every]
    return Cells(points, (f"{path}: the comma in a number is read as its decimal point.",))


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Files with a suffix, in upper or lower case, in a folder and two levels of folders in it."""
    every = (path for depth in ("*", "*/*", "*/*/*") for path in folder.glob(depth))
    return sorted(path for path in every if path.name.lower().endswith(suffix) and path.is_file())


def write_json(content: Any, out: Path) -> None:
    write_text(out, json.dumps(content, indent=1) + "\n")


def field(of: Any, key: str, kind: type, where: str) -> Any:
    """A field of an object in a JSON.

    Raises:
        UserError: The field is missing, or has another type.
    """
    found = of.get(key) if isinstance(of, dict) else None
    if not isinstance(found, kind):
        said = "is missing" if found is None else f"is {json.dumps(found, default=str):.60}"
        raise UserError(f'{where}: "{key}" {said}; it should be a {_KINDS.get(kind, kind.__name__)}.')
    return found


def objects(of: Any, key: str, where: str) -> list[dict[str, Any]]:
    """A field that is a list of objects.

    Raises:
        UserError: The field is missing, or contains other values.
    """
    found: list[dict[str, Any]] = field(of, key, list, where)
    for one in found:
        if not isinstance(one, dict):
            raise UserError(f'{where}: "{key}" contains {json.dumps(one, default=str):.60}, not an object.')
    return found


_KINDS: dict[type, str] = {list: "list", dict: "nested object", str: "text"}


def once(marks: dict[str, Mark], name: str, mark: Mark, where: str) -> None:
    """Add a landmark, which may be placed only once in an image."""
    if name in marks:
        raise UserError(
            f"{where}: {terminal_text(name)} is placed twice in an image. Give landmarks different names, or "
            "crop one image per object."
        )
    marks[name] = mark


def check_size(image: Path, size: Sequence[Any], where: str) -> tuple[int, int]:
    """The size (x, y) of an image, which must equal the size stated in its annotation, if there is one."""
    found = image_header(image, 2).size
    if all(size) and tuple(int(side) for side in size) != found:
        raise UserError(
            f"{where}: was annotated at {size[0]}×{size[1]} pixels, but {terminal_text(image)} has "
            f"{found[0]}×{found[1]}. Give the image that was annotated."
        )
    return found[0], found[1]


def names_of(images: Iterable[Annotated], first: Sequence[str] = ()) -> tuple[str, ...]:
    """The landmarks' names in order of appearance; those of `first` that appear come first."""
    met = dict.fromkeys(name for one in images for name in one.marks)
    return tuple(dict.fromkeys((*(name for name in first if name in met), *met)))


def file_of(folder: Path, one: Annotated, suffix: str) -> Path:
    """The path of the annotation file of one image."""
    name = str(one.id or one.image.stem).replace("/", "_").replace("\\", "_")
    return inside(folder, f"{name}{suffix}", f'sample "{one.id}"')
