"""`predictions.csv`: one row per sample and landmark. Empty cells are unknown."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_report import from_spreadsheet, spreadsheet_text
from numpy.typing import NDArray

from lannunet_core import Floats, State, UserError, atomic_path, terminal_text
from lannunet_landmarks.evaluation.summary import radial_errors, uncertainties
from lannunet_landmarks.types import Calibrated, Prediction

AXES = ("x", "y", "z")
# Columns of points in mm, in the image's world (see `data.world`).
WORLD_AXES = tuple(f"{axis}_lps_mm" for axis in AXES)
# Columns that `write_predictions` computes; other unknown columns are keys of the data set.
UNCERTAINTY = ("uncertainty_px", "uncertainty_mm")
DERIVED = (
    *UNCERTAINTY,
    *(f"{name}_{unit}" for unit in ("px", "mm") for name in ("radius", "bin_from", "bin_to")),
    *(f"confidence_radius_{unit}" for unit in ("px", "mm")),
    "confidence_bin",
    *(f"target_{axis}" for axis in AXES),
    "error_px",
    "error_mm",
    "state",
    "occluded",
    *WORLD_AXES,
)
PRESENT = {"true": True, "false": False}
LARGEST = 1e9  # pixels or mm
SHEET_TITLE_LENGTH = 31  # Excel's limit


def write_predictions(path: Path, predictions: Sequence[Prediction], landmark_names: Sequence[str]) -> None:
    """Write a CSV: id, landmark, x, y[, z], confidence, target_x …, error_px, error_mm, state, extra keys.

    x, y and z are pixels of the image. If an image states its geometry, x_lps_mm, y_lps_mm and z_lps_mm
    follow: the same point in mm, x to the left, y to the back, z up (DICOM's world; RAS has the opposite sign
    on the first two). If annotations mark landmarks as occluded, `occluded` follows the state. If confidence
    is a probability, its radius follows it, confidence_radius_mm (or _px). If there is a covariance, or the
    uncertainties of a table, uncertainty_px and uncertainty_mm come next (see `summary.uncertainties`). If
    presence was decided, `present` follows the state, and then its probability, `presence`, if known. After a
    calibration, radius_mm (or _px), confidence_bin, bin_from_mm and bin_to_mm follow the confidence. The
    number of decimals is fixed (3 for pixels and mm, 4 for the confidence), so equal predictions give equal
    files. Texts that a spreadsheet would evaluate begin with an apostrophe (see `spreadsheet_text`).
    """
    header, rows = _table(predictions, landmark_names)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_workbook(
    path: Path, methods: Mapping[str, Sequence[Prediction]], landmark_names: Sequence[str]
) -> None:
    """Write an .xlsx with one sheet per method, named after it, each with the same columns."""
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
    """Raise a UserError if .xlsx files cannot be written."""
    if find_spec("openpyxl") is None:
        raise UserError(
            f"{where}: writing .xlsx needs openpyxl, which is not installed. "
            "Install it with: pip install 'lannunet-core[xlsx]'"
        )


def read_predictions(path: Path) -> tuple[list[Prediction], list[str]]:
    """Read a CSV of at least the columns id, landmark, x, y[, z].

    Returns:
        The predictions in the file's order, and the landmarks' names. Among the columns that
        `write_predictions` computes, only uncertainties and the radius of confidences are read, as they are
        not available otherwise. The images' paths are empty.
    """
    header, rows = _read_rows(path)
    axes = [axis for axis in AXES if axis in header]

    points: dict[str, dict[str, tuple[list[float], float, bool | None, list[float]]]] = {}
    extras: dict[str, dict[str, Any]] = {}
    within: dict[str, tuple[float, str] | None] = {}
    names: dict[str, None] = {}  # an ordered set
    for where, row in rows:
        point = [_number(row[axis], f"{where}, column '{axis}'") for axis in axes]
        if 0 < np.isnan(point).sum() < len(axes):
            raise UserError(f"{where}: give all of {', '.join(axes)}, or leave them all empty (not found).")
        confidence = _number(row.get("confidence", ""), f"{where}, column 'confidence'")
        of_sample = points.setdefault(row["id"], {})
        if row["landmark"] in of_sample:
            raise UserError(
                f"{where}: landmark '{row['landmark']}' of '{row['id']}' occurs twice. Remove one."
            )
        present = row.get("present", "").lower()
        if present and present not in PRESENT:
            raise UserError(
                f"{where}, column 'present': '{terminal_text(row['present']):.60}' is neither true nor false."
            )
        uncertain = [_number(row.get(name, ""), f"{where}, column '{name}'") for name in UNCERTAINTY]
        of_sample[row["landmark"]] = (point, confidence, PRESENT.get(present), uncertain)
        names[row["landmark"]] = None
        within[row["id"]] = within.get(row["id"]) or _radius(row, where)
        known = ("id", "landmark", "confidence", "present", "presence", *AXES, *DERIVED)
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
            present=_decided([of_sample[name][2] for name in names]),
            extra=extras[sample],
            within=within[sample],
            uncertainty=_told([of_sample[name][3] for name in names]),
        )
        for sample, of_sample in points.items()
    ], list(names)


@dataclass(frozen=True)
class HeldOut:
    """A table of annotated images: I images, N landmarks.

    Attributes:
        predictions: Predictions without annotations.
        landmark_names: The N names.
        unit: Unit of errors, mm if all have one, else px.
        errors: (I, N), NaN where there is no annotation and infinite where a visible landmark was not found.
        invented: (I, N) whether an absent landmark was given a point.
    """

    predictions: list[Prediction]
    landmark_names: list[str]
    unit: str
    errors: Floats
    invented: NDArray[np.bool_]

    @property
    def confidence(self) -> Floats:
        """(I, N)"""
        return np.array([one.confidence for one in self.predictions])

    @property
    def spread(self) -> Floats:
        """(I, N) spread of the ensemble members in `unit`; NaN where unknown."""
        return np.array([uncertainties(one)[self.unit == "mm"] for one in self.predictions])

    @property
    def radius(self) -> float | None:
        """The radius of most confidences, in `unit`."""
        stated = [one.within[0] for one in self.predictions if one.within and one.within[1] == self.unit]
        return max(set(stated), key=stated.count) if stated else None

    def within(self, radius: float) -> Floats:
        """(I, N) 1 where a point lies within the radius, 0 where it does not, NaN where unknown."""
        known = np.where(np.isnan(self.errors), np.nan, (self.errors <= radius).astype(float))
        return np.where(self.invented, 0.0, known)


def read_errors(path: Path) -> HeldOut:
    """Read the errors in a CSV of `write_predictions` for annotated images."""
    predictions, names = read_predictions(path)
    rows = {(row["id"], row["landmark"]): row for _, row in _read_rows(path)[1]}
    ordered = [[rows[one.id, name] for name in names] for one in predictions]
    pixels, millimetres = (
        np.array([[_number(row.get(column, ""), f"{path}, '{column}'") for row in of] for of in ordered])
        for column in ("error_px", "error_mm")
    )
    states = np.array([[row.get("state", "") for row in of] for of in ordered])
    known = ~np.isnan(pixels)
    if not known.any():
        raise UserError(
            f"{path}: has no errors (columns error_px, error_mm, state). Give the predictions.csv that a run "
            "or lannunet evaluate -o wrote of annotated images."
        )
    if min(np.nanmin(pixels), np.nanmin(millimetres, initial=0)) < 0:
        raise UserError(f"{path}: has an error below 0. Give the file as it was written.")
    unit = "px" if np.isnan(millimetres[known]).any() else "mm"
    found = np.array([np.isfinite(one.coordinates).all(axis=-1) for one in predictions])
    errors = np.where((states == "visible") & ~known, np.inf, millimetres if unit == "mm" else pixels)
    return HeldOut(predictions, names, unit, errors, found & np.isin(states, ("absent", "outside")))


def _radius(row: Mapping[str, str], where: str) -> tuple[float, str] | None:
    """The radius that a row's confidence refers to."""
    for unit in ("mm", "px"):
        column = f"confidence_radius_{unit}"
        radius = _number(row.get(column, ""), f"{where}, column '{column}'")
        if radius > 0:
            return radius, unit
    return None


def _read_rows(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """The header of a CSV, and its rows by column, each with its name in messages."""
    if path.is_dir():
        raise UserError(
            f"{path}: is a folder. Give the predictions.csv of a run with `task: landmarks`; runs of other "
            "tasks are evaluated in their own summary.json."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file. Give the predictions.csv of a run.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a text file ({error}). Give a CSV in UTF-8.") from None
    lines = csv.reader(io.StringIO(text, newline=""))
    rows = []
    try:
        header = [terminal_text(from_spreadsheet(name)) for name in next(lines, [])]
        if twice := [name for name, often in Counter(header).items() if often > 1]:
            raise UserError(f"{path}, line 1: the column '{twice[0]:.60}' occurs twice.")
        for column in ("id", "landmark", "x", "y"):
            if column not in header:
                raise UserError(
                    f"{path}, line 1: there is no column '{column}'; it has "
                    f"{', '.join(header) or 'none':.200}." + " Separate them by commas." * (len(header) == 1)
                )
        for cells in lines:
            where = f"{path}, line {lines.line_num}"
            if cells and len(cells) != len(header):
                raise UserError(f"{where}: there are {len(cells)} cells under {len(header)} columns.")
            if cells:
                row = dict(zip(header, map(from_spreadsheet, cells), strict=True))
                rows.append((where, row | {name: terminal_text(row[name]) for name in ("id", "landmark")}))
    except csv.Error as error:
        raise UserError(f"{path}, line {lines.line_num}: is not CSV ({error}).") from None
    if not rows:
        raise UserError(f"{path}: holds no predictions. Give the predictions.csv of a run.")
    return header, rows


def _table(
    predictions: Sequence[Prediction], landmark_names: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    axes = AXES[: predictions[0].coordinates.shape[-1]] if predictions else AXES[:2]
    targets = [f"target_{axis}" for axis in axes]
    unit = next((one.calibrated.unit for one in predictions if one.calibrated), None)
    calibrated = [f"radius_{unit}", "confidence_bin", f"bin_from_{unit}", f"bin_to_{unit}"] if unit else []
    known = any(one.covariance is not None or one.uncertainty is not None for one in predictions)
    spread = UNCERTAINTY if known else ()
    radii = [
        f"confidence_radius_{u}"
        for u in ("px", "mm")
        if any(p.within and p.within[1] == u for p in predictions)
    ]
    decided = ["present"] if any(one.present is not None for one in predictions) else []
    told = ["presence"] if decided and any(one.presence is not None for one in predictions) else []
    most = max((len(one.world.origin) for one in predictions if one.world is not None), default=0)
    world = WORLD_AXES[:most]
    hidden = ["occluded"] if any(p.occluded is not None and p.occluded.any() for p in predictions) else []
    header = ["id", "landmark", *axes, *world, "confidence", *radii, *spread, *calibrated, *targets]
    header += ["error_px", "error_mm", "state", *hidden, *decided, *told]
    keys = list(dict.fromkeys(key for prediction in predictions for key in prediction.extra))
    rows = []
    for prediction in predictions:
        pixels, millimetres = radial_errors(prediction)
        uncertain = uncertainties(prediction)[: len(spread)]
        present = prediction.present
        chance = np.full(len(landmark_names), np.nan) if prediction.presence is None else prediction.presence
        target = (
            np.full_like(prediction.coordinates, np.nan) if prediction.target is None else prediction.target
        )
        places = np.full((len(landmark_names), most), np.nan)
        if prediction.world is not None:
            known_axes = len(prediction.world.origin)
            places[:, :known_axes] = prediction.world.points(prediction.coordinates)
        for n, name in enumerate(landmark_names):
            rows.append(
                [
                    spreadsheet_text(prediction.id),
                    spreadsheet_text(name),
                    *_cells(prediction.coordinates[n]),
                    *_cells(places[n]),
                    *_cells(prediction.confidence[n : n + 1], decimals=4),
                    *(_radius_cell(prediction.within, name) for name in radii),
                    *_cells(np.array([of_unit[n] for of_unit in uncertain])),
                    *(_calibrated_cells(prediction.calibrated, n) if unit else ()),
                    *_cells(target[n]),
                    *_cells(np.array([pixels[n], millimetres[n]])),
                    "" if prediction.states is None else State(prediction.states[n]).name.lower(),
                    *("" if prediction.occluded is None else _flag(prediction.occluded[n]) for _ in hidden),
                    *("" if present is None else _flag(present[n]) for _ in decided),
                    *(_cells(chance[n : n + 1], decimals=4)[0] for _ in told),
                    *(_extra_cell(prediction.extra.get(key)) for key in keys),
                ]
            )
    # A key of the data set that is also a column name keeps its values under a longer name.
    for key in keys:
        while key in header:
            key = f"extra_{key}"
        header.append(key)
    return [spreadsheet_text(name) for name in header], rows


def _flag(value: np.bool_) -> str:
    return str(bool(value)).lower()


def _decided(present: Sequence[bool | None]) -> NDArray[np.bool_] | None:
    return None if None in present else np.array(present, dtype=bool)


def _told(uncertain: Sequence[Sequence[float]]) -> Floats | None:
    values = np.array(uncertain)
    return None if np.isnan(values).all() else values


def _cells(numbers: Floats, decimals: int = 3) -> list[str]:
    return [f"{number:.{decimals}f}" if np.isfinite(number) else "" for number in numbers]


def _radius_cell(within: tuple[float, str] | None, column: str) -> str:
    return f"{within[0]:g}" if within and column.endswith(within[1]) else ""


def _calibrated_cells(calibrated: Calibrated | None, n: int) -> list[str]:
    if calibrated is None:
        return [""] * 4
    (radius,) = _cells(calibrated.radius[n : n + 1])
    return [radius, str(calibrated.bin[n] or ""), *_cells(calibrated.bounds[n])]


def _extra_cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return spreadsheet_text(value or "")
    text = json.dumps(value, ensure_ascii=False)
    return text if isinstance(value, (int, float)) else spreadsheet_text(text)


def _number(cell: str, where: str) -> float:
    """The number in `cell`; NaN where it is empty."""
    if not cell.strip():
        return float("nan")
    try:
        number = float(cell)
    except ValueError:
        raise UserError(f"{where}: '{terminal_text(cell):.60}' is not a number.") from None
    if abs(number) > LARGEST:
        raise UserError(
            f"{where}: '{terminal_text(cell):.60}' is not finite, or larger than any image. Leave it empty "
            "where a landmark was not found."
        )
    return number
