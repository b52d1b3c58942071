"""The figures of predictions that a program provides."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lannunet_core import UserError
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.label_files import read_label
from lannunet_segmentation.evaluation.metrics import case_metrics
from lannunet_segmentation.evaluation.summary import MeasuredCase, summarise_cases
from lannunet_segmentation.predict.model import Segmentation
from lannunet_segmentation.types import SegmentationDataset, SegmentedCase


def evaluate_given(predictions: Any, truth: Any) -> dict[str, Any]:
    """See `summarise_cases`. Distances are in mm, where voxels of unknown size count as 1 mm.

    Args:
        predictions: A sequence of `Segmentation`.
        truth: The annotated label maps (*S) of the same images, −1 where nobody annotated; or a data set, or
            the path of one, whose imagesTs these are.

    Raises:
        UserError: The two do not belong together.
    """
    if isinstance(predictions, (str, PathLike)):
        raise UserError(f"evaluate: {predictions} is a path; give what `predict` answered.")
    dataset = truth if isinstance(truth, SegmentationDataset) else None
    if isinstance(truth, (str, PathLike)):
        dataset = read_dataset(Path(truth))
    if dataset is not None:
        truth = [
            None if case.label is None else read_label(case.label, dataset)[0] for case in dataset.testing
        ]
    return _of_arrays(predictions, truth)


def _of_arrays(predictions: Sequence[Segmentation], truth: Sequence[Any]) -> dict[str, Any]:
    if not predictions or len(predictions) != len(truth):
        raise UserError(
            f"evaluate: {len(predictions)} predictions and {len(truth)} annotations; give one a prediction."
        )
    names = predictions[0].names
    classes = range(1, len(names))
    measured = []
    for number, (found, target) in enumerate(zip(predictions, truth, strict=True)):
        metrics = None
        if target is not None:
            target = np.asarray(target, np.int16)
            if target.shape != found.labels.shape or found.names != names:
                raise UserError(
                    f"evaluate: annotation {number} has the shape {target.shape}, the prediction "
                    f"{found.labels.shape}; give the same image's, and the same classes."
                )
            metrics = tuple(case_metrics(found.labels, target, found.geometry.spacing, classes))
        case = SegmentedCase(str(number), (), Path(), None)
        counts = tuple(int((found.labels == index).sum()) for index in classes)
        measured.append(MeasuredCase(case, counts, metrics))
    return summarise_cases(measured, names[1:], "mm")
