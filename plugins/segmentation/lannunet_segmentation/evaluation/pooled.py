"""The predictions of several runs joined: held-out cases of a cross-validation cover the whole data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lannunet_core import (
    UserError,
    earlier_results,
    echo,
    load_config,
    progress_bar,
    refuse_folder,
    write_text,
)
from lannunet_segmentation.evaluation.given import evaluate_cases, refuse_output
from lannunet_segmentation.evaluation.metrics import dice_of_masks
from lannunet_segmentation.evaluation.report import read_label_maps
from lannunet_segmentation.opened import last_stage, open_run
from lannunet_segmentation.predict.postprocessing import KEY, POSTPROCESSING, keep_largest
from lannunet_segmentation.predict.targets import PREDICTIONS, label_paths
from lannunet_segmentation.types import IGNORE, SegmentationDataset, SegmentedCase


def evaluate_runs(runs: Sequence[Path], output: Path | None = None, full: bool = False) -> dict[str, Any]:
    """Pool the cases of runs, print the results and, if there is a folder, write them."""
    refuse_output(output, runs)
    base = cross_validated(runs)
    if base is not None:
        refuse_folder(base, "--runs", None)
        if (base / POSTPROCESSING).exists() and base / POSTPROCESSING not in earlier_results(base):
            raise UserError(f"--runs: lannunet did not write {base / POSTPROCESSING}; move it away.")
    cases, dataset = pool(runs)
    summary = evaluate_cases(cases, dataset, f"{dataset.name}, {len(runs)} runs", output, full)
    if base is not None and dataset.regions:
        echo("largest components are tried for classes, and these are regions")
    elif base is not None:
        write_postprocessing(base, cases, dataset)
    return summary


def cross_validated(runs: Sequence[Path]) -> Path | None:
    """The folder of the cross-validation whose folds the runs are; None: they are not all its folds."""
    base = runs[0].resolve().parent
    folds = {path.resolve() for path in base.glob("fold*") if path.name[4:].isdecimal()}
    return base if len(runs) > 1 and {run.resolve() for run in runs} == folds else None


def write_postprocessing(
    base: Path, cases: Sequence[SegmentedCase], dataset: SegmentationDataset
) -> dict[str, Any]:
    """Decide for each class whether to keep only its largest component: if that increases the mean Dice.

    Both means are over the same held-out cases: those in which the class is annotated, or is predicted where
    there is annotation, with all components and with the largest one.

    Args:
        base: Folder for `postprocessing.json`, which holds the decision and both means.
        cases: The held-out cases of all folds.
        dataset: Data set with the classes.
    """
    names = dataset.class_names[1:]
    classes = range(1, len(dataset.class_names))
    found: list[list[list[float]]] = []  # for each case: with all components, and with the largest
    with progress_bar("trying largest components", len(cases)) as bar:
        for case in cases:
            bar.advance()
            labels, target = read_label_maps(case, dataset)
            if target is None or not (known := target != IGNORE).any():
                continue
            found.append(
                [
                    [
                        dice_of_masks(tried[known] == index, target[known] == index)
                        if case.annotated is None or name in case.annotated
                        else float("nan")
                        for index, name in enumerate(names, start=1)
                    ]
                    for tried in (labels, keep_largest(labels, classes))
                ]
            )
    dice = np.array(found, np.float64).reshape(-1, 2, len(names))
    pairs = np.where(np.isfinite(dice).all(axis=1, keepdims=True), dice, np.nan)
    means = [
        [float(np.nanmean(column)) if np.isfinite(column).any() else None for column in rows.T]
        for rows in pairs.swapaxes(0, 1)
    ]
    chosen = [
        name
        for name, plain, largest in zip(names, *means, strict=True)
        if plain is not None and largest is not None and largest > plain
    ]
    told = {
        KEY: chosen,
        "cases": len(found),
        "mean_dice": dict(zip(names, means[0], strict=True)),
        "mean_dice_of_largest_component": dict(zip(names, means[1], strict=True)),
    }
    write_text(base / POSTPROCESSING, json.dumps(told, indent=1))
    helped = f"of {', '.join(chosen)}" if chosen else "of no class"
    echo(f"largest components help {helped}: {base / POSTPROCESSING}")
    return told


def pool(runs: Sequence[Path]) -> tuple[list[SegmentedCase], SegmentationDataset]:
    """The cases of runs with the same classes, each case once, and the first run's data set.

    Raises:
        UserError: A case is in two runs, or their classes differ, or a label map is missing.
    """
    pooled: list[SegmentedCase] = []
    seen: dict[str, Path] = {}
    first: SegmentationDataset | None = None
    for run in runs:
        dataset, cases = read_run(run)
        first = first or dataset
        if dataset.compared != first.compared or dataset.dimensions != first.dimensions:
            raise UserError(
                f"{run}: its classes ({', '.join(dataset.outputs)}) are not those of {runs[0]} "
                f"({', '.join(first.outputs)}). Pool runs of the same classes."
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
    """A run's data set, and its segmented cases of the evaluated split."""
    run = last_stage(run)
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
        SegmentedCase(case.id, case.images, path, case.label, case.extra, annotated=case.annotated)
        for case, path in zip(chosen, paths, strict=True)
    ]
