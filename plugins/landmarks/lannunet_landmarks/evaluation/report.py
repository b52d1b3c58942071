"""`report.html`: one page that needs nothing but itself.

Pictures are SVG over an embedded JPEG, charts are SVG whose ink follows the page's colour scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lannunet_report import (
    BLUE,
    ORANGE,
    POINTS_AS_PIXELS,
    Chart,
    best_middle_worst,
    draw_boxes,
    jpeg_url,
    make_chart,
    plugin_charts,
    to_display,
    training_charts,
    write_page,
)
from numpy.typing import NDArray

from lannunet_core import Floats, ReportPart, State
from lannunet_landmarks.evaluation.summary import compared, radial_errors
from lannunet_landmarks.types import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes


LONGEST_NAME = 30  # characters beside a chart
LEAST_CONFIDENT = "Least confident cases"
LEAST_CONFIDENT_CASES = 3


@dataclass(frozen=True)
class Report:
    """What the page is made of.

    Attributes:
        title: Its heading.
        predictions: Predictions of the evaluated split, with or without annotations.
        summary: Result of `summarise` on them; after a calibration, `coverage_summary` is its `calibration`.
        landmark_names: The N names.
        image: Gives the pixels (C, *S) of a prediction's image, in the frame of its coordinates.
        history: Rows of `metrics.jsonl`; what is named `…loss…`, `…error…` and `lr` is drawn over `epoch`.
        config: The resolved configuration.
        provenance: What `run.json` holds.
        comparison: Summaries of other methods on the same images, by name.
        parts: What plugins provide.
        final: The page with the final results, where these are a first stage's.
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


def write_report(path: Path, report: Report) -> None:
    """Write the page to `path`."""
    groups = _groups(report)
    counts = report.summary["overall"]["counts"]
    write_page(
        path,
        Path(__file__).with_name("report.html.j2"),
        report.config,
        report.provenance,
        title=report.title,
        report=report,
        summary=report.summary,
        compared=compared(report.summary, report.comparison),
        unit=report.summary["unit"],
        scored=counts["evaluated"] + counts["not_found"],
        confidence=_median_confidence(report.predictions),
        certain=report.summary.get("confidence", {}),
        charts=_charts(report) + plugin_charts(report.parts),
        groups=groups,
        counted=[name for name in ("not_found", "absent", "unlabelled") if counts[name]],
        aspect=_aspect(groups),
    )


def _median_confidence(predictions: Sequence[Prediction]) -> float | None:
    values = np.concatenate([prediction.confidence for prediction in predictions] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None


# --- cases ----------------------------------------------------------------------------


def _groups(report: Report) -> list[dict[str, Any]]:
    """The least confident cases first, where a look is worth most; then the best, median and worst ones by
    mean error (a landmark not found is the worst of errors), without annotation the more confident ones. No
    case is shown twice."""
    unit = report.summary["unit"]
    evaluated = [p for p in report.predictions if p.states is not None and (p.states == State.VISIBLE).any()]
    if evaluated:
        ranked = sorted(evaluated, key=lambda prediction: _case_error(prediction, unit))
        doubtful = sorted(report.predictions, key=_least_confidence)
        doubtful = doubtful[: min(LEAST_CONFIDENT_CASES, len(doubtful) // 4)]
        groups: dict[str, Sequence[Prediction]] = {LEAST_CONFIDENT: doubtful}
        names = ("Best cases", "Median cases", "Worst cases")
        for name, cases in zip(names, best_middle_worst(ranked), strict=True):
            groups[name] = [one for one in cases if all(one is not other for other in doubtful)]
    else:
        ranked = sorted(report.predictions, key=_least_confidence)
        names = (LEAST_CONFIDENT, "Cases between", "Most confident cases")
        groups = dict(zip(names, best_middle_worst(ranked), strict=True))
    return [
        {
            "name": name,
            "cases": [_case(prediction, report, name == LEAST_CONFIDENT) for prediction in predictions],
        }
        for name, predictions in groups.items()
        if predictions
    ]


def _least_confidence(prediction: Prediction) -> float:
    return float(np.nanmin(prediction.confidence, initial=1.0))


def _aspect(groups: Sequence[Mapping[str, Any]]) -> float:
    """Width over height of the frames that pictures are shown in: that of the middle one."""
    shapes = [case["panels"][0] for group in groups for case in group["cases"]]
    return float(np.median([shape["width"] / shape["height"] for shape in shapes])) if shapes else 1.0


def _case_error(prediction: Prediction, unit: str) -> float:
    errors = _errors(prediction, unit)
    assert prediction.states is not None
    return float(np.where(np.isnan(errors), np.inf, errors)[prediction.states == State.VISIBLE].mean())


def _errors(prediction: Prediction, unit: str) -> Floats:
    pixels, millimetres = radial_errors(prediction)
    return millimetres if unit == "mm" else pixels


def _case(prediction: Prediction, report: Report, doubtful: bool) -> dict[str, Any]:
    """A case's panels and caption.

    The focus is the landmark with the largest error; with the least confidence where the case is `doubtful`,
    or nothing is annotated.
    """
    unit = report.summary["unit"]
    errors = _errors(prediction, unit)
    target = np.full_like(prediction.coordinates, np.nan) if prediction.target is None else prediction.target
    known = np.isfinite(errors)
    by_error = known.any() and not doubtful
    focus = int(np.nanargmax(errors) if by_error else np.argmin(np.nan_to_num(prediction.confidence)))
    marks = [
        {
            "name": name,
            "focus": n == focus,
            "prediction": prediction.coordinates[n],
            "target": target[n],
            "text": f"{name}: " + (f"{errors[n]:.2f} {unit}, " if known[n] else "")
            + f"confidence {prediction.confidence[n]:.2f}",
        }
        for n, name in enumerate(report.landmark_names)
    ]  # fmt: skip
    missing = [
        name
        for n, name in enumerate(report.landmark_names)
        if np.isnan(prediction.coordinates[n]).any()
        and (prediction.states is None or prediction.states[n] == State.VISIBLE)
    ]
    pixels = np.asarray(report.image(prediction))
    spacing = np.asarray(prediction.spacing or (1.0,) * (pixels.ndim - 1))
    panels = (_panels_2d if pixels.ndim == 3 else _panels_3d)(pixels, marks, spacing / spacing.min())
    return {
        "id": prediction.id,
        "mean": f"{errors[known].mean():.2f} {unit}" if known.any() else None,
        "focus": marks[focus]["text"],
        "by": "worst" if by_error else "least confident",
        "missing": missing,
        "panels": panels,
        "volume": pixels.ndim == 4,
    }


def _panels_2d(pixels: NDArray[Any], marks: list[dict[str, Any]], scale: Floats) -> list[dict[str, Any]]:
    """The whole image, and a window around the focus."""
    shown = to_display(pixels)
    height, width = shown.shape[:2]
    panels = [_panel(shown, (0, 0, width, height), marks, scale)]
    focus = next(mark for mark in marks if mark["focus"])
    ends = np.array([focus["prediction"], focus["target"]])
    if np.isnan(ends).all():
        return panels
    centre = np.nanmean(ends, axis=0) if np.isnan(ends).any() else ends.mean(axis=0)
    spread = 0.0 if np.isnan(ends).any() else float(np.abs(ends[0] - ends[1]).max())
    half = max(6.0, 0.03 * max(width, height), 0.8 * spread)
    x, y = np.floor(centre + 0.5 - half).astype(int).clip(0)
    x_end, y_end = np.minimum(np.ceil(centre + 0.5 + half).astype(int), (width, height))
    if x < x_end and y < y_end:
        panels.append(_panel(shown, (x, y, x_end, y_end), marks, scale))
    return panels


def _panels_3d(pixels: NDArray[Any], marks: list[dict[str, Any]], scale: Floats) -> list[dict[str, Any]]:
    """The three planes through the focus; landmarks off the plane are projected onto it."""
    focus = next(mark for mark in marks if mark["focus"])
    size = np.array(pixels.shape[:0:-1])
    through = np.where(np.isnan(focus["target"]), focus["prediction"], focus["target"])
    through = np.where(np.isnan(through), (size - 1) / 2, through)
    plane = np.clip(through.round().astype(int), 0, size - 1)
    shown = to_display(pixels)  # (z, y, x, 3)
    panels = []
    for axis, cut in ((2, shown[plane[2]]), (1, shown[:, plane[1]]), (0, shown[:, :, plane[0]])):
        kept = [other for other in range(3) if other != axis]
        flat = [
            {**mark, "prediction": mark["prediction"][kept], "target": mark["target"][kept]} for mark in marks
        ]
        panel = _panel(cut, (0, 0, cut.shape[1], cut.shape[0]), flat, scale[kept])
        # Three share the width of one, so marks are drawn larger.
        panels.append({**panel, "unit": 2 * panel["unit"], "caption": f"{'xyz'[axis]} = {plane[axis]}"})
    return panels


def _panel(
    shown: NDArray[np.uint8],
    window: tuple[int, int, int, int],
    marks: Sequence[Mapping[str, Any]],
    scale: Floats,
) -> dict[str, Any]:
    """What the template needs to draw a window (x, y, x end, y end) of a picture with its marks.

    Lengths are picture pixels times `scale` (x, y), with the origin at the window's corner.
    """
    x, y, x_end, y_end = window
    origin = np.array([x - 0.5, y - 0.5])

    def place(point: Floats) -> list[float] | None:
        return (
            [round(float(value), 2) for value in (point - origin) * scale]
            if np.isfinite(point).all()
            else None
        )

    width, height = np.array([x_end - x, y_end - y]) * scale
    return {
        "href": jpeg_url(shown[y:y_end, x:x_end]),
        "width": round(float(width), 2),
        "height": round(float(height), 2),
        "unit": round(float(max(width, height)) / 100, 3),
        "marks": [
            {**mark, "prediction": place(mark["prediction"]), "target": place(mark["target"])}
            for mark in marks
        ],
        "caption": "",
    }


# --- charts ----------------------------------------------------------------------------


def _charts(report: Report) -> list[Chart]:
    """Each chart that the data allow."""
    unit = report.summary["unit"]
    charts: list[Chart] = []
    errors = np.array([_errors(prediction, unit) for prediction in report.predictions])
    confidence = np.array([prediction.confidence for prediction in report.predictions])
    names = [_short(name) for name in report.landmark_names]
    if np.isfinite(errors).any():
        charts += [
            make_chart(
                "Error by landmark",
                "Boxes hold the middle half of the cases, the line is the median; every dot is a case.",
                lambda axis: draw_boxes(axis, errors, names, f"radial error ({unit})"),
            ),
            make_chart(
                "Detection rate",
                "Share of landmarks within a radius of the annotation; one not found counts as a miss.",
                lambda axis: _draw_detection(axis, report, errors),
            ),
        ]
        if np.isfinite(confidence[np.isfinite(errors)]).any():
            charts.append(
                make_chart(
                    "Error against confidence",
                    "A confidence is honest when large errors come with small values.",
                    lambda axis: _draw_confidence(axis, confidence, errors, unit),
                )
            )
        certain = report.summary.get("confidence", {})
        if certain.get("groups"):
            charts.append(
                make_chart(
                    "Confidence and truth",
                    f"Share of points within {certain['radius']:g} {certain['unit']} at each confidence; a "
                    "true probability lies on the line. Bars hold what chance allows.",
                    lambda axis: _draw_truth(axis, certain["groups"]),
                )
            )
        if report.summary.get("calibration", {}).get("reliability"):
            charts += _calibration_charts(report.summary["calibration"])
    elif np.isfinite(confidence).any():
        charts.append(
            make_chart(
                "Confidence by landmark",
                "Boxes hold the middle half of the cases, the line is the median; every dot is a case.",
                lambda axis: draw_boxes(axis, confidence, names, "confidence"),
            )
        )
    panels = (
        ("loss", "Training loss", "log"),
        ("error", "Validation error", "linear"),
        ("lr", "Learning rate", "linear"),
        ("sigma", "Learned width of the heatmaps (pixels of the network's input)", "linear"),
    )
    return charts + training_charts(report.history, panels)


def _short(name: str) -> str:
    """A name that leaves its chart room."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _calibration_charts(calibration: Mapping[str, Any]) -> list[Chart]:
    rows, unit = calibration["reliability"], calibration["unit"]
    charts = [
        make_chart(
            "Coverage of the regions",
            "Share of true points in their regions; the line is what this many held-out errors promise.",
            lambda axis: _draw_reliability(axis, rows),
        )
    ]
    if any(row["cases"] for row in calibration["bins"]):
        charts.append(
            make_chart(
                "Error by bin of confidence",
                "Mean error of the predictions in each bin, the most certain first; it should not fall.",
                lambda axis: _draw_bins(axis, calibration["bins"], unit),
            )
        )
    return charts


def _draw_reliability(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    asked, promised, rate = (
        np.array([row[key] for row in rows]) * 100 for key in ("asked", "promised", "rate")
    )
    axis.plot(asked, promised, color=ORANGE, linewidth=1.6, label="promised")
    axis.plot(asked, rate, "o", color=BLUE, markersize=5, label="found")
    axis.set(xlabel="asked for (%)", ylabel="in their regions (%)", xlim=(0, 100), ylim=(0, 102))
    axis.legend(frameon=False)


def _draw_truth(axis: Axes, groups: Sequence[Mapping[str, Any]]) -> None:
    """The reliability diagram, with what a group of this many points would say 95 % of the time."""
    from scipy.stats import binom

    points, confidence, within = (
        np.array([row[key] for row in groups]) for key in ("points", "confidence", "within")
    )
    low, high = (100 * binom.ppf(tail, points, confidence) / points for tail in (0.025, 0.975))
    axis.plot([0, 100], [0, 100], color=ORANGE, linewidth=1.6, label="a true probability")
    axis.vlines(100 * confidence, low, high, color=ORANGE, linewidth=1)
    axis.plot(100 * confidence, 100 * within, "o", color=BLUE, markersize=5, label="found")
    axis.set(xlabel="confidence (%)", ylabel="within the radius (%)", xlim=(0, 102), ylim=(0, 102))
    axis.legend(frameon=False)


def _draw_bins(axis: Axes, bins: Sequence[Mapping[str, Any]], unit: str) -> None:
    known = [(number, row) for number, row in enumerate(bins, start=1) if row["cases"]]
    axis.bar([number for number, _ in known], [row["mean_error"] for _, row in known], color=BLUE, width=0.6)
    axis.set_xticks([number for number, _ in known])
    axis.set(xlabel="bin", ylabel=f"mean radial error ({unit})")


def _draw_detection(axis: Axes, report: Report, errors: Floats) -> None:
    unit = report.summary["unit"]
    counts = report.summary["overall"]["counts"]
    found = np.sort(errors[np.isfinite(errors)])
    asked = counts["evaluated"] + counts["not_found"]
    rows = report.summary["overall"]["detection_rates"]
    end = max([1.15 * row["radius"] for row in rows] + [1.2 * float(np.percentile(found, 95))])
    x = np.concatenate([[0], found, [max(end, found[-1])]])
    rate = np.concatenate([[0], np.arange(1, len(found) + 1), [len(found)]]) / asked * 100
    axis.step(x, rate, where="post", color=BLUE, linewidth=2)
    for row in rows:
        axis.plot(row["radius"], row["rate"] * 100, "o", color=ORANGE, markersize=5)
        if row["ci95"]:
            axis.plot([row["radius"]] * 2, np.array(row["ci95"]) * 100, color=ORANGE, linewidth=1.5)
    axis.set(xlabel=f"radius ({unit})", ylabel="detected (%)", xlim=(0, end), ylim=(0, 102))


def _draw_confidence(axis: Axes, confidence: Floats, errors: Floats, unit: str) -> None:
    known = np.isfinite(errors) & np.isfinite(confidence)
    axis.scatter(
        confidence[known],
        errors[known],
        s=10,
        color=BLUE,
        alpha=0.6,
        linewidths=0,
        rasterized=int(known.sum()) > POINTS_AS_PIXELS,
    )
    axis.set(xlabel="confidence", ylabel=f"radial error ({unit})", xlim=(-0.02, 1.02), ylim=(0, None))
