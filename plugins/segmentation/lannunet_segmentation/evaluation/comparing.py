"""The results of a run, as `lannunet compare` reads them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from lannunet_report import Figure, ResultFormat, Results, from_spreadsheet

from lannunet_core import UserError, terminal_text

TABLE = "cases.csv"
DISTANCE = "hausdorff95_"
FAILURES = ("missed", "invented")


def read(folder: Path) -> Results:
    """Dice and the 95 % Hausdorff distance in a run's table, for cases with an annotation."""
    path = folder / TABLE
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [dict(row) for row in csv.DictReader(file)]
        header = list(rows[0])
        distance = next(name for name in header if name.startswith(DISTANCE))
        figures = {
            (_text(row["id"]), _text(row["class"])): (_number(row["dice"]), _number(row[distance]), row)
            for row in rows
            if row["state"]
        }
        truth = {key: row["target_voxels"] for key, (_, _, row) in figures.items()}
    except (OSError, UnicodeDecodeError, csv.Error, LookupError, StopIteration, ValueError, TypeError):
        raise UserError(f"{path}: was not written by a run. Give the folder of a finished run.") from None
    if not figures:
        raise UserError(f"{path}: holds no case with an annotation, so there is nothing to compare.")
    cases = tuple(dict.fromkeys(case for case, _ in figures))
    classes = tuple(dict.fromkeys(name for _, name in figures))
    failed = {key for key, (_, _, row) in figures.items() if row["state"] in FAILURES}
    nothing: tuple[float, float, dict[str, str]] = (np.nan, np.nan, {})
    values = np.array([[figures.get((case, name), nothing)[:2] for name in classes] for case in cases])
    return Results(
        cases,
        classes,
        (
            Figure("Dice", "", True, values[..., 0]),
            Figure("95 % Hausdorff distance", distance.removeprefix(DISTANCE), False, values[..., 1]),
        ),
        tuple(";".join(truth.get((case, name), "") for name in classes) for case in cases),
        np.array([[(case, name) in failed for name in classes] for case in cases]),
    )


def _text(cell: str) -> str:
    return terminal_text(from_spreadsheet(cell))


def _number(cell: str) -> float:
    return float(cell) if cell.strip() else float("nan")


RESULTS = ResultFormat("segmentation", TABLE, read, same_split=("dataset.split_seed=0",))
