"""The empirical coverage of a calibration: the share of true points in their regions, and errors per bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import numpy as np

from lannunet_core import Floats, echo
from lannunet_landmarks.evaluation.calibration import (
    BINS,
    Calibration,
    LandmarkCalibration,
    coverage_interval,
    rank,
)
from lannunet_landmarks.evaluation.summary import errors_in
from lannunet_landmarks.types import Prediction

ASKED = tuple(step / 20 for step in range(1, 20))


def coverage_summary(
    calibration: Calibration,
    predictions: Sequence[Prediction],
    landmark_names: Sequence[str],
    coverage: float,
) -> dict[str, Any]:
    """The `calibration` of `summary.json`, ready for JSON.

    A visible landmark that was not found counts as outside its region. Landmarks without a region are left
    out.

    Args:
        calibration: Calibration that was applied to `predictions`.
        predictions: Predictions with or without annotations; not those that the calibration was made from.
        landmark_names: The N names.
        coverage: Nominal coverage.

    Returns:
        `coverage`, `unit`, `bins_by`, `per_landmark` (by name: points, radius, cases, held, rate, the
        interval `expected` that it lies in with probability 0.95, `bins`), `overall` (cases, held, rate),
        interval `expected` that contains the rate with probability 0.95, `bins`), `overall` (cases, held,
        rate), `reliability` (rows of nominal coverage, guaranteed coverage and rate) and `bins`
    """
    shape = (len(predictions), len(landmark_names))
    errors = np.array([errors_in(one, calibration.unit) for one in predictions]).reshape(shape)
    bins = np.array([one.calibrated.bin for one in predictions if one.calibrated]).reshape(shape)
    bounds = np.array([one.calibrated.bounds for one in predictions if one.calibrated]).reshape(*shape, 2)
    known = [calibration.landmarks[name] for name in landmark_names]

    per_landmark: dict[str, Any] = {}
    for n, (name, one) in enumerate(zip(landmark_names, known, strict=True)):
        row = _held(errors[:, n : n + 1], np.array([one.radius(coverage)]))
        points = len(one.errors)
        per_landmark[name] = {
            "points": points,
            "radius": _json(one.radius(coverage)),
            **row,
            "expected": _list(coverage_interval(points, coverage, row["cases"])),
            "bins": [
                {"from": low, "to": _json(high)}
                for low, high in map(one.bin_bounds, range(1, len(one.cuts) + 2))
            ],
        }
    levels = [_level(errors, known, asked) for asked in ASKED]
    return {
        "coverage": coverage,
        "unit": calibration.unit,
        "bins_by": calibration.bins_by,
        "per_landmark": per_landmark,
        "overall": _held(errors, np.array([one.radius(coverage) for one in known])),
        "reliability": [level for level in levels if level["rate"] is not None],
        "bins": [_bin(errors, bins == number, bounds) for number in range(1, BINS + 1)],
    }


def print_coverage(summary: Mapping[str, Any]) -> None:
    """Print one line about a `coverage_summary`, if there are annotations."""
    overall = summary["overall"]
    if overall["cases"]:
        echo(
            f"regions for {summary['coverage']:.1%} of the true points contain "
            f"{overall['rate']:.1%} of {overall['cases']}"
        )


def _held(errors: Floats, radii: Floats) -> dict[str, Any]:
    """The number of errors (images, N) within radii (N,)."""
    asked = ~np.isnan(errors) & np.isfinite(radii)
    held = asked & (errors <= radii)
    cases = int(asked.sum())
    return {"cases": cases, "held": int(held.sum()), "rate": int(held.sum()) / cases if cases else None}


def _level(errors: Floats, known: Sequence[LandmarkCalibration], asked: float) -> dict[str, Any]:
    """Nominal, guaranteed and empirical coverage, over the landmarks with such regions."""
    radii = np.array([one.radius(asked) for one in known])
    points = [len(one.errors) for one, radius in zip(known, radii, strict=True) if radius < inf]
    promised = [rank(n, asked) / (n + 1) for n in points]
    return {
        "asked": asked,
        "promised": float(np.mean(promised)) if promised else None,
        "rate": _held(errors, radii)["rate"],
    }


def _bin(errors: Floats, inside: Any, bounds: Floats) -> dict[str, Any]:
    """One bin, over all landmarks; `errors` and `inside` (images, N), `bounds` (images, N, 2)."""
    chosen = inside & np.isfinite(errors)
    error, (low, high) = errors[chosen], bounds[chosen].T
    within = (low <= error) & (error <= high)
    return {
        "cases": len(error),
        "mean_error": float(error.mean()) if len(error) else None,
        "within": float(within.mean()) if len(error) else None,
    }


def _json(number: float) -> float | None:
    return number if number < inf else None


def _list(interval: tuple[float, float] | None) -> list[float] | None:
    return list(interval) if interval else None
