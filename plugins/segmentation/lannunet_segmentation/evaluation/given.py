"""Evaluation of predictions from a Python program, or in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lannunet_core import UserError, progress_bar, refuse_folder
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.label_files import read_label
from lannunet_segmentation.evaluation.folders import pair_folders
from lannunet_segmentation.evaluation.metrics import compared_metrics
from lannunet_segmentation.evaluation.report import measure, unit_of, write_segmentation_results
from lannunet_segmentation.evaluation.summary import MeasuredCase, print_summary, summarise_cases
from lannunet_segmentation.predict.model import Segmentation
from lannunet_segmentation.types import SegmentationDataset, SegmentedCase, classes_as_regions


def evaluate_given(predictions: Any, truth: Any, output: str | PathLike[str] | None = None) -> dict[str, Any]:
    """See `summarise_cases`. Distances are in mm; voxels of unknown size count as 1 mm.

    Args:
        predictions: A sequence of `Segmentation`, or a folder of label maps.
        truth: The annotated label maps (*S) of the same images, −1 where there is no annotation; or a data
            set, or its path, whose imagesTs these are. For a folder of label maps, another one, or a
            data set that has labels of the same names.
        output: For folders, the folder for cases.csv, summary.json and report.html; None: no file is written.

    Raises:
        UserError: The predictions do not match the annotations, or a file in `output` would be overwritten.
    """
    if isinstance(predictions, (str, PathLike)):
        if not isinstance(truth, (str, PathLike)):
            raise UserError(f"evaluate: {predictions} is a path; give that of the annotated label maps.")
        return evaluate_folders(Path(predictions), Path(truth), None if output is None else Path(output))
    dataset = truth if isinstance(truth, SegmentationDataset) else None
    partly: list[tuple[str, ...] | None] = []
    if isinstance(truth, (str, PathLike)):
        dataset = read_dataset(Path(truth))
    if dataset is not None:
        truth = [
            None if case.label is None else read_label(case.label, dataset)[0] for case in dataset.testing
        ]
        partly = [case.annotated for case in dataset.testing]
    return _of_arrays(predictions, truth, partly or [None] * len(truth))


def evaluate_folders(
    predictions: Path, labels: Path, output: Path | None = None, full: bool = False
) -> dict[str, Any]:
    """Compare the label maps of two folders (see `pair_folders`), and print the results.

    Args:
        predictions: Folder of predicted label maps.
        labels: Folder of annotated label maps, or an nnU-Net folder.
        output: Folder for cases.csv, summary.json and report.html; None: no file is written.
    """
    refuse_output(output, (predictions, labels))
    dataset, cases = pair_folders(predictions, labels)
    return evaluate_cases(cases, dataset, f"{predictions.name} against {labels.name}", output, full)


def refuse_output(output: Path | None, inputs: Sequence[Path]) -> None:
    """Raise a UserError for a folder with predictions, labels or a run, which must not be overwritten."""
    if output is None:
        return
    if (output / "run.json").exists() or output.resolve() in [path.resolve() for path in inputs]:
        raise UserError(f"output: {output} holds what is evaluated, or a run. Name another folder.")
    refuse_folder(output, "output", None)


def evaluate_cases(
    cases: Sequence[SegmentedCase],
    dataset: SegmentationDataset,
    title: str,
    output: Path | None,
    full: bool = False,
) -> dict[str, Any]:
    """Measure segmented cases, print the results and, if there is a folder, write them.

    With `full` the report has pictures of all cases.
    """
    if output is not None:
        return write_segmentation_results(cases, dataset, output, title, [], {}, {}, full=full)
    with progress_bar("measuring", len(cases)) as bar:
        measured = []
        for case in cases:
            measured.append(measure(case, dataset))
            bar.advance()
    summary = summarise_cases(measured, [region.name for region in dataset.compared], unit_of(cases, dataset))
    print_summary(summary, title)
    return summary


def _of_arrays(
    predictions: Sequence[Segmentation], truth: Sequence[Any], partly: Sequence[tuple[str, ...] | None]
) -> dict[str, Any]:
    if not predictions or len(predictions) != len(truth):
        raise UserError(
            f"evaluate: {len(predictions)} predictions and {len(truth)} annotations; give one each."
        )
    names = predictions[0].names
    compared = predictions[0].regions or classes_as_regions(names)
    measured = []
    for number, (found, target, drawn) in enumerate(zip(predictions, truth, partly, strict=True)):
        metrics = None
        if target is not None:
            target = np.asarray(target, np.int16)
            if target.shape != found.labels.shape or (found.names, found.regions) != (
                names,
                predictions[0].regions,
            ):
                raise UserError(
                    f"evaluate: annotation {number} has the shape {target.shape}, the prediction "
                    f"{found.labels.shape}; give that of the same image, with the same classes."
                )
            metrics = compared_metrics(found.labels, target, found.geometry.spacing, compared, drawn)
        case = SegmentedCase(str(number), (), Path(), None)
        counts = tuple(int(region.mask(found.labels).sum()) for region in compared)
        measured.append(MeasuredCase(case, counts, metrics))
    return summarise_cases(measured, [region.name for region in compared], "mm")
