"""Calibration on held-out errors: regions that contain the true point, bins of expected error, and
confidences that are probabilities (see `reliability`).

All three need errors on images that the model has not seen, neither in training nor in choosing its best
epoch. They are computed per landmark, and are valid for images like those: calibration cannot foresee another
scanner.

Regions are split-conformal (Vovk et al. 2005, Lei et al. 2018): the radius of a region that is to contain the
true point with probability c is the k-th smallest of n held-out errors, k = ⌈(n + 1) c⌉: the quantile k / n.
A new image's error is equally likely to have any rank among the n + 1, so the region contains the point with
probability k / (n + 1) ≥ c, over calibration sets and images; for a given calibration set that probability
is drawn from Beta(k, n + 1 − k). Below n = c / (1 − c) there is no such k, and no region: the radius is
infinite.

Bins are Quantile Binning (Schobs et al. 2022): the held-out predictions are sorted by uncertainty and cut
into groups of equal size; an isotonic regression of error on uncertainty is evaluated at the cuts. The
uncertainty is the spread of the members of an ensemble (the root of the coordinates' variance) where it is
known, else 1 − confidence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, inf
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lannunet_core import Floats, UserError, echo, terminal_text, write_text
from lannunet_landmarks.data.json_file import read_json
from lannunet_landmarks.evaluation.reliability import ConfidenceCalibration
from lannunet_landmarks.evaluation.summary import uncertainties
from lannunet_landmarks.types import Calibrated, Prediction

FORMAT = 2
BEFORE = 1  # format version without confidences, whose bins were based on the peaks' heights
BINS = 5
LEAST_A_BIN = 5  # held-out predictions
MOST_NAMED = 5
MOST_CASES = 10**6  # largest number of cases not found that a file may state

BinsBy = Literal["confidence", "spread"]
EMPTY: Floats = np.empty(0)

Finite = Annotated[float, Field(allow_inf_nan=False)]
Distance = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def rank(points: int, coverage: float) -> int:
    """The rank (from 1) of the radius among `points` ascending errors; larger than `points`: no region."""
    return ceil((points + 1) * Fraction(str(coverage)))  # exact decimal: 10 · 0.7 is 7, not slightly more


def least_points(coverage: float) -> int:
    """The number of held-out errors that a region of this coverage needs."""
    wanted = Fraction(str(coverage))
    return ceil(wanted / (1 - wanted))


def coverage_interval(
    points: int, coverage: float, cases: int, level: float = 0.95, repeats: int = 1
) -> tuple[float, float] | None:
    """The interval of the share of new cases inside their regions, if the coverage guarantee holds.

    The number of cases inside is beta-binomial with parameters `cases`, k and n + 1 − k (Vovk 2012;
    Angelopoulos & Bates 2021, section 3.2), exactly if errors have no ties; ties increase the coverage.

    Args:
        points: n, the number of held-out errors behind the radius.
        coverage: Nominal coverage.
        cases: Number of new cases.
        level: Probability of the interval; at most half of the rest lies on each side.
        repeats: The share is the mean over this many independent calibrations, each with fresh cases.

    Returns:
        The bounds, in 0 … 1; None: there is no region or no case.
    """
    from scipy.stats import betabinom

    k = rank(points, coverage)
    if k > points or cases == 0:
        return None
    once = betabinom.pmf(np.arange(cases + 1), cases, k, points + 1 - k)
    chances = np.ones(1)
    for _ in range(repeats):
        chances = np.convolve(chances, once)
    below, tail = np.cumsum(chances), (1 - level) / 2
    low, high = np.searchsorted(below, (tail, 1 - tail))
    return float(low) / (cases * repeats), float(high) / (cases * repeats)


@dataclass(frozen=True)
class LandmarkCalibration:
    """The held-out errors of one landmark.

    Attributes:
        errors: (n,) in ascending order; infinite where the landmark was visible and was not found.
        cuts: (Q − 1,) uncertainties between Q bins, ascending.
        bounds: (Q − 1,) the expected error at each cut.
    """

    errors: Floats
    cuts: Floats
    bounds: Floats

    def radius(self, coverage: float) -> float:
        """The radius of the region that contains the true point with probability `coverage`."""
        k = rank(len(self.errors), coverage)
        return float(self.errors[k - 1]) if k <= len(self.errors) else inf

    def bin(self, uncertainty: float) -> int:
        """The bin, from 1 (the most certain) to Q; 0 if the uncertainty is unknown."""
        return 0 if np.isnan(uncertainty) else 1 + int(np.searchsorted(self.cuts, uncertainty))

    def bin_bounds(self, number: int) -> tuple[float, float]:
        """The interval of the expected error in a bin: from 0 in the first bin, unbounded in the last."""
        if number == 0:
            return np.nan, np.nan
        ends = (0.0, *self.bounds, inf)
        return float(ends[number - 1]), float(ends[number])


@dataclass(frozen=True)
class Calibration:
    """Held-out errors of every landmark.

    Attributes:
        unit: Unit of the errors, `mm` or `px`.
        landmarks: Calibration of each landmark, by name.
        bins_by: Name of the uncertainty that orders the bins.
        confidence: Calibration of confidence; None: too few points, or no radius was known.
    """

    unit: str
    landmarks: Mapping[str, LandmarkCalibration]
    bins_by: BinsBy = "confidence"
    confidence: ConfidenceCalibration | None = None

    def probable(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """The predictions with probabilities instead of confidences.

        Where the members of an ensemble disagree, calibration never raises the confidence.
        """
        known = self.confidence
        if known is None:
            return list(predictions)
        result = []
        for one in predictions:
            apart = uncertainties(one)[known.unit == "mm"] > known.radius / np.sqrt(2)
            probability = known(one.confidence)
            probability = np.where(apart, np.minimum(probability, one.confidence), probability)
            result.append(replace(one, confidence=probability, within=(known.radius, known.unit)))
        return result

    def apply(
        self, predictions: Sequence[Prediction], landmark_names: Sequence[str], coverage: float
    ) -> list[Prediction]:
        """The predictions with the radius, the bin and the bounds of the bin for each landmark.

        A landmark that was not found has neither.

        Args:
            predictions: Predictions of the N landmarks, with probabilities where there is a calibration of
                confidence.
            landmark_names: Names of the N landmarks.
            coverage: Probability with which a region contains the true point, in 0 … 1.

        Raises:
            UserError: A landmark was not calibrated, or an image has no spacing where errors are in mm.
        """
        self.check(landmark_names, {one.id: one.spacing for one in predictions})
        of_landmarks = [self.landmarks[name] for name in landmark_names]
        radii = np.array([one.radius(coverage) for one in of_landmarks])
        result = []
        for prediction in predictions:
            found = np.isfinite(prediction.coordinates).all(axis=-1)
            uncertainty = np.where(found, self.uncertainty_of(prediction), np.nan)
            bins = np.array([one.bin(u) for one, u in zip(of_landmarks, uncertainty, strict=True)])
            bounds = [one.bin_bounds(number) for one, number in zip(of_landmarks, bins, strict=True)]
            calibrated = Calibrated(
                self.unit, np.where(found, radii, inf), bins, np.array(bounds).reshape(-1, 2)
            )
            result.append(replace(prediction, calibrated=calibrated))
        return result

    def uncertainty_of(self, prediction: Prediction) -> Floats:
        """(N,) uncertainties that bins are based on, higher is less certain; NaN where unknown."""
        if self.bins_by == "confidence":
            return 1 - prediction.confidence
        return uncertainties(prediction)[self.unit == "mm"]

    def check(self, landmark_names: Sequence[str], spacings: Mapping[str, tuple[float, ...] | None]) -> None:
        """Raise a UserError for landmarks without calibration, and for images (by id) without a required
        spacing."""
        unknown = [name for name in landmark_names if name not in self.landmarks]
        if unknown:
            raise UserError(
                f"The calibration has no landmark '{unknown[0]}'; it holds {', '.join(self.landmarks)}. "
                "Calibrate with predictions of the same landmarks."
            )
        for image, spacing in spacings.items():
            if self.unit == "mm" and spacing is None:
                raise UserError(
                    f"The calibration is in mm, but the spacing of '{image}' is unknown. Give it "
                    "(predict: --spacing; evaluate: in the JSON)."
                )

    def missing(self, landmark_names: Sequence[str], coverage: float) -> list[str]:
        """Messages about landmarks without a region of this coverage, one line for equal reasons."""
        of_counts: dict[tuple[int, int], list[str]] = {}
        for name in landmark_names:
            if np.isinf(self.landmarks[name].radius(coverage)):
                errors = self.landmarks[name].errors
                of_counts.setdefault((len(errors), int(np.isinf(errors).sum())), []).append(name)
        return [
            f"landmark{'s' * (len(names) > 1)} "
            + ", ".join([*(f"'{name}'" for name in names[:MOST_NAMED]), *(["…"] * (len(names) > MOST_NAMED))])
            + f": {count} held-out errors"
            + (f", of which {lost} not found," if lost else "")
            + f" are too few for regions that hold {coverage:.4g} of the true points; "
            + ("more" if lost else f"at least {least_points(coverage)}")
            + f" are needed. The radius is left empty{f' for {len(names)} landmarks' * (len(names) > 1)}."
            for (count, lost), names in of_counts.items()
        ]


def calibrate(
    errors: Floats,
    uncertainties: Floats,
    landmark_names: Sequence[str],
    unit: str,
    bins_by: BinsBy = "confidence",
    confidence: ConfidenceCalibration | None = None,
) -> Calibration:
    """Compute the calibration from held-out errors.

    Args:
        errors: (images, N) radial errors in `unit`; infinite where a visible landmark was not found, NaN
            where none is annotated.
        uncertainties: (images, N) uncertainties to base the bins on; NaN where unknown.
        landmark_names: The N names.
        unit: `mm` or `px`.
        bins_by: Name of the uncertainties.
        confidence: See `Calibration`.
    """
    return Calibration(
        unit,
        {name: _of_landmark(errors[:, n], uncertainties[:, n]) for n, name in enumerate(landmark_names)},
        bins_by,
        confidence,
    )


def _of_landmark(errors: Floats, uncertainties: Floats) -> LandmarkCalibration:
    from scipy.optimize import isotonic_regression

    usable = np.isfinite(errors) & np.isfinite(uncertainties)
    error, uncertainty = errors[usable], uncertainties[usable]
    bins = max(1, min(BINS, len(error) // LEAST_A_BIN))
    cuts = bounds = np.empty(0)
    if bins > 1:
        cuts = np.quantile(uncertainty, np.arange(1, bins) / bins)
        # Ties have one expected error, in whatever order they were given.
        places, which, often = np.unique(uncertainty, return_inverse=True, return_counts=True)
        means = np.bincount(which, weights=error) / often
        bounds = np.interp(cuts, places, isotonic_regression(means, weights=often).x)
    return LandmarkCalibration(np.sort(errors[~np.isnan(errors)]), cuts, bounds)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a JSON: per landmark the finite errors, the number not found, cuts and bounds."""
    landmarks = {
        name: {
            "errors": [round(float(error), 4) for error in one.errors[np.isfinite(one.errors)]],
            "not_found": int(np.isinf(one.errors).sum()),
            "cuts": one.cuts.tolist(),
            "bounds": one.bounds.tolist(),
        }
        for name, one in calibration.landmarks.items()
    }
    known = calibration.confidence
    content = {
        "lannunet_calibration": FORMAT,
        "unit": calibration.unit,
        "bins_by": calibration.bins_by,
        "confidence": None if known is None else known.learned(),
        "landmarks": landmarks,
    }
    write_text(path, json.dumps(content))


class _LandmarkFile(BaseModel):
    """The entry of one landmark in a file."""

    model_config = ConfigDict(strict=True)

    errors: list[Distance]
    not_found: int = Field(ge=0, le=MOST_CASES)
    cuts: list[Finite]
    bounds: list[Finite]


class _ConfidenceFile(BaseModel):
    """See `ConfidenceCalibration`."""

    model_config = ConfigDict(strict=True)

    radius: float = Field(gt=0, allow_inf_nan=False)
    unit: Literal["mm", "px"]
    slope: float = Field(gt=0, allow_inf_nan=False)
    intercept: Finite
    points: int = Field(ge=0)


class _File(BaseModel):
    model_config = ConfigDict(strict=True)

    lannunet_calibration: Literal[1, 2]
    unit: Literal["mm", "px"]
    bins_by: BinsBy = "confidence"
    confidence: _ConfidenceFile | None = None
    landmarks: dict[str, _LandmarkFile]


def read_calibration(path: Path) -> Calibration:
    """Read a calibration file; from a file of an earlier version only the regions, with a warning."""
    if not path.exists():
        raise UserError(f"{path}: there is no such file. Make one with `lannunet calibrate`.")
    try:
        content = _File.model_validate(read_json(path))
        landmarks = {terminal_text(name): _of_file(entry) for name, entry in content.landmarks.items()}
        if content.lannunet_calibration == BEFORE:
            echo(
                f"warning: {path}: was written by an earlier version, whose confidences had another "
                "meaning. Its regions are valid; confidence is not calibrated, and there are no bins. Make "
                "it again with `lannunet calibrate`.",
                err=True,
            )
            landmarks = {name: replace(one, cuts=EMPTY, bounds=EMPTY) for name, one in landmarks.items()}
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        place = terminal_text(".".join(map(str, first["loc"])))
        raise UserError(
            f"{path}: is not a calibration of this version "
            f"({f'{place:.80}: ' if place else ''}{first['msg']}). "
            "Make one with `lannunet calibrate`."
        ) from None
    known = content.confidence
    confidence = None if known is None else ConfidenceCalibration(**known.model_dump())
    return Calibration(content.unit, landmarks, content.bins_by, confidence)


def _of_file(entry: _LandmarkFile) -> LandmarkCalibration:
    errors = np.array([*entry.errors, *[inf] * entry.not_found], dtype=np.float64)
    cuts, bounds = (np.array(values, dtype=np.float64) for values in (entry.cuts, entry.bounds))
    if cuts.shape != bounds.shape or any(
        (np.diff(values) < 0).any() for values in (errors[np.isfinite(errors)], cuts, bounds)
    ):
        raise ValueError("its numbers are out of order")
    return LandmarkCalibration(errors, cuts, bounds)
