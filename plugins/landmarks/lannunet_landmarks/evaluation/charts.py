"""The charts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lannunet_report import (
    BLUE,
    GREEN,
    ORANGE,
    POINTS_AS_PIXELS,
    Chart,
    box_height,
    draw_boxes,
    log_axis,
    make_chart,
    monitor_of,
    training_charts,
)

from lannunet_core import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SQUASHED = 8.0  # an axis of errors is logarithmic if the largest exceeds this multiple of the median


def charts_of(
    summary: Mapping[str, Any],
    names: Sequence[str],
    errors: Floats,
    confidence: Floats,
    by_mean: Floats | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    config: Mapping[str, Any] | None = None,
) -> list[Chart]:
    """All charts for which there is data.

    Args:
        summary: Summary of `Report`; `history` and `config` are its fields too.
        names: Names of the N landmarks.
        errors: (images, N) in the summary's unit, NaN where there is none.
        confidence: (images, N).
        by_mean: Errors of the mean position; None: unknown.
    """
    unit = summary["unit"]
    charts: list[Chart] = []
    if np.isfinite(errors).any():
        charts += [
            make_chart(
                "Error by landmark",
                "Boxes contain the middle half of the cases, lines are medians, and dots are cases."
                + (" The axis is logarithmic." if squashed(errors) else ""),
                lambda axis: draw_boxes(axis, errors, names, f"radial error ({unit})", squashed(errors)),
                height=box_height(names),
            ),
            make_chart(
                "Detection rate",
                "Share of landmarks within a radius of the annotation. Landmarks not found count as misses.",
                lambda axis: _draw_detection(axis, summary, errors, by_mean),
            ),
        ]
        if np.isfinite(confidence[np.isfinite(errors)]).any():
            charts.append(
                make_chart(
                    "Error against confidence",
                    "Large errors should have a low confidence."
                    + (" The axis of errors is logarithmic." if squashed(errors) else ""),
                    lambda axis: _draw_confidence(axis, confidence, errors, unit),
                )
            )
        certain = summary.get("confidence", {})
        if certain.get("groups"):
            charts.append(
                make_chart(
                    "Confidence and accuracy",
                    f"Share of points within {certain['radius']:g} {certain['unit']} at each confidence. "
                    "Calibrated confidence lies on the line. Bars are 95 % intervals.",
                    lambda axis: _draw_truth(axis, certain["groups"]),
                )
            )
        if summary.get("calibration", {}).get("reliability"):
            charts += _calibration_charts(summary["calibration"])
    elif np.isfinite(confidence).any():
        charts.append(
            make_chart(
                "Confidence by landmark",
                "Boxes contain the middle half of the cases, lines are medians, and dots are cases.",
                lambda axis: draw_boxes(axis, confidence, names, "confidence"),
                height=box_height(names),
            )
        )
    panels = (
        ("loss", "Training loss", "log"),
        ("error", "Validation error (px)", "log"),
        ("lr", "Learning rate", "linear"),
        ("sigma", "Learned width of the heatmaps (px of the input)", "linear"),
    )
    return charts + training_charts(history, panels, monitor_of(config or {}))


def squashed(errors: Floats) -> bool:
    """Whether outliers would squash the other errors on a linear axis."""
    known = errors[np.isfinite(errors)]
    return bool(known.size) and float(known.max()) > SQUASHED * max(float(np.median(known)), 1e-9)


def _calibration_charts(calibration: Mapping[str, Any]) -> list[Chart]:
    rows, unit = calibration["reliability"], calibration["unit"]
    charts = [
        make_chart(
            "Coverage of the regions",
            "Share of true points inside their regions; the line is the guaranteed coverage.",
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
    """The reliability diagram, with 95 % intervals for groups of this size."""
    from scipy.stats import binom

    points, confidence, within = (
        np.array([row[key] for row in groups]) for key in ("points", "confidence", "within")
    )
    low, high = (100 * binom.ppf(tail, points, confidence) / points for tail in (0.025, 0.975))
    axis.plot([0, 100], [0, 100], color=ORANGE, linewidth=1.6, label="perfect calibration")
    axis.vlines(100 * confidence, low, high, color=ORANGE, linewidth=1)
    axis.plot(100 * confidence, 100 * within, "o", color=BLUE, markersize=5, label="found")
    axis.set(xlabel="confidence (%)", ylabel="within the radius (%)", xlim=(0, 102), ylim=(0, 102))
    axis.legend(frameon=False)


def _draw_bins(axis: Axes, bins: Sequence[Mapping[str, Any]], unit: str) -> None:
    known = [(number, row) for number, row in enumerate(bins, start=1) if row["cases"]]
    axis.bar([number for number, _ in known], [row["mean_error"] for _, row in known], color=BLUE, width=0.6)
    axis.set_xticks([number for number, _ in known])
    axis.set(xlabel="bin", ylabel=f"mean radial error ({unit})")


def _draw_detection(axis: Axes, summary: Mapping[str, Any], errors: Floats, by_mean: Floats | None) -> None:
    unit = summary["unit"]
    counts = summary["overall"]["counts"]
    found = np.sort(errors[np.isfinite(errors)])
    asked = counts["evaluated"] + counts["not_found"]
    rows = summary["overall"]["detection_rates"]
    end = max([1.15 * row["radius"] for row in rows] + [1.2 * float(np.percentile(found, 95))])
    x = np.concatenate([[0], found, [max(end, found[-1])]])
    rate = np.concatenate([[0], np.arange(1, len(found) + 1), [len(found)]]) / asked * 100
    axis.step(x, rate, where="post", color=BLUE, linewidth=2, label="this model")
    if by_mean is not None and np.isfinite(by_mean).any():
        guessed = np.sort(by_mean[np.isfinite(by_mean)])
        share = np.arange(1, len(guessed) + 1) / len(guessed) * 100
        axis.step([0, *guessed], [0, *share], where="post", color=GREEN, linewidth=1.6, linestyle="--",
                  label="mean position")  # fmt: skip
        axis.legend(frameon=False, loc="lower right")
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
    axis.set(xlabel="confidence", ylabel=f"radial error ({unit})", xlim=(-0.02, 1.02))
    if squashed(errors):
        log_axis(axis.yaxis)
    else:
        axis.set_ylim(0, None)
