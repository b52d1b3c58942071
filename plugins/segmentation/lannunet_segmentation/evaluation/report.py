"""The files written for segmented cases: table, summary and report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_images import IMAGE_FILES
from lannunet_report import (
    FOR_PICTURES,
    CaseView,
    Chart,
    best_middle_worst,
    box_height,
    case_views,
    draw_boxes,
    kept_epoch,
    make_chart,
    monitor_of,
    plugin_charts,
    training_charts,
    write_page,
)
from numpy.typing import NDArray

from lannunet_core import ReportPart, UserError, echo, progress_bar, write_text
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.headers import case_geometry, states_spacing
from lannunet_segmentation.data.label_files import read_label
from lannunet_segmentation.evaluation.case_views import case_view, classes_of
from lannunet_segmentation.evaluation.metrics import compared_metrics
from lannunet_segmentation.evaluation.summary import (
    STATES,
    MeasuredCase,
    compare,
    print_summary,
    summarise_cases,
    table,
    write_cases,
)
from lannunet_segmentation.types import (
    IGNORE,
    Case,
    CaseImage,
    Labels,
    SegmentationDataset,
    SegmentedCase,
)

PANELS = (
    ("loss", "Training loss", "log"),
    ("terms.", "Terms of the loss", "linear"),
    ("error", "Validation error (1 − Dice)", "linear"),
    ("lr", "Learning rate", "linear"),
)
Weight = Callable[[SegmentedCase], NDArray[Any] | None]


def write_segmentation_results(
    cases: Sequence[SegmentedCase],
    dataset: SegmentationDataset,
    folder: Path,
    title: str,
    history: Sequence[Mapping[str, Any]],
    resolved: Mapping[str, Any],
    description: Mapping[str, Any],
    others: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    figures: Mapping[str, float] | None = None,
    weight: Weight | None = None,
    parts: Sequence[ReportPart] = (),
    seed: int = 0,
    full: bool = False,
    final: str | None = None,
) -> dict[str, Any]:
    """Measure segmented cases; write `cases.csv`, `summary.json` and `report.html`, print the metrics.

    Args:
        cases: Cases with or without annotation.
        dataset: Data set with the classes, which defines how files are read.
        folder: Output folder.
        title: Heading of the page.
        history: Rows of `metrics.jsonl`.
        resolved: The resolved configuration.
        description: Content of `run.json`.
        others: Summaries of other segmentations of the same cases, by name, for comparison; as this
            function returns them or `summary.json` has them.
        figures: Additional named metrics, from plugins.
        weight: Returns the weights (*S) of a case's voxels, for the weighted Dice; None: it has none.
        parts: Additional parts of the page, from plugins.
        seed: Seed of the bootstrap.
        full: Whether the page has pictures of all cases, regardless of its size.
        final: Folder of the final results in this one, if these are a first stage's.

    Returns:
        The summary; see `summary.summarise`. With `others` it has `comparison`, with `figures` `metrics`.

    Raises:
        UserError: A prediction does not fit its annotation.
    """
    names = [region.name for region in dataset.compared]
    unit = unit_of(cases, dataset)
    with progress_bar("measuring", len(cases)) as bar:
        measured = []
        for case in cases:
            measured.append(measure(case, dataset, weight))
            bar.advance()
    summary = summarise_cases(measured, names, unit, seed)
    if others:
        summary["comparison"] = {name: compare(summary, other, seed) for name, other in others.items()}
    if figures:
        summary["metrics"] = {name: value if isfinite(value) else None for name, value in figures.items()}
    if final is not None:
        summary["final"] = f"{final}/summary.json"
    write_cases(folder / "cases.csv", measured, names, unit, dataset.dimensions)
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    rows = _rows(measured, names)
    views = _views(measured, dataset, [row["number"] for row in rows], full)
    write_page(
        folder / "report.html",
        Path(__file__).with_name("report.html.j2"),
        resolved,
        description,
        title=title,
        summary=summary,
        classes=classes_of(names),
        weighted=summary["overall"]["weighted_dice"] is not None,
        states=[state for state in STATES[1:] if summary["overall"]["counts"][state]],
        charts=_charts(measured, names, unit)
        + training_charts(history, PANELS, monitor_of(resolved))
        + plugin_charts(parts),
        kept=kept_epoch(history, monitor_of(resolved)),
        cases=rows,
        views=views,
        layers=[("prediction", "prediction"), *([("target", "annotation")] if summary["evaluated"] else [])],
        volumes=dataset.dimensions == 3,
        final=None if final is None else f"{final}/report.html",
        partial=any('"ignored":' in view for view in views.values()),
    )
    if summary["evaluated"]:
        print_summary(summary, title)
    for name, value in (figures or {}).items():
        echo(f"{name}: {value:.4g}")
    echo(f"report: {folder / 'report.html'}")
    return summary


def unit_of(cases: Sequence[SegmentedCase], dataset: SegmentationDataset) -> str:
    """The unit of distances: mm, or pixels if no file states its spacing."""
    known = any(states_spacing(Case(case.id, case.images, None), dataset) for case in cases)
    return "mm" if known else "px"


def measure(case: SegmentedCase, dataset: SegmentationDataset, weight: Weight | None = None) -> MeasuredCase:
    """Compare one case with its annotation."""
    predicted = _predicted(case, dataset)
    # Not the spacing of the predicted file, as 2D images and arrays have none.
    geometry = case.geometry or case_geometry(Case(case.id, case.images, None), dataset)
    counts = np.bincount(predicted[predicted > 0], minlength=len(dataset.class_names))
    voxels = tuple(int(counts[list(region.labels)].sum()) for region in dataset.compared)
    voxel = float(np.prod(geometry.spacing))
    target = _target(case, dataset)
    if target is None or not (target != IGNORE).any():
        return MeasuredCase(case, voxels, None, voxel)
    if target.shape != predicted.shape:
        found, wanted = ("×".join(map(str, labels.shape[::-1])) for labels in (predicted, target))
        raise UserError(
            f"{case.predicted}: its size is {found}, that of the annotation of {case.id} is {wanted}. Both "
            "must lie on the image's grid: predict it again."
        )
    weights = None if weight is None else weight(case)
    metrics = compared_metrics(predicted, target, geometry.spacing, dataset.compared, case.annotated, weights)
    return MeasuredCase(case, voxels, metrics, voxel)


def read_label_maps(case: SegmentedCase, dataset: SegmentationDataset) -> tuple[Labels, Labels | None]:
    """The predicted and the annotated label map (*S) of a case; None: it has no annotation."""
    return _predicted(case, dataset), _target(case, dataset)


def _predicted(case: SegmentedCase, dataset: SegmentationDataset) -> Labels:
    """A predicted label map, read by LannU-Net even if a plugin has a reader for the suffix."""
    return read_label(case.predicted, replace(dataset, files=IMAGE_FILES))[0]


def _stored(case: SegmentedCase, dataset: SegmentationDataset) -> CaseImage:
    return read_case(Case(case.id, case.images, case.target), dataset)


def _target(case: SegmentedCase, dataset: SegmentationDataset) -> Labels | None:
    if dataset.layout == "preprocessed":
        return _stored(case, dataset).label
    return None if case.target is None else read_label(case.target, dataset)[0]


# --- cases ----------------------------------------------------------------------------


def _rows(measured: Sequence[MeasuredCase], names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the table, those with the lowest mean Dice first."""
    rows = []
    for number, case in enumerate(measured):
        dice = _mean_dice(case)
        of_names = zip(names, case.metrics or (), strict=False)
        known = [(one, name) for name, one in of_names if isfinite(one.dice)]
        worst = min(known, key=lambda found: found[0].dice, default=None)
        far = [one.hausdorff95 for one, _ in known if isfinite(one.hausdorff95)]
        rows.append(
            {
                "number": number,
                "id": case.case.id,
                "dice": dice,
                "worst": None if worst is None else worst[0].dice,
                "class": "" if worst is None else worst[1],
                "hausdorff95": max(far, default=None),
                "missed": [name for one, name in known if one.state == "missed"],
            }
        )
    return sorted(rows, key=lambda row: 2.0 if row["dice"] is None else float(row["dice"]))


def _views(
    measured: Sequence[MeasuredCase], dataset: SegmentationDataset, order: Sequence[int], full: bool
) -> dict[int, Any]:
    """The pictures of cases: first of the worst, the best and those between."""
    worst, middle, best = best_middle_worst(order)
    first = [*worst, *best, *middle]

    def view(number: int, large: bool) -> CaseView:
        case = measured[number].case
        placed = dataset.layout != "preprocessed" and dataset.files.placement(case.images[0]) is not None
        return case_view(_stored(case, dataset), _predicted(case, dataset), dataset, placed, large)

    wanted = list(dict.fromkeys([*first, *order]))
    views = case_views(wanted, view, len(first), None if full else FOR_PICTURES)
    return {number: found for number, found in zip(wanted, views, strict=True) if found is not None}


def _mean_dice(case: MeasuredCase) -> float | None:
    dice = [metrics.dice for metrics in case.metrics or () if isfinite(metrics.dice)]
    return float(np.mean(dice)) if dice else None


# --- charts ---------------------------------------------------------------------------


def _charts(measured: Sequence[MeasuredCase], names: Sequence[str], unit: str) -> list[Chart]:
    evaluated = [case for case in measured if case.metrics is not None]
    boxes = "Boxes contain the middle half of the cases, lines are medians, and dots are cases."
    charts = []
    for figure, title, label in (
        ("dice", "Dice by class", "Dice"),
        ("weighted_dice", "Weighted Dice by class", "weighted Dice"),
        ("hausdorff95", "95 % Hausdorff distance by class", f"distance ({unit})"),
        ("mean_surface_distance", "Mean surface distance by class", f"distance ({unit})"),
    ):
        values = table(evaluated, figure, len(names))
        if np.isfinite(values).any():
            charts.append(
                make_chart(
                    title,
                    boxes,
                    partial(draw_boxes, values=values, names=names, label=label),
                    height=box_height(names),
                )
            )
    return charts
