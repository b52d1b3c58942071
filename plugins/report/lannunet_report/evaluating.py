"""`lannunet evaluate`: metrics of predictions against annotations, for every task.

A task registers its evaluation as an entry point of the group `lannunet.prediction_formats`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import UserError, read_yaml, registered


class SplitName(str, Enum):
    training = "training"
    validation = "validation"
    testing = "testing"


@dataclass(frozen=True)
class EvaluationRequest:
    """The request of `lannunet evaluate`.

    Attributes:
        paths: Predictions and annotations; or the folders of runs to be pooled.
        runs: Whether they are the folders of runs.
        output: Folder for tables and a report; None: no file is written.
        calibration: File of `lannunet calibrate`.
        coverage: The probability with which its regions contain the truth.
        split: The predicted split of a data set.
        root: Folder that image paths are relative to.
        fold: Fold of the annotations.
        landmarks: Indices of landmarks.
        radii: Radii of success detection rates.
        full: Whether the report has pictures of all cases, regardless of its size.
    """

    paths: Sequence[Path]
    runs: bool = False
    output: Path | None = None
    calibration: Path | None = None
    coverage: float | None = None
    split: str | None = None
    root: Path | None = None
    fold: int | None = None
    landmarks: str | None = None
    radii: str | None = None
    full: bool = False

    def refuse(self, task: str, *names: str) -> None:
        """Raise a UserError for options without a meaning in a task."""
        for name in names:
            if getattr(self, name) is not None:
                raise UserError(
                    f"--{name}: has no meaning for {self.paths[0]}, of `task: {task}`; leave it out."
                )


@dataclass(frozen=True)
class PredictionFormat:
    """A task's evaluation of predictions.

    Attributes:
        task: Value of `task:`.
        takes: Whether predictions and annotations, two paths, belong to the task.
        evaluate: Evaluates them, or the runs of its task, and prints the results.
    """

    task: str
    takes: Callable[[Path, Path], bool]
    evaluate: Callable[[EvaluationRequest], None]


def command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PREDICTIONS ANNOTATIONS | RUN...",
            help="A predictions.csv, and the JSON of annotations or a folder of foldK.json; or two folders "
            "of label maps, or one and an nnU-Net folder; with --runs the folders of runs.",
        ),
    ],
    runs: Annotated[
        bool, typer.Option("--runs", help="Pool the predictions of runs, such as a cross-validation's.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for tables, summary.json and report.html."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="File of lannunet calibrate: add regions, and check their coverage.")
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(help="Probability with which a region contains the true point; 0.9 by default."),
    ] = None,
    split: Annotated[
        SplitName | None, typer.Option(help="Split of the predictions; testing by default.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to; the JSON's own by default.")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(help="K of foldK.json in a folder, 0 by default; -1: a plain file.")
    ] = None,
    landmarks: Annotated[
        str | None, typer.Option(help="Indices of the annotated landmarks to evaluate, as in 0,3,4.")
    ] = None,
    radii: Annotated[
        str | None,
        typer.Option(
            help="Radii of the success detection rates, in mm, in px if no spacing; 2,2.5,3,4 by default."
        ),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Put pictures of all cases into the report, whatever its size.")
    ] = False,
) -> None:
    """Evaluate predictions: errors of landmarks, or Dice and surface distances of label maps."""
    request = EvaluationRequest(
        paths=[run for path in paths for run in runs_of(path)] if runs else paths,
        runs=runs,
        output=output,
        calibration=calibration,
        coverage=coverage,
        split=None if split is None else split.value,
        root=root,
        fold=fold,
        landmarks=landmarks,
        radii=radii,
        full=full,
    )
    format_of(request).evaluate(request)


def format_of(request: EvaluationRequest) -> PredictionFormat:
    """The format of the task of predictions, or of runs.

    Raises:
        UserError: No installed task evaluates them.
    """
    known: tuple[PredictionFormat, ...] = registered("prediction_formats", PredictionFormat)
    if request.runs:
        task = task_of_run(request.paths[0])
        for one in known:
            if one.task == task:
                return one
        raise UserError(
            f"{request.paths[0]}: is of task '{task}', which cannot pool runs (these can: "
            f"{', '.join(one.task for one in known)})."
        )
    if len(request.paths) != 2:
        raise UserError(
            "evaluate: give predictions and their annotations, or --runs and the folders of runs."
        )
    for one in known:
        if one.takes(request.paths[0], request.paths[1]):
            return one
    raise UserError(f"{request.paths[0]}: no installed task evaluates this against {request.paths[1]}.")


def runs_of(path: Path) -> list[Path]:
    """The run in a folder, or those of all folds of a cross-validated run."""
    folds = [
        one for one in path.glob("fold*") if one.name[4:].isdecimal() and (one / "config.yaml").is_file()
    ]
    if (path / "config.yaml").is_file() or not folds:
        return [path]
    return sorted(folds, key=lambda one: int(one.name[4:]))


def task_of_run(run: Path) -> str:
    """The task of a run, from the configuration in its folder."""
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run}: is not the folder of a run (it has no config.yaml).")
    for entry in read_yaml(path):
        if entry.path == ("task",):
            return str(entry.value)
    raise UserError(f"{path}: was not written by a run of this version (task). Name another.")
