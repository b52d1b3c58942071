"""The figures of predictions that a program hands over."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Floats, State, UserError
from lannunet_landmarks.data.annotations import LandmarkDataset, open_first
from lannunet_landmarks.evaluation.pooled import join
from lannunet_landmarks.evaluation.predictions import read_predictions
from lannunet_landmarks.evaluation.summary import summarise_errors
from lannunet_landmarks.predict.model import Landmarks
from lannunet_landmarks.schema import RADII
from lannunet_landmarks.types import Prediction


def evaluate_given(predictions: Any, truth: Any) -> dict[str, Any]:
    """See `summarise_errors`.

    Args:
        predictions: A sequence of `Landmarks`, or the path of a predictions.csv, whose samples are then those
            of the data set's `testing`.
        truth: A data set or the path of one, whose `testing` these are; of `Landmarks` also the annotated
            points (N, D) of each, in the same order, NaN where nothing is annotated.

    Raises:
        UserError: The two do not belong together.
    """
    dataset = truth if isinstance(truth, LandmarkDataset) else None
    if isinstance(truth, (str, PathLike)):
        dataset = open_first(Path(truth))
    if isinstance(predictions, (str, PathLike)):
        if dataset is None:
            raise UserError("evaluate: the samples of a table are told apart by a data set; give its path.")
        path = Path(predictions)
        predicted, names = read_predictions(path)
        return summarise_errors(
            join(path, predicted, names, dataset, "testing"), dataset.landmark_names, RADII
        )
    if dataset is not None:
        known = [(one.coordinates, one.states) for one in dataset.samples["testing"]]
    else:
        points = [np.asarray(one, np.float64) for one in truth]
        known = [(one, np.where(np.isfinite(one).all(-1), State.VISIBLE, State.UNLABELLED)) for one in points]
    return _summary(predictions, known)


def _summary(
    predictions: Sequence[Landmarks], truth: Sequence[tuple[Floats, NDArray[Any]]]
) -> dict[str, Any]:
    """Of predictions and the points (N, D) and states (N,) that are annotated in the same images."""
    if not predictions or len(predictions) != len(truth):
        raise UserError(
            f"evaluate: {len(predictions)} predictions and {len(truth)} annotations; give one a prediction."
        )
    names, joined = predictions[0].names, []
    for number, (found, (target, states)) in enumerate(zip(predictions, truth, strict=True)):
        if target.shape != found.points.shape or found.names != names:
            raise UserError(
                f"evaluate: annotation {number} has the shape {target.shape}, the prediction "
                f"{found.points.shape}; give the same landmarks, in the same order."
            )
        joined.append(
            Prediction(
                id=str(number),
                image=Path(),
                coordinates=found.points,
                confidence=found.confidence,
                present=found.present,
                target=target,
                states=states,
                spacing=found.spacing,
            )
        )
    return summarise_errors(joined, names, RADII)
