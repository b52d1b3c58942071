"""The predictions of several runs as one: held-out cases of a cross-validation cover the whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lannunet_core import UserError, load_config
from lannunet_segmentation.evaluation.given import evaluate_cases, refuse_output
from lannunet_segmentation.opened import open_run
from lannunet_segmentation.predict.targets import PREDICTIONS, label_paths
from lannunet_segmentation.types import SegmentationDataset, SegmentedCase


def evaluate_runs(runs: Sequence[Path], output: Path | None = None) -> dict[str, Any]:
    """Pool what runs segmented, and print and, where there is a folder for it, write what comes of it."""
    refuse_output(output, runs)
    cases, dataset = pool(runs)
    return evaluate_cases(cases, dataset, f"{dataset.name}, {len(runs)} runs", output)


def pool(runs: Sequence[Path]) -> tuple[list[SegmentedCase], SegmentationDataset]:
    """What runs of the same classes segmented, each case once, and the first run's data set.

    Raises:
        UserError: A case is in two runs, or their classes differ, or a label map is missing.
    """
    pooled: list[SegmentedCase] = []
    seen: dict[str, Path] = {}
    first: SegmentationDataset | None = None
    for run in runs:
        dataset, cases = read_run(run)
        first = first or dataset
        if dataset.class_names != first.class_names or dataset.dimensions != first.dimensions:
            raise UserError(
                f"{run}: its classes ({', '.join(dataset.class_names)}) are not those of {runs[0]} "
                f"({', '.join(first.class_names)}). Pool runs of the same classes."
            )
        for case in cases:
            if case.id in seen:
                raise UserError(
                    f"'{case.id}' was segmented by {seen[case.id]} and by {run}. Pool runs that evaluate "
                    "different cases, as folds do with inference.split: validation."
                )
            seen[case.id] = run
        pooled += cases
    if first is None:
        raise UserError("--runs: give the folders of one run or more.")
    return pooled, first


def read_run(run: Path) -> tuple[SegmentationDataset, list[SegmentedCase]]:
    """A run's data set, and what it segmented of the evaluated split."""
    overrides = [f"output.output_dir={run.resolve()}", "output.compare_with=[]"]
    loaded = load_config(run / "config.yaml", overrides)
    if loaded.run.task != "segmentation":
        raise UserError(f"{run}: is of task {loaded.run.task}; pool runs that segment.")
    opened = open_run(loaded)
    dataset, chosen = opened.dataset, opened.cases[opened.config.inference.split]
    paths = label_paths(chosen, dataset, run / PREDICTIONS)
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: is missing; {run} has not segmented it. Train that run to its end.")
    return dataset, [
        SegmentedCase(case.id, case.images, path, case.label, case.extra)
        for case, path in zip(chosen, paths, strict=True)
    ]
