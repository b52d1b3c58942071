"""`lannunet evaluate`: the figures of predictions against annotations."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from lannunet_core import UserError
from lannunet_landmarks.commands.calibrate import check_coverage


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

    from lannunet_core import api
    from lannunet_landmarks.data.annotations import dataset_section, load_dataset
    from lannunet_landmarks.evaluation.calibration import read_calibration
    from lannunet_landmarks.evaluation.coverage import print_coverage
    from lannunet_landmarks.evaluation.pooled import pool
    from lannunet_landmarks.evaluation.reliability import say_confidence
    from lannunet_landmarks.evaluation.summary import print_summary

    known = None if calibration is None else read_calibration(calibration)
    predictions: Any = paths[0]
    if runs:
        predictions, dataset = pool(paths)
        title = f"{dataset.name}, {len(paths)} runs"
    else:
        dataset = load_dataset(dataset_section(paths[1], root, chosen), 0 if fold is None else fold)
        for note in dataset.notes:
            print(f"warning: {note}", file=sys.stderr)
        title = f"{dataset.name}, {'testing' if split is None else split.value}"
    summary = api.evaluate(
        predictions,
        dataset,
        task="landmarks",
        split="testing" if split is None else split.value,
        radii=wanted_radii,
        calibration=known,
        coverage=coverage,
        output=output,
        title=title,
    )
    for line in [] if known is None else known.missing(dataset.landmark_names, coverage):
        print(f"warning: {line}", file=sys.stderr)
    print_summary(summary, title)
    print(say_confidence(summary["confidence"]))
    if known is not None:
        print_coverage(summary["calibration"])
    if output is not None:
        print(f"report: {output / 'report.html'}")


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
