"""The results of a run, as `lannunet compare` reads them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from lannunet_report import Figure, ResultFormat, Results, from_spreadsheet

from lannunet_core import terminal_text
from lannunet_landmarks.evaluation.predictions import AXES, read_errors

TABLE = "predictions.csv"


def read(folder: Path) -> Results:
    """The radial errors in a run's table, and whether they are within its first success radius.

    A landmark that was not found has no error, and counts as outside.
    """
    held = read_errors(folder / TABLE)
    figures = [Figure("radial error", held.unit, False, np.where(np.isinf(held.errors), np.nan, held.errors))]
    radius = _first_radius(folder)
    if radius is not None:
        hits = np.where(np.isnan(held.errors), np.nan, (held.errors <= radius).astype(float))
        figures.append(Figure(f"share within {radius:g} {held.unit}", "", True, hits, share=True))
    cases = tuple(one.id for one in held.predictions)
    annotated = _annotated(folder / TABLE)
    return Results(
        cases,
        tuple(held.landmark_names),
        tuple(figures),
        tuple(annotated[case] for case in cases),
        np.isinf(held.errors) | held.invented,
    )


def _first_radius(folder: Path) -> float | None:
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return float(summary["overall"]["detection_rates"][0]["radius"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _annotated(path: Path) -> dict[str, str]:
    """The annotations of each case, from a table that `read_errors` has accepted."""
    found: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            case = terminal_text(from_spreadsheet(row["id"]))
            point = ",".join(row.get(f"target_{axis}") or "" for axis in AXES)
            found[case] = f"{found.get(case, '')}{row['landmark']}:{point};"
    return found


RESULTS = ResultFormat("landmarks", TABLE, read)
