"""Decide whether a landmark is in the image: it is if its probability reaches its own threshold.

Under `kl` it is the probability that the network has learned, the complement of "not here"; other losses do
not learn one, and the raw confidence is used instead. The thresholds minimise the number of wrong decisions
on the landmarks of the validation images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lannunet_core import EvaluationMode, Floats, State, UserError
from lannunet_landmarks.predict.predictor import Locate, Located
from lannunet_landmarks.types import Prediction, Sample

KNOWN_NEGATIVE = (State.ABSENT, State.OUTSIDE)


def check_calibration(samples: Sequence[Sample], path: Path) -> None:
    """Raise a UserError for validation samples whose landmarks are all present, or all absent."""
    states = np.concatenate([sample.states for sample in samples] or [np.empty(0, np.int64)])
    if not np.isin(states, KNOWN_NEGATIVE).any() or not (states == State.VISIBLE).any():
        raise UserError(
            f'inference.presence: "validation" of {path} has to have landmarks that are "absent" and others '
            "that are not, to find out how they differ. Annotate some, or leave the key out."
        )


def calibrated(predictions: Sequence[Prediction]) -> list[float]:
    """The threshold of each landmark.

    A landmark that is in all of the images, or in none, gets the threshold of all landmarks together.
    """
    states = np.array([p.states for p in predictions if p.states is not None])  # (I, N)
    confidence = np.array([figure_of(p) for p in predictions if p.states is not None])
    visible, absent = states == State.VISIBLE, np.isin(states, KNOWN_NEGATIVE)
    of_all = threshold(confidence[visible], confidence[absent])
    return [
        threshold(values[seen], values[unseen]) if seen.any() and unseen.any() else of_all
        for values, seen, unseen in zip(confidence.T, visible.T, absent.T, strict=True)
    ]


def figure_of(prediction: Prediction) -> Floats:
    """(N,) the values that presence is decided by."""
    return prediction.confidence if prediction.presence is None else prediction.presence


def threshold(visible: Floats, absent: Floats) -> float:
    """The threshold with the fewest of `visible` below and of `absent` above; in the widest gap if tied."""
    values = np.unique(np.concatenate([[0.0, 1.0], visible, absent]))
    middle = (values[1:] + values[:-1]) / 2
    missed = np.searchsorted(np.sort(visible), middle)
    wrong = missed + len(absent) - np.searchsorted(np.sort(absent), middle)
    return float(middle[np.where(wrong == wrong.min(), np.diff(values), 0).argmax()])


def deciding(locate: Locate, thresholds: Sequence[float]) -> Locate:
    """`locate`, which also decides whether each landmark is present."""

    def decide(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
        located = locate(batch, mode)
        found = located.main
        figure = (found.confidence if found.presence is None else found.presence).double().cpu()
        likely = figure >= torch.tensor(thresholds, dtype=torch.float64)
        return replace(located, present=likely & torch.isfinite(found.points).all(-1).cpu())

    return decide
