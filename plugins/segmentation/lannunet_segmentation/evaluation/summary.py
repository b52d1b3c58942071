"""Metrics of a segmented split: per class and over all, with their uncertainty.

A class that is in neither the annotation nor the prediction of a case has no metric there, but is counted. A
missed or invented class has Dice 0 and no distances: distances are averaged over the cases that have the
class in both, and the others are counted separately, as are cases that lack the annotation of a class.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_report import bootstrap_statistics, bootstrap_weights, print_table, spreadsheet_text

from lannunet_core import Floats, atomic_path, echo
from lannunet_segmentation.evaluation.metrics import ClassMetrics
from lannunet_segmentation.types import SegmentedCase

FIGURES = ("dice", "weighted_dice", "hausdorff95", "mean_surface_distance")
DISTANCES = FIGURES[2:]
STATES = ("both", "missed", "invented", "absent", "unannotated")


@dataclass(frozen=True)
class MeasuredCase:
    """A predicted case and its metrics.

    Attributes:
        case: Files of the case.
        predicted: Number of predicted voxels of each class except the background.
        metrics: Metrics of each class except the background; None: nothing is annotated.
        voxel: The volume of a voxel, in the unit of the spacing to the power of the dimensions.
    """

    case: SegmentedCase
    predicted: tuple[int, ...]
    metrics: tuple[ClassMetrics, ...] | None
    voxel: float = 1.0


def summarise_cases(
    cases: Sequence[MeasuredCase], class_names: Sequence[str], unit: str, seed: int = 0
) -> dict[str, Any]:
    """The content of `summary.json`, ready for JSON: a metric that is not available is None.

    Intervals contain what they estimate with probability 0.95; whole cases are resampled (see
    `bootstrap_statistics`).

    Args:
        cases: Cases of one split.
        class_names: The classes except the background.
        unit: Unit of distances: `mm`, or `px` if files state no spacing.
        seed: Seed of the bootstrap.

    Returns:
        `unit`, `cases` (their number), `evaluated` (the number with annotation), `overall` (all pairs of case
        and class) and `per_class` (by name); the last two hold `counts` of `STATES`, and for each of
        `FIGURES` its mean, median and sd with intervals, or None. `missed`: id and class of each class that
        is in the annotation only. `dice`: for each evaluated case by id, each class by name.
    """
    evaluated = [case for case in cases if case.metrics is not None]
    weights = bootstrap_weights(len(evaluated), seed)
    values = {name: table(evaluated, name, len(class_names)) for name in FIGURES}

    def block(columns: slice) -> dict[str, Any]:
        found: Counter[str] = Counter(m.state for case in evaluated for m in (case.metrics or ())[columns])
        figures: dict[str, Any] = {"counts": {state: found[state] for state in STATES}}
        for name, rows in values.items():
            chosen = rows[:, columns]
            if np.isnan(chosen).all():
                figures[name] = None
                continue
            image, column = np.indices(chosen.shape).reshape(2, -1)
            most = np.inf if name in DISTANCES else 1.0
            figures[name] = bootstrap_statistics(chosen[image, column], image, weights, limits=(0.0, most))
            del figures[name]["detection_rates"]
        return figures

    return {
        "unit": unit,
        "cases": len(cases),
        "evaluated": len(evaluated),
        "overall": block(slice(None)),
        "per_class": {name: block(slice(n, n + 1)) for n, name in enumerate(class_names)},
        "missed": [
            {"id": case.case.id, "class": name}
            for case in evaluated
            for name, metrics in zip(class_names, case.metrics or (), strict=True)
            if metrics.state == "missed"
        ],
        "dice": {
            case.case.id: {
                name: None if np.isnan(metrics.dice) else metrics.dice
                for name, metrics in zip(class_names, case.metrics or (), strict=True)
            }
            for case in evaluated
        },
    }


def table(cases: Sequence[MeasuredCase], figure: str, classes: int) -> Floats:
    """(cases, classes) one of `FIGURES`, NaN for cases without it."""
    rows = [
        [np.nan if (value := getattr(metrics, figure)) is None else value for metrics in case.metrics or ()]
        for case in cases
    ]
    return np.array(rows, dtype=np.float64).reshape(len(cases), classes)


def compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """The difference between the Dice of two summaries, on the cases that both have.

    The difference is computed case by case and then averaged, and its interval is a bootstrap over those
    pairs, so that differences in difficulty between cases do not widen it.

    Returns:
        `overall` and `per_class` (by name), each None without a common Dice, else: `pairs`, `ours` and
        `theirs` (means over these) and `difference` (ours − theirs) with `difference_ci95`.
    """
    shared = [name for name in ours["dice"] if name in theirs["dice"]]
    weights = bootstrap_weights(len(shared), seed)

    def block(names: Sequence[str]) -> dict[str, Any] | None:
        pairs = np.array(
            [[[side["dice"][i].get(n) for n in names] for i in shared] for side in (ours, theirs)],
            dtype=np.float64,  # None becomes NaN
        ).reshape(2, -1)
        image = np.repeat(np.arange(len(shared)), len(names))
        both = np.isfinite(pairs).all(axis=0)
        if not both.any():
            return None
        figures = bootstrap_statistics((pairs[0] - pairs[1])[both], image[both], weights)
        return {
            "pairs": int(both.sum()),
            "ours": float(pairs[0, both].mean()),
            "theirs": float(pairs[1, both].mean()),
            "difference": figures["mean"],
            "difference_ci95": figures["mean_ci95"],
        }

    names = list(ours["per_class"])
    return {"overall": block(names), "per_class": {name: block([name]) for name in names}}


def write_cases(
    path: Path, cases: Sequence[MeasuredCase], class_names: Sequence[str], unit: str, dimensions: int = 3
) -> None:
    """Write a CSV with one row per case and class, and additional fields. Empty cells are unknown or do not
    exist.

    Texts that a spreadsheet would evaluate begin with an apostrophe (see `spreadsheet_text`).
    `predicted_voxels` counts the whole prediction, `compared_voxels` and `target_voxels` the annotated
    part; `predicted_volume` and `target_volume` are the volumes of the first and the last (in 2D areas).
    The number of decimals is fixed, so that equal predictions give equal files.
    """
    distances = [f"{name}_{unit}" for name in DISTANCES]
    header = ["id", "class", "dice", "weighted_dice", *distances, "state"]
    header += ["predicted_voxels", "compared_voxels", "target_voxels"]
    header += [f"{side}_volume_{unit}{dimensions}" for side in ("predicted", "target")]
    fields = list(dict.fromkeys(key for case in cases for key in case.case.extra))
    named = [f"extra_{key}" if key in header else key for key in fields]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header + [spreadsheet_text(name) for name in named])
        for case in cases:
            further = [_extra_cell(case.case.extra.get(key)) for key in fields]
            for n, name in enumerate(class_names):
                named_so = [spreadsheet_text(case.case.id), spreadsheet_text(name)]
                if case.metrics is None:
                    volume = f"{case.predicted[n] * case.voxel:.4f}"
                    writer.writerow([*named_so, *[""] * 5, case.predicted[n], "", "", volume, "", *further])
                    continue
                metrics = case.metrics[n]
                figures = [
                    "" if (value := getattr(metrics, figure)) is None or np.isnan(value) else f"{value:.4f}"
                    for figure in FIGURES
                ]
                compared = [metrics.predicted, metrics.target] if metrics.annotated else ["", ""]
                counts = [case.predicted[n], *compared]
                volumes = [f"{count * case.voxel:.4f}" for count in (case.predicted[n], metrics.target)]
                volumes[1] = volumes[1] if metrics.annotated else ""
                writer.writerow([*named_so, *figures, metrics.state, *counts, *volumes, *further])


def _extra_cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return spreadsheet_text(value or "")
    return json.dumps(value, ensure_ascii=False)


def print_summary(summary: Mapping[str, Any], title: str) -> None:
    """Print a table of a summary's metrics, and of its comparisons."""
    weighted = summary["overall"]["weighted_dice"] is not None
    states = [s for s in STATES[1:] if summary["overall"]["counts"][s]]
    headings = ["class", "Dice", "95 % CI", "median", "sd", *["weighted"] * weighted]
    headings += [f"HD95 {summary['unit']}", f"MSD {summary['unit']}", "cases", *states]

    def row(name: str, block: Mapping[str, Any]) -> list[str]:
        dice, counts = block["dice"], block["counts"]
        return [
            name,
            _mean(dice, 3),
            _interval(dice and dice["mean_ci95"]),
            _text(dice and dice["median"], 3),
            _text(dice and dice["sd"], 3),
            *([_mean(block["weighted_dice"], 3)] if weighted else []),
            _mean(block["hausdorff95"], 2),
            _mean(block["mean_surface_distance"], 2),
            str(counts["both"] + counts["missed"] + counts["invented"]),
            *(str(counts[state] or "") for state in states),
        ]

    rows = [row(name, block) for name, block in summary["per_class"].items()]
    print_table(
        f"{title}: agreement with the annotation", headings, [*rows, row("all", summary["overall"])], 1
    )
    left_out = {name: block["counts"]["unannotated"] for name, block in summary["per_class"].items()}
    if any(left_out.values()):
        listed = ", ".join(f"{name} in {count}" for name, count in left_out.items() if count)
        echo(f"not annotated, so not evaluated, in some of {summary['evaluated']} cases: {listed}")
    for name, other in summary.get("comparison", {}).items():
        if other["overall"] is not None:
            _print_comparison(name, other)


def _print_comparison(other: str, compared: Mapping[str, Any]) -> None:
    rows = [
        [
            name,
            *(_text(row[key], 3) for key in ("ours", "theirs")),
            f"{row['difference']:+.3f}",
            _interval(row["difference_ci95"], "+"),
            str(row["pairs"]),
        ]
        for name, row in {**compared["per_class"], "all": compared["overall"]}.items()
        if row is not None
    ]
    headings = ["class", "Dice", "theirs", "difference", "95 % CI", "pairs"]
    print_table(f"compared with {other}", headings, rows, 1)


def _mean(figures: Mapping[str, Any] | None, digits: int) -> str:
    return _text(figures["mean"] if figures else None, digits)


def _text(number: float | None, digits: int) -> str:
    return "–" if number is None else f"{number:.{digits}f}"


def _interval(interval: Sequence[float] | None, sign: str = "") -> str:
    return ("…" if sign else "–").join(f"{end:{sign}.3f}" for end in interval) if interval else "–"
