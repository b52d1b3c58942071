"""Evaluation of predictions that a Python program provides."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lannunet_core import Floats, State, UserError, read_image, refuse_folder, write_text
from lannunet_landmarks.data.annotations import LandmarkDataset, open_first
from lannunet_landmarks.evaluation.calibration import Calibration, read_calibration
from lannunet_landmarks.evaluation.coverage import coverage_summary
from lannunet_landmarks.evaluation.pooled import join
from lannunet_landmarks.evaluation.predictions import read_predictions, write_predictions
from lannunet_landmarks.evaluation.reliability import confidence_summary
from lannunet_landmarks.evaluation.summary import summarise_errors
from lannunet_landmarks.predict.model import Landmarks
from lannunet_landmarks.schema import RADII
from lannunet_landmarks.types import Prediction, Sample, Split


def evaluate_given(
    predictions: Any,
    truth: Any,
    *,
    split: Split = "testing",
    radii: Sequence[float] = RADII,
    calibration: Calibration | str | PathLike[str] | None = None,
    coverage: float = 0.9,
    output: str | PathLike[str] | None = None,
    title: str = "",
    full: bool = False,
) -> dict[str, Any]:
    """Evaluate predictions: `summarise_errors`, with the metrics of confidence and of a calibration.

    Args:
        predictions: A sequence of `Landmarks`; the path of a predictions.csv; or a sequence of `Prediction`
            with their annotations, such as `pool` returns.
        truth: A data set or its path; for `Landmarks` also the annotated points (N, D) of each, in the
            same order, NaN where there is no annotation.
        split: The predicted split of the data set.
        radii: Radii of the success detection rates, in mm, in px where no spacing is known.
        calibration: A calibration, or the path of its file.
        coverage: Probability with which its regions contain the true point.
        output: Folder for predictions.csv, summary.json and report.html; None: no file is written.
        title: Title of the report; by default the data set and the split.
        full: Whether the report has pictures of all cases, regardless of its size.

    Raises:
        UserError: The predictions do not match the annotations, or a file in `output` would be overwritten.
    """
    dataset = truth if isinstance(truth, LandmarkDataset) else None
    if isinstance(truth, (str, PathLike)):
        dataset = open_first(Path(truth))
    table = Path(predictions) if isinstance(predictions, (str, PathLike)) else None
    if dataset is None and (table is not None or output is not None):
        what = "the samples of a table are distinguished by" if table is not None else "a report shows"
        raise UserError(f"evaluate: {what} a data set; give its path.")
    if output is not None:
        _refuse(Path(output), table)
    known = read_calibration(Path(calibration)) if isinstance(calibration, (str, PathLike)) else calibration
    compared, names = _compared(predictions, truth, dataset, split)
    summary = summarise_errors(compared, names, radii)
    if known is not None:
        compared = known.apply(known.probable(compared), names, coverage)
        summary["calibration"] = coverage_summary(known, compared, names, coverage)
    summary["confidence"] = confidence_summary(compared)
    if output is not None and dataset is not None:
        _write(Path(output), title or f"{dataset.name}, {split}", compared, summary, dataset, full)
    return summary


def _compared(
    predictions: Any, truth: Any, dataset: LandmarkDataset | None, split: Split
) -> tuple[Sequence[Prediction], Sequence[str]]:
    """The predictions with their annotations, and the names of the landmarks."""
    if dataset is None:
        points = [_points(one) for one in truth]
        states = [np.where(np.isfinite(one).all(-1), State.VISIBLE, State.UNLABELLED) for one in points]
        annotated = [
            Sample(str(number), Path(), one, state)
            for number, (one, state) in enumerate(zip(points, states, strict=True))
        ]
        return _joined(predictions, annotated), predictions[0].names if predictions else ()
    if isinstance(predictions, (str, PathLike)):
        path = Path(predictions)
        return join(path, *read_predictions(path), dataset, split), dataset.landmark_names
    if predictions and isinstance(predictions[0], Prediction):
        return predictions, dataset.landmark_names
    return _joined(predictions, dataset.samples[split]), dataset.landmark_names


def _points(points: Any) -> Floats:
    """Points (N, D), NaN where one is None."""
    try:
        sides = max((len(point) for point in points if point is not None), default=1)
        return np.array([[np.nan] * sides if point is None else point for point in points], np.float64)
    except (TypeError, ValueError):
        raise UserError(
            f"evaluate: {points!r:.60} are no points. Give numbers (N, D), and None or NaN where there is no "
            "annotation."
        ) from None


def _joined(predictions: Sequence[Landmarks], samples: Sequence[Sample]) -> list[Prediction]:
    """Predictions with the annotations of the same images, in the same order."""
    if not predictions or len(predictions) != len(samples):
        raise UserError(
            f"evaluate: {len(predictions)} predictions and {len(samples)} annotations; give one each."
        )
    names, joined = predictions[0].names, []
    for number, (found, sample) in enumerate(zip(predictions, samples, strict=True)):
        if sample.coordinates.shape != found.points.shape or found.names != names:
            raise UserError(
                f"evaluate: annotation {number} has the shape {sample.coordinates.shape}, the prediction "
                f"{found.points.shape}; give the same landmarks, in the same order."
            )
        joined.append(
            Prediction(
                id=sample.id,
                image=sample.image,
                coordinates=found.points,
                confidence=found.confidence,
                within=None if found.radius is None or found.unit is None else (found.radius, found.unit),
                present=found.present,
                target=sample.coordinates,
                states=sample.states,
                spacing=sample.spacing or found.spacing,
                extra=sample.extra,
                occluded=sample.occluded,
            )
        )
    return joined


def _refuse(output: Path, predictions: Path | None) -> None:
    """Raise a UserError if a file of a run, or of the user, would be overwritten."""
    ours = (output / "predictions.csv").resolve()
    if (output / "run.json").exists() or (predictions is not None and predictions.resolve() == ours):
        raise UserError(f"output: {output} holds the predictions themselves. Name another folder.")
    refuse_folder(output, "output", None)


def _write(
    folder: Path,
    title: str,
    predictions: Sequence[Prediction],
    summary: Mapping[str, Any],
    dataset: LandmarkDataset,
    full: bool,
) -> None:
    from lannunet_landmarks.evaluation.report import Report, write_report

    write_predictions(folder / "predictions.csv", predictions, dataset.landmark_names)
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    report = Report(
        title=title,
        predictions=predictions,
        summary=summary,
        landmark_names=dataset.landmark_names,
        image=lambda prediction: read_image(prediction.image, dataset.dimensions).pixels,
        full=full,
    )
    write_report(folder / "report.html", report)
