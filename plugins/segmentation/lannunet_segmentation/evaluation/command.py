"""`lannunet evaluate` for label maps."""

from __future__ import annotations

from pathlib import Path

from lannunet_report import EvaluationRequest, PredictionFormat

OF_LANDMARKS = ("calibration", "coverage", "split", "root", "fold", "landmarks", "radii")


def takes(predictions: Path, labels: Path) -> bool:
    """Whether they are two folders."""
    return predictions.is_dir() and labels.is_dir()


def evaluate(request: EvaluationRequest) -> None:
    """Compute Dice, surface distances and volumes, of two folders or of all cases of runs."""
    request.refuse("segmentation", *OF_LANDMARKS)

    from lannunet_segmentation.evaluation.given import evaluate_folders
    from lannunet_segmentation.evaluation.pooled import evaluate_runs

    if request.runs:
        evaluate_runs(request.paths, request.output, request.full)
    else:
        evaluate_folders(request.paths[0], request.paths[1], request.output, request.full)


PREDICTIONS = PredictionFormat("segmentation", takes, evaluate)
