"""Markups of 3D Slicer: point lists, one file per case, as `.mrk.json` or the older `.fcsv`.

https://slicer.readthedocs.io/en/latest/developer_guide/modules/markups.html
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lannunet_landmarks import Annotated, Annotations, ImageFinder, LandmarkFormat, Mark, mark_of, read_json

from lannunet_core import UserError, terminal_text, write_text
from lannunet_formats.common import (
    field,
    file_of,
    files_in,
    json_of,
    names_of,
    objects,
    once,
    text_of,
    write_json,
)

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
SYSTEMS = {"LPS": "LPS", "RAS": "RAS", "1": "LPS", "0": "RAS"}
STATUS = ("undefined", "preview", "defined", "missing")  # numbered in an .fcsv
UNDEFINED, DEFINED, MISSING = STATUS[0], STATUS[2], STATUS[3]
RAS_BEFORE = (4, 11)  # Slicer's first version that writes an .fcsv in LPS
COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"

Read = Callable[[Path], tuple[dict[str, Mark], list[str]]]
"""Returns the points of a file in LPS, and sentences about parts that are left out."""


def matches_json(path: Path) -> bool:
    content = json_of(path)
    return (isinstance(content, dict) and isinstance(content.get("markups"), list)) or _holds(
        path, ".mrk.json"
    )


def matches_fcsv(path: Path) -> bool:
    return path.suffix.lower() == ".fcsv" or _holds(path, ".fcsv")


def _holds(path: Path, suffix: str) -> bool:
    return path.is_dir() and any(_files(path, suffix))


def _files(folder: Path, suffix: str) -> Iterable[Path]:
    """The files of a folder, then of the folders in it."""
    yield from sorted(files_in(folder, suffix), key=lambda path: (path.parent != folder, path))


def read_json_files(path: Path, images: Path | None) -> Annotations:
    return _cases(path, images, ".mrk.json", _markups)


def read_fcsv_files(path: Path, images: Path | None) -> Annotations:
    return _cases(path, images, ".fcsv", _fiducials)


def _cases(path: Path, images: Path | None, suffix: str, read: Read) -> Annotations:
    """Read one case per file; several files of one image are one case."""
    files = [path] if path.is_file() else list(_files(path, suffix))
    cases: dict[Path, dict[str, Mark]] = {}
    sources: dict[Path, Path] = {}
    notes: list[str] = []
    for file in files:
        marks, left = read(file)
        image = _image(file, path, images)
        of_case = cases.setdefault(image, {})
        for name, mark in marks.items():
            once(of_case, name, mark, str(file))
        sources.setdefault(image, file)
        notes += [f"{file}: {line}" for line in left]
    found = tuple(Annotated(image, marks, source=str(sources[image])) for image, marks in cases.items())
    return Annotations(names_of(found), found, "LPS", path.stem.removesuffix(".mrk"), notes=tuple(notes))


def _image(file: Path, source: Path, images: Path | None) -> Path:
    """The image with the file's name; or, if each case has a folder, the only image in the folder."""
    name = re.sub(r"(\.mrk)?\.(json|fcsv)$", "", file.name, flags=re.IGNORECASE)
    finder = ImageFinder(images, file.parent)
    try:
        return finder.of_case(name, str(file))
    except UserError:
        if source.is_dir() and file.parent != source:
            if images is not None:
                return finder.of_case(file.parent.name, str(file))
            if (only := finder.only()) is not None:
                return only
        raise


def _markups(path: Path) -> tuple[dict[str, Mark], list[str]]:
    marks: dict[str, Mark] = {}
    left = []
    for markup in objects(read_json(path), "markups", str(path)):
        kind = markup.get("type", "Fiducial")
        if kind != "Fiducial":
            left.append(f"a markup of type {terminal_text(kind)} is left out; landmarks are point lists.")
            continue
        units = markup.get("coordinateUnits", "mm")
        if units not in ("mm", ["mm", "UCUM"], "mm3"):
            raise UserError(f"{path}: its coordinates are in {terminal_text(units)}, should be in mm.")
        system = _system(markup.get("coordinateSystem", "LPS"), str(path))
        for number, point in enumerate(objects(markup, "controlPoints", str(path)), 1):
            name = str(point.get("label") or number)
            where = f"{path}, point {terminal_text(name)}"
            status = _status(point.get("positionStatus", DEFINED), where)
            if status == MISSING:
                once(marks, name, Mark(None), where)
            elif status == DEFINED:
                once(marks, name, _in_lps(field(point, "position", list, where), system, where), where)
    return marks, left


def _system(written: Any, where: str) -> str:
    if (found := SYSTEMS.get(str(written).strip().upper())) is None:
        raise UserError(f"{where}: its coordinate system is {terminal_text(written)}, should be LPS or RAS.")
    return found


def _status(written: Any, where: str) -> str:
    if written not in STATUS:
        raise UserError(
            f"{where}: its status is {terminal_text(written)}, should be one of {', '.join(STATUS)}."
        )
    return str(written)


def _in_lps(point: list[Any], system: str, where: str) -> Mark:
    mark = mark_of(point, where)
    if mark.at is None or len(mark.at) != 3:
        raise UserError(f"{where}: its position has {len(point)} numbers, should have 3.")
    x, y, z = mark.at
    return Mark((-x, -y, z) if system == "RAS" else mark.at)


def _fiducials(path: Path) -> tuple[dict[str, Mark], list[str]]:
    lines = text_of(path).splitlines()
    columns, system, version = COLUMNS.split(","), None, RAS_BEFORE
    for line in lines:
        key, _, value = line.lstrip("# ").partition("=")
        if line.startswith("#") and key.strip() == "columns":
            columns = [name.strip() for name in value.split(",")]
        elif line.startswith("#") and key.strip() == "CoordinateSystem":
            system = _system(value.strip(), str(path))
        elif line.startswith("#") and "version" in key:
            version = tuple(int(part) for part in value.strip().split(".")[:2])  # type: ignore[assignment]
    system = system or ("RAS" if version < RAS_BEFORE else "LPS")
    marks: dict[str, Mark] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        (cells,) = csv.reader([line])
        where = f"{path}, line {number}"
        if len(cells) < len(columns):
            raise UserError(f"{where}: has {len(cells)} cells under {len(columns)} columns.")
        row = dict(zip(columns, cells, strict=False))
        # Slicer 5 adds two cells without a column name: whether the point is placed, and a flag.
        told = cells[len(columns)] if len(cells) > len(columns) else str(STATUS.index(DEFINED))
        status = _status(STATUS[int(told)] if told in ("0", "1", "2", "3") else told, where)
        name = row.get("label") or row["id"]
        if status == MISSING:
            once(marks, name, Mark(None), where)
        elif status == DEFINED:
            once(marks, name, _in_lps([row["x"], row["y"], row["z"]], system, where), where)
    return marks, []


def write_json_files(annotations: Annotations, out: Path) -> None:
    def points(one: Annotated) -> list[dict[str, Any]]:
        written = []
        for number, name in enumerate(annotations.names, 1):
            mark = one.marks.get(name)
            point: dict[str, Any] = {"id": str(number), "label": name, "description": _description(mark)}
            if mark is not None and mark.at is not None:
                point |= {"position": _three(mark.at), "positionStatus": "defined"}
            else:
                point["positionStatus"] = UNDEFINED if mark is None else MISSING
            written.append(point | {"selected": True, "locked": False, "visibility": True})
        return written

    def write(one: Annotated, file: Path) -> None:
        markup = {"type": "Fiducial", "coordinateSystem": annotations.system, "coordinateUnits": "mm"}
        write_json({"@schema": SCHEMA, "markups": [{**markup, "controlPoints": points(one)}]}, file)

    _write(annotations, out, ".mrk.json", write)


def write_fcsv_files(annotations: Annotations, out: Path) -> None:
    def write(one: Annotated, file: Path) -> None:
        text = io.StringIO()
        text.write("# Markups fiducial file version = 5.6\n")
        text.write(f"# CoordinateSystem = {annotations.system}\n# columns = {COLUMNS}\n")
        rows = csv.writer(text, lineterminator="\n")
        for number, name in enumerate(annotations.names, 1):
            mark = one.marks.get(name)
            at = (0.0, 0.0, 0.0) if mark is None or mark.at is None else _three(mark.at)
            status = UNDEFINED if mark is None else MISSING if mark.at is None else DEFINED
            flags = (0, 0, 0, 1, 1, 1, 0)
            told = STATUS.index(status)
            rows.writerow([number, *map(repr, at), *flags, name, _description(mark), "", told, 0])
        write_text(file, text.getvalue())

    _write(annotations, out, ".fcsv", write)


def _write(
    annotations: Annotations, out: Path, suffix: str, write: Callable[[Annotated, Path], None]
) -> None:
    """Write a folder with one file per case, or a single file, depending on the name."""
    if out.name.lower().endswith(suffix):
        if len(annotations.images) != 1:
            raise UserError(
                f"{out}: a file contains one case, but there are {len(annotations.images)}. Name a folder."
            )
        write(annotations.images[0], out)
        return
    files = [file_of(out, one, suffix) for one in annotations.images]
    out.mkdir(parents=True)
    for one, file in zip(annotations.images, files, strict=True):
        write(one, file)


def _three(point: tuple[float, ...]) -> list[float]:
    return [*point, 0.0][:3]


def _description(mark: Mark | None) -> str:
    return "" if mark is None or mark.confidence is None else f"confidence {mark.confidence:.4f}"


SLICER = LandmarkFormat(
    "slicer",
    "3D Slicer's markups",
    matches_json,
    read_json_files,
    write_json_files,
    systems=("LPS", "RAS"),
    holds=frozenset({"absent", "confidence", "unannotated"}),
)
FCSV = LandmarkFormat(
    "fcsv",
    "3D Slicer's older point lists (.fcsv)",
    matches_fcsv,
    read_fcsv_files,
    write_fcsv_files,
    systems=("LPS", "RAS"),
    holds=frozenset({"absent", "confidence", "unannotated"}),
)
