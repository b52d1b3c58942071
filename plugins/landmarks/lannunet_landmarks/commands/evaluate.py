"""`lannunet evaluate` for predictions of landmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lannunet_report import EvaluationRequest, PredictionFormat

from lannunet_core import UserError, echo
from lannunet_landmarks.commands.calibrate import check_coverage

COVERAGE, RADII = 0.9, "2,2.5,3,4"


def takes(predictions: Path, annotations: Path) -> bool:
    """Whether the paths are a table and annotations, not two folders of label maps."""
    return not (predictions.is_dir() and annotations.is_dir())


def evaluate(request: EvaluationRequest) -> None:
    """Compute radial errors, success detection rates and the coverage of calibrated regions."""
    paths, split, output, fold = request.paths, request.split, request.output, request.fold
    chosen = None if request.landmarks is None else [_index(word) for word in request.landmarks.split(",")]
    wanted_radii = [_radius(word) for word in (request.radii or RADII).split(",")]
    coverage = COVERAGE if request.coverage is None else request.coverage
    check_coverage(coverage)
    if request.runs and any(given is not None for given in (split, request.root, fold, chosen)):
        raise UserError(
            "--runs: each run knows its own data; leave out --split, --root, --fold and --landmarks."
        )

    from lannunet_core import api
    from lannunet_landmarks.data.annotations import dataset_section, load_dataset
    from lannunet_landmarks.evaluation.calibration import read_calibration
    from lannunet_landmarks.evaluation.coverage import print_coverage
    from lannunet_landmarks.evaluation.pooled import pool
    from lannunet_landmarks.evaluation.reliability import say_confidence
    from lannunet_landmarks.evaluation.summary import print_summary

    known = None if request.calibration is None else read_calibration(request.calibration)
    predictions: Any = paths[0]
    if request.runs:
        predictions, dataset = pool(paths)
        title = f"{dataset.name}, {len(paths)} runs"
    else:
        dataset = load_dataset(dataset_section(paths[1], request.root, chosen), 0 if fold is None else fold)
        for note in dataset.notes:
            echo(f"warning: {note}", err=True)
        title = f"{dataset.name}, {split or 'testing'}"
    summary = api.evaluate(
        predictions,
        dataset,
        task="landmarks",
        split=split or "testing",
        radii=wanted_radii,
        calibration=known,
        coverage=coverage,
        output=output,
        title=title,
        full=request.full,
    )
    for line in [] if known is None else known.missing(dataset.landmark_names, coverage):
        echo(f"warning: {line}", err=True)
    print_summary(summary, title)
    echo(say_confidence(summary["confidence"]))
    if known is not None:
        print_coverage(summary["calibration"])
    if output is not None:
        echo(f"report: {output / 'report.html'}")


PREDICTIONS = PredictionFormat("landmarks", takes, evaluate)


def _index(word: str) -> int:
    if not word.strip().isdecimal() or len(word) > 9:
        raise UserError(f"--landmarks: '{word}' is not an index. Give indices from 0 up, as in 0,3,4.")
    return int(word)


def _radius(word: str) -> float:
    try:
        radius = float(word)
    except ValueError:
        radius = -1.0
    if not 0 < radius < float("inf"):
        raise UserError(f"--radii: '{word}' is not a radius. Give positive numbers, as in 2,2.5,3,4.")
    return radius
