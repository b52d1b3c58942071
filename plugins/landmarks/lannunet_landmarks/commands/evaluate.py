"""`lannunet evaluate`: the figures of predictions against annotations."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lannunet_core import UserError
from lannunet_landmarks.commands.calibrate import check_coverage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from lannunet_landmarks.data.annotations import LandmarkDataset, Split
    from lannunet_landmarks.types import Prediction


class SplitName(str, Enum):
    training = "training"
    validation = "validation"
    testing = "testing"


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTIONS ANNOTATIONS | RUN...",
            help="A predictions.csv, and the JSON of annotations or a folder of foldK.json; with --runs the "
            "folders of runs.",
        ),
    ],
    runs: Annotated[
        bool, typer.Option("--runs", help="Pool the predictions of runs, such as a cross-validation's.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for predictions.csv, summary.json, report.html; made if need be."
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="What lannunet calibrate wrote: add regions, and see if they hold.")
    ] = None,
    coverage: Annotated[
        float, typer.Option(help="Probability with which a region is to hold the true point.")
    ] = 0.9,
    split: Annotated[
        SplitName | None, typer.Option(help="What the predictions are of; testing by default.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to; the JSON's own by default.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="Which foldK.json of a folder, 0 by default; -1: a plain file.")
    ] = None,
    landmarks: Annotated[
        str | None, typer.Option(help="Indices of the annotated landmarks to evaluate, as in 0,3,4.")
    ] = None,
    radii: Annotated[
        str, typer.Option(help="Radii of the success detection rates, in mm, in px if no spacing.")
    ] = "2,2.5,3,4",
) -> None:
    """Evaluate predictions: radial errors, success detection rates, and whether calibrated regions hold."""
    chosen = None if landmarks is None else [_index(word) for word in landmarks.split(",")]
    wanted_radii = [_radius(word) for word in radii.split(",")]
    check_coverage(coverage)
    if not runs and len(paths) != 2:
        raise UserError(
            "evaluate: give a predictions.csv and its annotations, or --runs and the folders of runs."
        )
    if runs and any(given is not None for given in (split, root, fold, landmarks)):
        raise UserError(
            "--runs: each run knows its own data; leave out --split, --root, --fold and --landmarks."
        )
    if output is not None:
        _refuse(output, None if runs else paths[0])

    from lannunet_landmarks.data.annotations import dataset_section, load_dataset
    from lannunet_landmarks.evaluation.calibration import read_calibration
    from lannunet_landmarks.evaluation.coverage import coverage_summary, print_coverage
    from lannunet_landmarks.evaluation.pooled import join, pool
    from lannunet_landmarks.evaluation.predictions import read_predictions
    from lannunet_landmarks.evaluation.reliability import confidence_summary, say_confidence
    from lannunet_landmarks.evaluation.summary import print_summary, summarise_errors

    known = None if calibration is None else read_calibration(calibration)
    if runs:
        compared, dataset = pool(paths)
        title = f"{dataset.name}, {len(paths)} runs"
    else:
        predicted, names = read_predictions(paths[0])
        dataset = load_dataset(dataset_section(paths[1], root, chosen), 0 if fold is None else fold)
        for note in dataset.notes:
            print(f"warning: {note}", file=sys.stderr)
        evaluated: Split = "testing" if split is None else split.value
        compared = join(paths[0], predicted, names, dataset, evaluated)
        title = f"{dataset.name}, {evaluated}"
    summary = summarise_errors(compared, dataset.landmark_names, wanted_radii)
    if known is not None:
        compared = known.apply(known.probable(compared), dataset.landmark_names, coverage)
        summary["calibration"] = coverage_summary(known, compared, dataset.landmark_names, coverage)
        for line in known.missing(dataset.landmark_names, coverage):
            print(f"warning: {line}", file=sys.stderr)
    summary["confidence"] = confidence_summary(compared)
    print_summary(summary, title)
    print(say_confidence(summary["confidence"]))
    if known is not None:
        print_coverage(summary["calibration"])
    if output is not None:
        _write(output, title, compared, summary, dataset)


def _refuse(output: Path, predictions: Path | None) -> None:
    """What a run, or the user, wrote is not replaced."""
    from lannunet_core import refuse_folder

    ours = (output / "predictions.csv").resolve()
    if (output / "run.json").exists() or (predictions is not None and predictions.resolve() == ours):
        raise UserError(f"--output: {output} holds the predictions themselves. Name another folder.")
    refuse_folder(output, "--output", None)


def _write(
    folder: Path,
    title: str,
    predictions: Sequence[Prediction],
    summary: Mapping[str, Any],
    dataset: LandmarkDataset,
) -> None:
    import json

    from lannunet_core import read_image, write_text
    from lannunet_landmarks.evaluation.predictions import write_predictions
    from lannunet_landmarks.evaluation.report import Report, write_report

    write_predictions(folder / "predictions.csv", predictions, dataset.landmark_names)
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    report = Report(
        title=title,
        predictions=predictions,
        summary=summary,
        landmark_names=dataset.landmark_names,
        image=lambda prediction: read_image(prediction.image, dataset.dimensions).pixels,
        provenance={"command": sys.argv},
    )
    write_report(folder / "report.html", report)
    print(f"report: {folder / 'report.html'}")


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
