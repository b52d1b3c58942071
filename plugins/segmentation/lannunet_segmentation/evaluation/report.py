"""The files that segmented cases leave: table, summary and page."""

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
    Chart,
    best_middle_worst,
    display_limits,
    draw_boxes,
    jpeg_url,
    make_chart,
    plugin_charts,
    to_display,
    training_charts,
    write_page,
)
from numpy.typing import NDArray

from lannunet_core import ReportPart, UserError, progress_bar, write_text
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.headers import states_spacing
from lannunet_segmentation.data.label_files import read_label
from lannunet_segmentation.evaluation.contours import outline
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
    Geometry,
    Labels,
    SegmentationDataset,
    SegmentedCase,
)

SLICES = 5
PANEL_PIXELS = 360
SMALL = 1 / 3  # of a picture's area: foreground that takes less is shown larger beside it
ANISOTROPIC = 1.5  # from this ratio of spacings on, slices are those across the coarsest axis
CLASSES_A_CASE = 4
COLOURS = (
    "#ff9330", "#38bdf8", "#f472b6", "#a3e635", "#facc15", "#a78bfa", "#2dd4bf", "#fb7185",
)  # fmt: skip
PANELS = (
    ("loss", "Training loss", "log"),
    ("terms.", "Terms of the loss", "linear"),
    ("error", "Validation error (1 − Dice)", "linear"),
    ("lr", "Learning rate", "linear"),
)
Weight = Callable[[SegmentedCase], NDArray[Any] | None]
Box = tuple[slice, ...]


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
) -> dict[str, Any]:
    """Measure segmented cases; write `cases.csv`, `summary.json` and `report.html`, print the figures.

    Args:
        cases: With or without annotation.
        dataset: How its files are read, and its classes.
        folder: Where the files go.
        title: The page's heading.
        history: Rows of `metrics.jsonl`.
        resolved: The resolved configuration.
        description: What `run.json` holds.
        others: Summaries of the same cases segmented in another way, by name, to be compared with; as this
            function returned them or `summary.json` holds them.
        figures: Further named metrics, of plugins.
        weight: Gives the weights (*S) of a case's voxels, for the weighted Dice; None: it has none.
        parts: Additional parts of the page, of plugins.
        seed: Of the bootstrap.

    Returns:
        The summary; see `summary.summarise`. With `others` it holds `comparison`, with `figures` `metrics`.

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
    write_cases(folder / "cases.csv", measured, names, unit, dataset.dimensions)
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    groups = _groups(measured, dataset)
    write_page(
        folder / "report.html",
        Path(__file__).with_name("report.html.j2"),
        resolved,
        description,
        title=title,
        summary=summary,
        classes=[{"name": name, "colour": _colour(n)} for n, name in enumerate(names)],
        weighted=summary["overall"]["weighted_dice"] is not None,
        states=[state for state in STATES[1:] if summary["overall"]["counts"][state]],
        charts=_charts(measured, names, unit) + training_charts(history, PANELS) + plugin_charts(parts),
        groups=groups,
        volumes=dataset.dimensions == 3,
        partial=any(
            panel["ignored"] for g in groups for c in g["cases"] for row in c["rows"] for panel in row
        ),
    )
    if summary["evaluated"]:
        print_summary(summary, title)
    for name, value in (figures or {}).items():
        print(f"{name}: {value:.4g}")
    print(f"report: {folder / 'report.html'}", flush=True)
    return summary


def unit_of(cases: Sequence[SegmentedCase], dataset: SegmentationDataset) -> str:
    """Of distances: mm, or pixels where no file says how large these are."""
    known = any(states_spacing(Case(case.id, case.images, None), dataset) for case in cases)
    return "mm" if known else "px"


def measure(case: SegmentedCase, dataset: SegmentationDataset, weight: Weight | None = None) -> MeasuredCase:
    """Compare one case with its annotation."""
    predicted, stored = _predicted(case, dataset)
    geometry = case.geometry or stored  # a picture's spacing is not in its label file
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
    return _predicted(case, dataset)[0], _target(case, dataset)


def _predicted(case: SegmentedCase, dataset: SegmentationDataset) -> tuple[Labels, Geometry]:
    """What we wrote is read by us, whatever a plugin's reader makes of files of that suffix."""
    return read_label(case.predicted, replace(dataset, files=IMAGE_FILES))


def _stored(case: SegmentedCase, dataset: SegmentationDataset) -> CaseImage:
    return read_case(Case(case.id, case.images, case.target), dataset)


def _target(case: SegmentedCase, dataset: SegmentationDataset) -> Labels | None:
    if dataset.layout == "preprocessed":
        return _stored(case, dataset).label
    return None if case.target is None else read_label(case.target, dataset)[0]


# --- cases ----------------------------------------------------------------------------


def _groups(measured: Sequence[MeasuredCase], dataset: SegmentationDataset) -> list[dict[str, Any]]:
    """Best, median and worst cases by mean Dice; without annotation some from the start, middle and end."""
    ranked = sorted(
        (case for case in measured if _mean_dice(case) is not None), key=lambda case: -(_mean_dice(case) or 0)
    )
    names = ("Best cases", "Median cases", "Worst cases")
    if not ranked:
        ranked, names = list(measured), ("First cases", "Cases between", "Last cases")
    return [
        {"name": name, "cases": [_case(case, dataset) for case in chosen]}
        for name, chosen in zip(names, best_middle_worst(ranked), strict=True)
        if chosen
    ]


def _mean_dice(case: MeasuredCase) -> float | None:
    dice = [metrics.dice for metrics in case.metrics or () if isfinite(metrics.dice)]
    return float(np.mean(dice)) if dice else None


def _case(measured: MeasuredCase, dataset: SegmentationDataset) -> dict[str, Any]:
    """A case's rows of panels, and the figures of its worst classes."""
    case = measured.case
    stored = _stored(case, dataset)
    view = _View(stored, _predicted(case, dataset)[0], dataset)
    shown = [
        (number, metrics)
        for number, metrics in sorted(enumerate(measured.metrics or ()), key=lambda one: one[1].dice)
        if metrics.state not in ("absent", "unannotated")
    ]
    return {
        "id": case.id,
        "dice": _mean_dice(measured),
        "classes": [
            {
                "name": dataset.compared[number].name,
                "colour": _colour(number),
                "dice": metrics.dice,
                "hausdorff95": metrics.hausdorff95 if isfinite(metrics.hausdorff95) else None,
                "state": metrics.state,
            }
            for number, metrics in shown[:CLASSES_A_CASE]
        ],
        "more": max(len(shown) - CLASSES_A_CASE, 0),
        "rows": view.rows_2d() if dataset.dimensions == 2 else view.rows_3d(),
    }


class _View:
    """One case's image and labels, cut into panels."""

    def __init__(self, stored: CaseImage, predicted: Labels, dataset: SegmentationDataset) -> None:
        colours = dataset.dimensions == 2 and len(dataset.channel_names) == 3
        self.pixels = stored.pixels if colours else stored.pixels[:1]
        self.scale = np.asarray(stored.geometry.spacing) / min(stored.geometry.spacing)
        self.predicted, self.compared = predicted, dataset.compared
        label = stored.label
        self.target = label if label is not None and (label != IGNORE).any() else None
        if self.target is None:
            self.foreground = predicted > 0
            self.wrong = np.zeros_like(self.foreground)
        else:
            known = self.target != IGNORE
            self.foreground = known & ((predicted > 0) | (self.target > 0))
            self.wrong = known & (predicted != self.target)
        self.window = self._window()
        held = self.pixels.transpose(*range(1, self.pixels.ndim), 0)[self.window]
        self.limits = display_limits(held)

    def _window(self) -> Box:
        """Round the foreground, with some of what is about it; everything where there is none."""
        window: list[slice] = []
        for axis in range(self.foreground.ndim):
            held = np.flatnonzero(self.foreground.any(axis=_others(axis, self.foreground.ndim)))
            if not held.size:
                return (slice(None),) * self.foreground.ndim
            margin = max(4, int(held[-1] - held[0] + 1) // 4)
            window.append(slice(max(int(held[0]) - margin, 0), int(held[-1]) + 1 + margin))
        return tuple(window)

    def rows_2d(self) -> list[list[dict[str, Any]]]:
        """The whole image and, where the foreground is small, what is round it."""
        whole = (slice(None), slice(None))
        panels = [self._panel(whole)]
        if self.foreground[self.window].size < SMALL * self.foreground.size:
            panels.append(self._panel(self.window, caption="enlarged"))
        return [panels]

    def rows_3d(self) -> list[list[dict[str, Any]]]:
        """The plane of each axis with the most errors, then slices through the foreground."""
        seen = next((mask for mask in (self.wrong, self.foreground) if mask.any()), None)
        whole = (slice(None),) * 3
        planes = []
        for axis, size in enumerate(self.foreground.shape):
            place = size // 2 if seen is None else int(seen.sum(axis=_others(axis, 3)).argmax())
            planes.append(self._panel(whole, axis, place))
        axis = 2 - int(self.scale.argmax()) if self.scale.max() > ANISOTROPIC else 0
        held = np.flatnonzero(self.foreground.any(axis=_others(axis, 3)))
        chosen = np.unique(((np.arange(SLICES) + 0.5) / SLICES * len(held)).astype(int)) if held.size else []
        return [planes, [self._panel(self.window, axis, int(held[n])) for n in chosen]]

    def _panel(
        self, window: Box, axis: int | None = None, place: int = 0, caption: str = ""
    ) -> dict[str, Any]:
        """What the template needs to draw a picture, of a volume the plane `place` of `axis`.

        Lengths are its pixels times its scale (x, y).
        """

        def cut(values: NDArray[Any]) -> NDArray[Any]:
            if axis is None:
                return values[window]
            index: tuple[slice | int, ...] = (*window[:axis], place, *window[axis + 1 :])
            return values[index] if axis == 0 else values[index][::-1]  # z points up

        predicted = cut(self.predicted)
        target = None if self.target is None else cut(self.target)
        shown = to_display(np.stack([cut(channel) for channel in self.pixels]), self.limits)
        scale = np.delete(self.scale[::-1], [] if axis is None else axis)[::-1]  # (x, y)
        present = np.unique(predicted if target is None else np.stack([predicted, target])).tolist()
        width, height = np.array(predicted.shape[::-1]) * scale
        return {
            "href": jpeg_url(shown) if axis is None else jpeg_url(shown, PANEL_PIXELS),
            "width": round(float(width), 2),
            "height": round(float(height), 2),
            "scale": " ".join(f"{step:.4g}" for step in scale),
            "ignored": "" if target is None else outline(target == IGNORE),
            "outlines": [
                {
                    "index": number + 1,
                    "colour": _colour(number),
                    "predicted": outline(region.mask(predicted)),
                    "target": "" if target is None else outline(region.mask(target)),
                }
                for number, region in enumerate(self.compared)
                if not set(present).isdisjoint(region.labels)
            ],
            "caption": caption if axis is None else f"{'zyx'[axis]} = {place}",
        }


def _others(axis: int, dimensions: int) -> tuple[int, ...]:
    return tuple(other for other in range(dimensions) if other != axis)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


# --- charts ---------------------------------------------------------------------------


def _charts(measured: Sequence[MeasuredCase], names: Sequence[str], unit: str) -> list[Chart]:
    evaluated = [case for case in measured if case.metrics is not None]
    boxes = "Boxes hold the middle half of the cases, the line is the median; every dot is a case."
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
                make_chart(title, boxes, partial(draw_boxes, values=values, names=names, label=label))
            )
    return charts
