"""Plain tables: a row per landmark (`image, landmark, x, y`), or a row per image (`image, tip_x, tip_y, …`).

Cells are separated by commas, semicolons or tabs (the latter two with decimal commas, too). The origin is the
first pixel's centre; y points down unless the user states otherwise.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lannunet_landmarks import Annotated, Annotations, ImageFinder, LandmarkFormat, Mark, mark_of, relative_to
from lannunet_report import from_spreadsheet, spreadsheet_text

from lannunet_core import UserError, image_header, terminal_text, write_text
from lannunet_formats.common import SPLITS, cells_of, delimiter_of, first_line, names_of, once

IMAGE = ("image", "filename", "file_name", "file", "image_path", "path")
LANDMARK = ("landmark", "label", "name", "keypoint", "point", "bodypart")
AXES = ("x", "y", "z")
SYSTEMS = ("pixel", "LPS", "RAS")
OURS = {"id", "state", "split", "coordinate_system", "confidence"}
NOTHING = {"", "nan", "na", "none", "null"}


class Row(NamedTuple):
    where: str
    cells: Mapping[str, str]


def matches_long(path: Path) -> bool:
    columns = _header(path)
    return bool(_one_of(IMAGE, columns) and _one_of(LANDMARK, columns)) and {"x", "y"} <= set(columns)


def matches_wide(path: Path) -> bool:
    columns = _header(path)
    return bool(_one_of(IMAGE, columns)) and "x" not in columns and bool(_wide_names(columns))


def _header(path: Path) -> list[str]:
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return []
    line = first_line(path)
    return [name.strip().lower() for name in next(csv.reader([line], delimiter=delimiter_of(line)), [])]


def _one_of(wanted: tuple[str, ...], columns: list[str]) -> str:
    return next((name for name in wanted if name in columns), "")


def _wide_names(columns: list[str]) -> list[str]:
    """The landmarks of columns NAME_x, NAME_y; the separator may also be a dot or a space."""
    names = [found[1] for name in columns if (found := re.fullmatch(r"(.+)[_. ]x", name))]
    return [name for name in names if any(f"{name}{gap}y" in columns for gap in "_. ")]


class Rows(NamedTuple):
    columns: list[str]  # as written in the file
    rows: list[Row]
    notes: tuple[str, ...]


def _rows(path: Path) -> Rows:
    """The content of a table, with column names in lower case as keys."""
    found = cells_of(path)
    (_, head), *lines = found.lines
    columns = [from_spreadsheet(name.strip()) for name in head]
    keys = [name.lower() for name in columns]
    if twice := [name for name, count in Counter(filter(None, keys)).items() if count > 1]:
        raise UserError(
            f"{path}: has column '{terminal_text(twice[0])}' twice. Give columns different names."
        )
    rows = []
    for number, cells in lines:
        where = f"{path}, line {number}"
        if len(cells) != len(columns):
            raise UserError(f"{where}: has {len(cells)} cells under {len(columns)} columns.")
        texts = (from_spreadsheet(cell).strip() for cell in cells)
        rows.append(Row(where, dict(zip(keys, texts, strict=True))))
    return Rows(columns, rows, found.notes)


def read_long(path: Path, images: Path | None, y_up: bool | None) -> Annotations:
    columns, rows, notes = _rows(path)
    keys = [name.lower() for name in columns]
    image, landmark = _one_of(IMAGE, keys), _one_of(LANDMARK, keys)
    axes = [axis for axis in AXES if axis in keys]
    known = {image, landmark, *axes, *OURS}
    fields = {key: name for key, name in zip(keys, columns, strict=True) if key not in known}
    finder = ImageFinder(images, path.parent, path.parent / "images")
    cases: dict[str, Annotated] = {}
    marks: dict[str, dict[str, Mark]] = {}
    for where, row in rows:
        case = row.get("id") or row[image]
        if case not in cases:
            cases[case] = _case(row, row[image], finder, fields, where)
            marks[case] = {}
        if (mark := _mark(row, axes, where)) is not None:
            once(marks[case], terminal_text(row[landmark]), mark, where)
    return _annotations(
        path, [replace(one, marks=marks[case]) for case, one in cases.items()], rows, notes, y_up
    )


def read_wide(path: Path, images: Path | None, y_up: bool | None) -> Annotations:
    columns, rows, notes = _rows(path)
    keys = [name.lower() for name in columns]
    image, names = _one_of(IMAGE, keys), _wide_names(keys)
    if lonely := [name for name in keys if re.fullmatch(r".+[_. ][xy]", name) and name[:-2] not in names]:
        raise UserError(
            f"{path}: column '{terminal_text(lonely[0])}' has no column for the other axis. Add a column."
        )
    spelt = dict(zip(keys, columns, strict=True))
    cells = {name: _cells_of(name, keys) for name in names}
    known = {image, *OURS, *(key for of_name in cells.values() for key in of_name)}
    fields = {key: name for key, name in spelt.items() if key not in known}
    finder = ImageFinder(images, path.parent, path.parent / "images")
    found = []
    for where, row in rows:
        marks: dict[str, Mark] = {}
        for name, of_name in cells.items():
            plain = dict(zip(AXES, (row[key] for key in of_name), strict=False))
            mark = _mark(
                {"state": "absent" if plain["x"].lower() == "absent" else "", **plain}, list(plain), where
            )
            if mark is not None:
                once(marks, terminal_text(spelt[of_name[0]][: len(name)]), mark, where)
        found.append(replace(_case(row, row[image], finder, fields, where), marks=marks))
    return _annotations(path, found, rows, notes, y_up)


def _cells_of(name: str, keys: list[str]) -> list[str]:
    return [key for axis in AXES for gap in "_. " if (key := f"{name}{gap}{axis}") in keys]


def _case(
    row: Mapping[str, str], image: str, finder: ImageFinder, fields: Mapping[str, str], where: str
) -> Annotated:
    split = row.get("split", "").strip().lower()
    if split and split not in SPLITS:
        raise UserError(
            f"{where}, column 'split': '{terminal_text(split):.40}' is not one of {', '.join(SPLITS)}."
        )
    extra = {name: row[key] for key, name in fields.items() if row[key]}
    named = row.get("id")
    return Annotated(
        finder.named(image, where),
        {},
        terminal_text(named) if named else None,
        SPLITS.get(split),
        extra=extra,
        source=where,
    )


def _mark(row: Mapping[str, str], axes: list[str], where: str) -> Mark | None:
    """The landmark of a row; None: not annotated."""
    state = row.get("state", "").strip().lower()
    if state not in ("", "visible", "occluded", "absent", "unlabelled"):
        raise UserError(f"{where}, column 'state': '{terminal_text(state):.40}' is not a state.")
    numbers = [row[axis].strip() for axis in axes]
    if state == "absent":
        return Mark(None)
    if state == "unlabelled" or all(number.lower() in NOTHING for number in numbers):
        return None
    confidence = row.get("confidence", "").strip()
    try:
        sure = float(confidence) if confidence else None
    except ValueError:
        said = terminal_text(confidence)
        raise UserError(f"{where}, column 'confidence': '{said:.40}' is not a number.") from None
    return mark_of(numbers, where, occluded=state == "occluded", confidence=sure)


def _annotations(
    path: Path, found: list[Annotated], rows: list[Row], notes: tuple[str, ...], y_up: bool | None
) -> Annotations:
    systems = {row.cells.get("coordinate_system", "").strip() or "pixel" for row in rows}
    if len(systems) > 1 or not systems <= set(SYSTEMS):
        raise UserError(
            f"{path}, column 'coordinate_system': has {terminal_text(' and '.join(sorted(systems))):.60}, "
            f"should have one of {', '.join(SYSTEMS)}."
        )
    (system,) = systems or {"pixel"}
    images = tuple(turned(one) for one in found) if y_up and system == "pixel" else tuple(found)
    return Annotations(names_of(images), images, system, path.stem, notes=notes)  # type: ignore[arg-type]


def turned(one: Annotated) -> Annotated:
    """The annotations with y measured from the centre of the last row instead of the first, or back."""
    last = image_header(one.image, 2).size[1] - 1
    marks = {
        name: mark if mark.at is None else replace(mark, at=(mark.at[0], last - mark.at[1]))
        for name, mark in one.marks.items()
    }
    return replace(one, marks=marks)


def write_long(annotations: Annotations, out: Path) -> None:
    axes = _axes(annotations)
    fields = list(dict.fromkeys(key for one in annotations.images for key in one.extra))
    sure = any(mark.confidence is not None for one in annotations.images for mark in one.marks.values())
    rows: list[list[str]] = []
    for one in annotations.images:
        for name in annotations.names:
            mark = one.marks.get(name)
            at = [""] * len(axes) if mark is None or mark.at is None else list(map(repr, mark.at))
            state = "unlabelled" if mark is None else "absent" if mark.at is None else "visible"
            confidence = "" if mark is None or mark.confidence is None else f"{mark.confidence:.4f}"
            rows.append(
                [
                    spreadsheet_text(str(one.id or "")),
                    spreadsheet_text(relative_to(one.image, out.parent)),
                    spreadsheet_text(name),
                    *at,
                    "occluded" if mark is not None and mark.occluded else state,
                    one.split or "",
                    annotations.system,
                    *([confidence] if sure else []),
                    *(spreadsheet_text(str(one.extra.get(key, ""))) for key in fields),
                ]
            )
    head = ["id", "image", "landmark", *axes, "state", "split", "coordinate_system"]
    _write(out, [*head, *(["confidence"] if sure else []), *map(spreadsheet_text, fields)], rows)


def write_wide(annotations: Annotations, out: Path) -> None:
    axes = _axes(annotations)
    rows = []
    for one in annotations.images:
        cells = []
        for name in annotations.names:
            mark = one.marks.get(name)
            if mark is not None and mark.at is not None:
                cells += list(map(repr, mark.at))
            else:
                cells += ["" if mark is None else "absent"] * len(axes)
        image = spreadsheet_text(relative_to(one.image, out.parent))
        rows.append([spreadsheet_text(str(one.id or "")), image, one.split or "", annotations.system, *cells])
    head = [spreadsheet_text(f"{name}_{axis}") for name in annotations.names for axis in axes]
    _write(out, ["id", "image", "split", "coordinate_system", *head], rows)


def _axes(annotations: Annotations) -> tuple[str, ...]:
    marks = (mark.at for one in annotations.images for mark in one.marks.values() if mark.at is not None)
    return AXES[: max(map(len, marks), default=2)]


def _write(out: Path, head: list[str], rows: list[list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    write_text(out, text.getvalue())


HOLDS = frozenset({"absent", "splits"})
LONG = LandmarkFormat(
    "csv",
    "a table with a row per landmark",
    matches_long,
    read_long,
    write_long,
    systems=("pixel", "LPS", "RAS"),
    holds=HOLDS | {"occluded", "confidence", "fields", "unannotated"},
    file="landmarks.csv",
)
WIDE = LandmarkFormat(
    "csv-wide",
    "a table with a row per image",
    matches_wide,
    read_wide,
    write_wide,
    systems=("pixel", "LPS", "RAS"),
    holds=HOLDS | {"unannotated"},
    file="landmarks.csv",
)
