"""DeepLabCut's `CollectedData_NAME.csv` and `.h5`, and the tables of Lightning Pose, which are the same.

A table has three or four header rows (scorer, individuals if there are several, bodyparts, coords), then one
row per image, whose path is in one column or three. The origin is the first pixel's centre. The .h5 contains
the same table as a data frame of pandas, and is read by h5py, which is an extra.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lannunet_landmarks import Annotated, Annotations, ImageFinder, LandmarkFormat, Mark, mark_of, relative_to

from lannunet_core import UserError, terminal_text, write_text
from lannunet_formats.common import cells_of, delimiter_of, first_line, names_of, once
from lannunet_formats.dataframe import read_frame
from lannunet_formats.hdf5 import is_hdf5

HEADS = ("scorer", "individuals", "bodyparts", "coords")
TABLE = "CollectedData*"
GROUP = "video"  # the folder of an image: images of one video are similar
NOTHING = ("", "nan")


class Table(NamedTuple):
    """A table in the layout of the CSV: header rows, and rows that begin with the parts of an image path."""

    heads: Mapping[str, Sequence[str]]
    rows: Sequence[tuple[str, list[str], Sequence[str]]]  # name in messages, path, cells
    notes: tuple[str, ...] = ()


def matches(path: Path) -> bool:
    """Whether it is a table, a folder of images with its table, or a project with `labeled-data`."""
    if path.is_dir():
        return bool(_tables(path))
    if path.suffix.lower() == ".csv":
        line = first_line(path)
        return line.startswith(f"scorer{delimiter_of(line)}")
    return is_hdf5(path, ".h5")


def _tables(folder: Path) -> list[Path]:
    """The tables of a project or a folder of images; the .h5 if there is no .csv."""
    found: dict[Path, Path] = {}
    for suffix in (".h5", ".csv"):
        for pattern in (f"{TABLE}{suffix}", f"labeled-data/*/{TABLE}{suffix}"):
            found |= {path.with_suffix(""): path for path in folder.glob(pattern)}
    return sorted(found.values())


def read(path: Path, images: Path | None) -> Annotations:
    files = _tables(path) if path.is_dir() else [path]
    found: list[Annotated] = []
    notes: list[str] = []
    order: dict[str, None] = {}
    for file in files:
        table = _read_hdf5(file) if file.suffix.lower() == ".h5" else _read_csv(file)
        _check_columns(table, file)
        notes += table.notes
        order |= dict.fromkeys(table.heads["bodyparts"])
        project = (
            file.parents[2]
            if len(file.parents) > 2 and file.parents[1].name == "labeled-data"
            else file.parent
        )
        finder = ImageFinder(images, project, file.parent)
        found += [_row(table.heads, *row, finder) for row in table.rows]
    names = names_of(found, tuple(order))
    return Annotations(names, tuple(found), name=path.stem, group_by=GROUP, notes=tuple(notes))


def _check_columns(table: Table, file: Path) -> None:
    columns = list(zip(*(line for name, line in table.heads.items() if name != "scorer"), strict=True))
    if twice := [" ".join(column) for column, count in Counter(columns).items() if count > 1]:
        raise UserError(f"{file}: has two columns of {terminal_text(twice[0])}. Rename one of them.")


def _read_csv(path: Path) -> Table:
    lines, notes = cells_of(path)
    heads: dict[str, Sequence[str]] = {}
    for _, line in lines[:4]:
        if line[0] in HEADS:
            heads[line[0]] = line
    if missing := [head for head in ("scorer", "bodyparts", "coords") if head not in heads]:
        raise UserError(f"{path}: has no header row '{missing[0]}'. Save it with DeepLabCut's header rows.")
    first = next((place for place, axis in enumerate(heads["coords"]) if axis in ("x", "y")), 1)
    cut = {name: line[first:] for name, line in heads.items()}
    rows = []
    for number, line in lines[len(heads) :]:
        where = f"{path}, line {number}"
        if len(line) != len(heads["coords"]):
            raise UserError(f"{where}: has {len(line)} cells under {len(heads['coords'])} columns.")
        rows.append((where, line[:first], line[first:]))
    return Table(cut, rows, notes)


def _read_hdf5(path: Path) -> Table:
    frame = read_frame(path, "deeplabcut", "Give the .csv that DeepLabCut writes next to it.")
    levels = list(zip(*frame.columns, strict=True))
    names = HEADS if len(levels) == len(HEADS) else tuple(head for head in HEADS if head != "individuals")
    if len(levels) != len(names):
        raise UserError(
            f"{path}: its columns have {len(levels)} levels, should have {', '.join(HEADS[2:])} and a scorer."
        )
    rows = [
        (f"{path}, row {number}", list(parts), ["" if np.isnan(one) else repr(one) for one in values])
        for number, (parts, values) in enumerate(zip(frame.rows, frame.values.tolist(), strict=True), 1)
    ]
    return Table(dict(zip(names, levels, strict=True)), rows)


def _row(
    heads: Mapping[str, Sequence[str]], where: str, path: list[str], cells: Sequence[str], finder: ImageFinder
) -> Annotated:
    named = "/".join(part for part in path if part)
    if named.isdecimal():
        raise UserError(
            f"{where}: names a frame of a video, not an image. Give the labelled data, not predictions."
        )
    bodies = heads.get("individuals", [""] * len(cells))
    placed: dict[str, dict[str, dict[str, str]]] = {}
    for body, name, axis, cell in zip(bodies, heads["bodyparts"], heads["coords"], cells, strict=True):
        if axis in ("x", "y") and cell.strip().lower() not in NOTHING:
            placed.setdefault(body, {}).setdefault(name, {})[axis] = cell
    if len(placed) > 1:
        raise UserError(
            f"{where}: has {len(placed)} individuals ({', '.join(map(terminal_text, placed))}), but an "
            "image may have only one. Crop one image per individual."
        )
    marks: dict[str, Mark] = {}
    for name, of_name in next(iter(placed.values()), {}).items():
        if set(of_name) != {"x", "y"}:
            raise UserError(f"{where}: {terminal_text(name)} has only {' and '.join(of_name)}.")
        once(marks, terminal_text(name), mark_of((of_name["x"], of_name["y"]), where), where)
    image = finder.named(named, where)
    return Annotated(image, marks, extra={GROUP: image.parent.name}, source=where)


def write(annotations: Annotations, out: Path) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = [name for name in annotations.names for _ in "xy"]
    table.writerow(["scorer", *["lannunet"] * len(names)])
    table.writerow(["bodyparts", *names])
    table.writerow(["coords", *["x", "y"] * len(annotations.names)])
    for one in annotations.images:
        cells = []
        for name in annotations.names:
            mark = one.marks.get(name)
            cells += ["", ""] if mark is None or mark.at is None else list(map(repr, mark.at))
        table.writerow([relative_to(one.image, out.parent), *cells])
    write_text(out, text.getvalue())


DEEPLABCUT = LandmarkFormat(
    "deeplabcut",
    "a table of DeepLabCut or Lightning Pose",
    matches,
    read,
    write,
    dimensions=(2,),
    holds=frozenset({"unannotated"}),
    file="CollectedData_lannunet.csv",
)
