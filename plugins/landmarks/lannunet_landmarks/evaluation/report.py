"""`report.html`: one self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_report import (
    FOR_PICTURES,
    best_middle_worst,
    case_views,
    kept_epoch,
    monitor_of,
    plugin_charts,
    write_page,
)
from numpy.typing import NDArray

from lannunet_core import Floats, ReportPart, State
from lannunet_landmarks.evaluation.case_views import case_view, focus_of
from lannunet_landmarks.evaluation.charts import charts_of
from lannunet_landmarks.evaluation.summary import compared, radial_errors
from lannunet_landmarks.types import Prediction

LEAST_CONFIDENT_CASES = 3


@dataclass(frozen=True)
class Report:
    """The content of the page.

    Attributes:
        title: Heading of the page.
        predictions: Predictions of the evaluated split, with or without annotations.
        summary: Result of `summarise` on them; after a calibration, its `calibration` is a
            `coverage_summary`.
        landmark_names: The N names.
        image: Returns the pixels (C, *S) of a prediction's image, in the frame of its coordinates.
        history: Rows of `metrics.jsonl`; columns named `…loss…`, `…error…` and `lr` are drawn over `epoch`.
        config: The resolved configuration.
        provenance: Content of `run.json`.
        comparison: Summaries of other methods on the same images, by name.
        parts: Parts that plugins provide.
        final: The page with the final results, if these are of a first stage.
        by_mean: Predictions of the mean position of the training images for the same images.
        full: Whether all cases have pictures, regardless of the page's size.
    """

    title: str
    predictions: Sequence[Prediction]
    summary: Mapping[str, Any]
    landmark_names: Sequence[str]
    image: Callable[[Prediction], NDArray[Any]]
    history: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parts: Sequence[ReportPart] = ()
    final: str | None = None
    by_mean: Sequence[Prediction] | None = None
    full: bool = False


def write_report(path: Path, report: Report) -> None:
    """Write the page to `path`."""
    unit, names = report.summary["unit"], report.landmark_names
    counts = report.summary["overall"]["counts"]
    errors = _errors(report.predictions, unit, len(names))
    by_mean = None if report.by_mean is None else _errors(report.by_mean, unit, len(names))
    confidence = np.array([one.confidence for one in report.predictions]).reshape(errors.shape)
    cases, pictured = _cases(report, errors)
    write_page(
        path,
        Path(__file__).with_name("report.html.j2"),
        report.config,
        report.provenance,
        title=report.title,
        report=report,
        summary=report.summary,
        compared=compared(report.summary, report.comparison),
        unit=unit,
        scored=counts["evaluated"] + counts["not_found"],
        confidence=_median_confidence(report.predictions),
        certain=report.summary.get("confidence", {}),
        guessed=_column_means(by_mean, names),
        kept=kept_epoch(report.history, monitor_of(report.config)),
        charts=charts_of(report.summary, names, errors, confidence, by_mean, report.history, report.config)
        + plugin_charts(report.parts),
        cases=cases,
        views=pictured,
        layers=_layers(report.predictions),
        counted=[name for name in ("not_found", "absent", "unlabelled") if counts[name]],
    )


def _errors(predictions: Sequence[Prediction], unit: str, count: int) -> Floats:
    """(images, N) in the unit, NaN where there is none."""
    found = [radial_errors(prediction)[unit == "mm"] for prediction in predictions]
    return np.array(found, np.float64).reshape(len(found), count)


def _column_means(errors: Floats | None, names: Sequence[str]) -> dict[str, float]:
    """Mean errors by landmark, for landmarks with errors."""
    if errors is None:
        return {}
    columns = zip(names, errors.T, strict=True)
    return {
        name: float(column[np.isfinite(column)].mean())
        for name, column in columns
        if np.isfinite(column).any()
    }


def _median_confidence(predictions: Sequence[Prediction]) -> float | None:
    values = np.concatenate([prediction.confidence for prediction in predictions] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None


def _layers(predictions: Sequence[Prediction]) -> list[tuple[str, str]]:
    """The layers that can be shown and hidden: id and label of each."""
    there = [("prediction", "prediction")]
    if any(one.target is not None for one in predictions):
        there.append(("target", "annotation"))
    if any(one.heat is not None for one in predictions):
        there.append(("heat", "heatmap"))
    if any(one.calibrated is not None or one.within is not None for one in predictions):
        there.append(("region", "region"))
    return [*there, ("names", "names")]


# --- cases ----------------------------------------------------------------------------


def _cases(report: Report, errors: Floats) -> tuple[list[dict[str, Any]], dict[int, Any]]:
    """Rows of the table, the worst first (without annotation the least confident first), and the cases'
    views.

    A landmark that was not found is the worst error. Pictures are made for the least confident cases first,
    which are the most worth checking, then for the worst, the best and those between, then for the others.
    """
    predictions, names, unit = report.predictions, report.landmark_names, report.summary["unit"]
    ranks = [_rank(one, errors[n]) for n, one in enumerate(predictions)]
    order = sorted(range(len(predictions)), key=lambda n: ranks[n], reverse=True)
    least = [float(np.nanmin(one.confidence, initial=1.0)) for one in predictions]
    doubtful = sorted(order, key=lambda n: least[n])[:LEAST_CONFIDENT_CASES]
    worst, middle, best = best_middle_worst(order)
    first = list(dict.fromkeys([*doubtful, *worst, *best, *middle]))

    def view(n: int, large: bool) -> Any:
        one = predictions[n]
        return case_view(one, names, errors[n], unit, np.asarray(report.image(one)), large)

    wanted = list(dict.fromkeys([*first, *order]))
    views = case_views(wanted, view, len(first), None if report.full else FOR_PICTURES)
    rows = [
        {
            "number": n,
            "id": predictions[n].id,
            "mean": float(known.mean()) if (known := errors[n][np.isfinite(errors[n])]).size else None,
            "worst": float(known.max()) if known.size else None,
            "focus": names[focus_of(predictions[n], errors[n])],
            "confidence": least[n],
            "lost": _lost(predictions[n], names),
        }
        for n in order
    ]
    return rows, {n: found for n, found in zip(wanted, views, strict=True) if found is not None}


def _rank(prediction: Prediction, errors: Floats) -> tuple[int, float, float]:
    """The sort key of cases, the largest first."""
    found = np.isfinite(prediction.coordinates).all(axis=-1)
    lost = 0 if prediction.states is None else int((~found & (prediction.states == State.VISIBLE)).sum())
    known = errors[np.isfinite(errors)]
    least = float(np.nanmin(prediction.confidence, initial=1.0))
    return lost, float(known.mean()) if known.size else 0.0, -least


def _lost(prediction: Prediction, names: Sequence[str]) -> list[str]:
    """The landmarks that were not found although they are present, as far as known."""
    return [
        name
        for n, name in enumerate(names)
        if np.isnan(prediction.coordinates[n]).any()
        and (prediction.states is None or prediction.states[n] == State.VISIBLE)
    ]
