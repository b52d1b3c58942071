"""`predictions.csv`: one row per sample and landmark. Empty cells are unknown."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lannunet_core.errors import UserError
from lannunet_core.evaluation.summary import radial_errors
from lannunet_core.files import atomic_path
from lannunet_core.types import Floats, Prediction, State

AXES = ("x", "y", "z")
# What `write_predictions` derives from the annotation; the rest that is not known is a key of the dataset's.
DERIVED = (*(f"target_{axis}" for axis in AXES), "error_px", "error_mm", "state")
SHEET_TITLE_LENGTH = 31  # Excel's limit


def write_predictions(path: Path, predictions: Sequence[Prediction], landmark_names: Sequence[str]) -> None:
    """Write a CSV: id, landmark, x, y[, z], confidence, target_x …, error_px, error_mm, state, extra keys.

    Decimals are fixed (3 for pixels and mm, 4 for the confidence), so that equal predictions are equal files.
    """
    header, rows = _table(predictions, landmark_names)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_workbook(
    path: Path, methods: Mapping[str, Sequence[Prediction]], landmark_names: Sequence[str]
) -> None:
    """Write an .xlsx with the same table once a method, each in a sheet of its name."""
    need_openpyxl(str(path))
    from openpyxl import Workbook

    book = Workbook()
    book.remove(book.active)
    for method, predictions in methods.items():
        sheet = book.create_sheet(re.sub(r"[\[\]:*?/\\]", "_", method)[:SHEET_TITLE_LENGTH])
        header, rows = _table(predictions, landmark_names)
        numeric = [header.index("x"), *range(header.index("x") + 1, header.index("state"))]
        sheet.append(header)
        for row in rows:
            cells: list[Any] = [cell or None for cell in row]
            for column in numeric:
                cells[column] = float(row[column]) if row[column] else None
            sheet.append(cells)
        sheet.freeze_panes = "C2"
    with atomic_path(path) as temporary:
        book.save(temporary)


def need_openpyxl(where: str) -> None:
    """Refuse to go on where .xlsx files cannot be written."""
    if find_spec("openpyxl") is None:
        raise UserError(
            f"{where}: writing .xlsx needs openpyxl, which is not installed. "
            "Install it with: pip install 'lannunet-core[xlsx]'"
        )


def read_predictions(path: Path) -> tuple[list[Prediction], list[str]]:
    """Read a CSV of at least the columns id, landmark, x, y[, z].

    Returns:
        The predictions in the file's order, and the landmarks' names. What `write_predictions` derived from
        the annotation is not read; the images' paths are empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file. Give the predictions.csv of a run.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a text file ({error}). Give a CSV in UTF-8.") from None
    lines = csv.reader(io.StringIO(text, newline=""))
    header = next(lines, [])
    for column in ("id", "landmark", "x", "y"):
        if column not in header:
            raise UserError(
                f"{path}, line 1: there is no column '{column}'; it has {', '.join(header) or 'none'}."
            )
    axes = [axis for axis in AXES if axis in header]

    points: dict[str, dict[str, tuple[list[float], float]]] = {}
    extras: dict[str, dict[str, Any]] = {}
    names: dict[str, None] = {}  # an ordered set
    for cells in lines:
        if not cells:
            continue
        where = f"{path}, line {lines.line_num}"
        if len(cells) != len(header):
            raise UserError(f"{where}: there are {len(cells)} cells under {len(header)} columns.")
        row = dict(zip(header, cells, strict=True))
        point = [_number(row[axis], f"{where}, column '{axis}'") for axis in axes]
        if 0 < np.isnan(point).sum() < len(axes):
            raise UserError(f"{where}: give all of {', '.join(axes)}, or leave them all empty (not found).")
        confidence = _number(row.get("confidence", ""), f"{where}, column 'confidence'")
        of_sample = points.setdefault(row["id"], {})
        if row["landmark"] in of_sample:
            raise UserError(
                f"{where}: landmark '{row['landmark']}' of '{row['id']}' is there twice. Remove one."
            )
        of_sample[row["landmark"]] = (point, confidence)
        names[row["landmark"]] = None
        known = ("id", "landmark", "confidence", *AXES, *DERIVED)
        extras[row["id"]] = {key: cell for key, cell in row.items() if key not in known and cell}

    for sample, of_sample in points.items():
        for name in names:
            if name not in of_sample:
                raise UserError(
                    f"{path}: landmark '{name}' of '{sample}' is missing. Add its row (with empty "
                    "coordinates if it was not found)."
                )
    return [
        Prediction(
            id=sample,
            image=Path(),
            coordinates=np.array([of_sample[name][0] for name in names]),
            confidence=np.array([of_sample[name][1] for name in names]),
            extra=extras[sample],
        )
        for sample, of_sample in points.items()
    ], list(names)


def _table(
    predictions: Sequence[Prediction], landmark_names: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    axes = AXES[: predictions[0].coordinates.shape[-1]] if predictions else AXES[:2]
    targets = [f"target_{axis}" for axis in axes]
    header = ["id", "landmark", *axes, "confidence", *targets, "error_px", "error_mm", "state"]
    keys = list(dict.fromkeys(key for prediction in predictions for key in prediction.extra))
    rows = []
    for prediction in predictions:
        pixels, millimetres = radial_errors(prediction)
        target = (
            np.full_like(prediction.coordinates, np.nan) if prediction.target is None else prediction.target
        )
        for n, name in enumerate(landmark_names):
            rows.append(
                [
                    prediction.id,
                    name,
                    *_cells(prediction.coordinates[n]),
                    *_cells(prediction.confidence[n : n + 1], decimals=4),
                    *_cells(target[n]),
                    *_cells(np.array([pixels[n], millimetres[n]])),
                    "" if prediction.states is None else State(prediction.states[n]).name.lower(),
                    *(_extra_cell(prediction.extra.get(key)) for key in keys),
                ]
            )
    # A dataset's key that is also a column of ours keeps its values under a longer name.
    return header + [f"extra_{key}" if key in header else key for key in keys], rows


def _cells(numbers: Floats, decimals: int = 3) -> list[str]:
    return [f"{number:.{decimals}f}" if np.isfinite(number) else "" for number in numbers]


def _extra_cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _number(cell: str, where: str) -> float:
    """The number in `cell`; NaN where it is empty."""
    if not cell.strip():
        return float("nan")
    try:
        number = float(cell)
    except ValueError:
        raise UserError(f"{where}: '{cell}' is not a number.") from None
    if np.isinf(number):
        raise UserError(f"{where}: '{cell}' is not finite. Leave it empty where a landmark was not found.")
    return number
