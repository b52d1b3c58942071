"""Calibrated confidence: the probability that the point lies within a stated radius of the landmark.

A network's raw confidence ranks its points, but is not a probability. Held-out points, for which it is known
whether they lie within the radius, calibrate it: Platt scaling (Platt 1999; with his smoothed targets, so
that a set without any error does not give certainty) on the logit of the raw confidence. Landmarks share one
curve, as a validation list has too few images for a curve each. Its slope is positive (a log-normal prior
around 1), so the order of the points does not change.

Its quality is measured by the reliability diagram (points in groups of equal confidence or of equal size, and
the share within the radius in each) and the expected calibration error, the mean gap between confidence and
share over all points (Naeini et al. 2015; with groups of equal size, Nguyen & O'Connor 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from lannunet_core import Floats, State, UserError
from lannunet_landmarks.evaluation.summary import errors_in
from lannunet_landmarks.types import Prediction

LEAST_POINTS = 20  # for a calibration
EDGE = 1e-4  # precision of a table: raw confidences closer to 0 or 1 are not distinguished
GROUPS = 10
LEAST_A_GROUP = 20  # points
FOLDS = 5


@dataclass(frozen=True)
class ConfidenceCalibration:
    """p = 1 / (1 + exp(−(intercept + slope · logit(raw)))).

    Attributes:
        radius: Radius of p: the probability that the error is smaller.
        unit: Unit of the radius, `mm` or `px`.
        slope: Slope, above 0.
        intercept: Intercept.
        points: Number of held-out points.
    """

    radius: float
    unit: str
    slope: float
    intercept: float
    points: int

    def __call__(self, raw: Floats) -> Floats:
        """The probabilities of raw confidences; NaN stays NaN, and 0 (no point) stays 0."""
        with np.errstate(over="ignore"):
            probability = 1 / (1 + np.exp(-(self.intercept + self.slope * logit(raw))))
        return np.where(raw == 0, 0.0, probability)

    def learned(self) -> dict[str, Any]:
        """The parameters, as stored in a model file."""
        return asdict(self)

    @classmethod
    def read(cls, learned: Any) -> ConfidenceCalibration:
        """Read the parameters from a model file, which may have been changed."""
        try:
            found = TypeAdapter(cls).validate_python(learned, strict=False)
        except ValidationError:
            found = cls(np.nan, "", np.nan, np.nan, 0)
        numbers = (found.radius, found.slope, found.intercept)
        if not (np.isfinite(numbers).all() and min(numbers[:2]) > 0 and found.unit in ("mm", "px")):
            raise UserError(
                "The model's calibration of confidence is damaged. Train it again with `lannunet train`."
            )
        return found


def calibrate_confidence(
    raw: Floats, within: Floats, radius: float, unit: str
) -> ConfidenceCalibration | None:
    """Fit the calibration to held-out points; None: there are too few.

    Args:
        raw: (...) confidences.
        within: (...) 1 where the point lies within the radius, 0 where it does not, NaN where unknown.
        radius: Radius of `within`, stored with the result.
        unit: Unit of the radius.
    """
    from scipy.optimize import minimize

    known = np.isfinite(raw) & np.isfinite(within)
    hits, at = within[known], logit(raw[known])
    if len(hits) < LEAST_POINTS:
        return None
    right = hits.sum()
    target = np.where(hits == 1, (right + 1) / (right + 2), 1 / (len(hits) - right + 2))

    def cost(parameters: Floats) -> float:
        log_slope, intercept = parameters
        value = intercept + np.exp(log_slope) * at
        return float((np.logaddexp(0, value) - target * value).sum() + log_slope**2 / 2)

    best = minimize(cost, (0.0, 0.0), method="L-BFGS-B", bounds=((-4, 4), (-30, 30))).x
    return ConfidenceCalibration(radius, unit, float(np.exp(best[0])), float(best[1]), len(hits))


def logit(share: Floats) -> Floats:
    kept = np.clip(share, EDGE, 1 - EDGE)
    return np.log(kept / (1 - kept))


def within_radius(predictions: Sequence[Prediction], radius: float, unit: str) -> Floats:
    """(images, N) 1 where a point lies within the radius of its landmark, 0 where it does not; NaN: not
    annotated.

    A visible landmark that was not found counts as 0, as does a point of an absent landmark.
    """
    rows = []
    for one in predictions:
        errors = errors_in(one, unit)
        within = np.where(np.isnan(errors), np.nan, (errors <= radius).astype(float))
        if one.states is not None:
            invented = np.isin(one.states, (State.ABSENT, State.OUTSIDE))
            within = np.where(invented & np.isfinite(one.coordinates).all(axis=-1), 0.0, within)
        rows.append(within)
    return np.array(rows)


def reliability(confidence: Floats, within: Floats) -> dict[str, Any]:
    """The reliability diagram, ready for JSON.

    Args:
        confidence: (...) in 0 … 1.
        within: (...) as returned by `within_radius`.

    Returns:
        `points`; `groups`, in ascending order (points, the mean confidence, and the share within the radius);
        `calibration_error`, the mean gap between the two; None without points.
    """
    known = np.isfinite(confidence) & np.isfinite(within)
    order = np.argsort(confidence[known], kind="stable")
    sure, hits = confidence[known][order], within[known][order]
    groups = []
    if len(sure):
        count = int(np.clip(len(sure) // LEAST_A_GROUP, 1, GROUPS))
        # Points of equal confidence stay together, in whatever order they were given.
        firsts = np.searchsorted(sure, sure[[len(sure) * k // count for k in range(count)]])
        for first, end in zip(firsts, [*firsts[1:], len(sure)], strict=True):
            if end > first:
                groups.append(
                    {
                        "points": int(end - first),
                        "confidence": float(sure[first:end].mean()),
                        "within": float(hits[first:end].mean()),
                    }
                )
    gaps = [row["points"] * abs(row["confidence"] - row["within"]) for row in groups]
    return {
        "points": len(sure),
        "groups": groups,
        "calibration_error": sum(gaps) / len(sure) if gaps else None,
    }


def cross_calibrated(raw: Floats, within: Floats, image: NDArray[Any]) -> Floats:
    """(E,) each point's probability, calibrated on the points of the other images, in `FOLDS` parts.

    NaN where there are too few.
    """
    part = np.unique(image, return_inverse=True)[1] % FOLDS
    found = np.full(len(raw), np.nan)
    for number in range(FOLDS):
        held_out = part == number
        if calibration := calibrate_confidence(raw[~held_out], within[~held_out], 0.0, ""):
            found[held_out] = calibration(raw[held_out])
    return found


def ranking(confidence: Floats, gross: NDArray[np.bool_]) -> float | None:
    """The probability that a gross error has a lower confidence than another point (AUC); None without
    both."""
    from scipy.stats import rankdata

    bad, good = int(gross.sum()), int((~gross).sum())
    if not bad or not good:
        return None
    above = rankdata(-confidence)[gross].sum() - bad * (bad + 1) / 2
    return float(above / (bad * good))


def confidence_summary(predictions: Sequence[Prediction], points: int | None = None) -> dict[str, Any]:
    """The `confidence` of `summary.json`, ready for JSON.

    Args:
        predictions: Predictions with or without annotations.
        points: Number of held-out points that they were calibrated with, if known.

    Returns:
        `calibrated`; if they are, `radius` (the radius of most confidences), `unit`, `calibrated_with`
        and, for annotated images, the result of `reliability`, with each prediction's own radius.
    """
    stated = [one.within for one in predictions if one.within]
    if not stated or len(stated) < len(predictions):
        return {"calibrated": False}
    radius, unit = max(set(stated), key=stated.count)
    within = [within_radius([one], *one.within)[0] for one in predictions if one.within]
    confidence = np.array([one.confidence for one in predictions])
    return {
        "calibrated": True,
        "radius": radius,
        "unit": unit,
        "calibrated_with": points,
        **reliability(confidence, np.array(within)),
    }


def say_confidence(summary: Mapping[str, Any]) -> str:
    """One line about a `confidence_summary`."""
    if not summary["calibrated"]:
        return "confidence is not calibrated: it ranks the points, but is not a probability"
    line = f"confidence is the probability of lying within {summary['radius']:g} {summary['unit']}"
    if summary["calibrated_with"] is not None:
        line += f", calibrated with {summary['calibrated_with']} held-out points"
    error = summary["calibration_error"]
    return line if error is None else f"{line}; expected calibration error here {error:.3f}"
