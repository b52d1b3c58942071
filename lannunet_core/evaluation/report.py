"""`report.html`: one page that needs nothing but itself.

Pictures are SVG over an embedded JPEG, charts are SVG whose ink follows the page's colour scheme.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core.evaluation.pictures import to_display
from lannunet_core.evaluation.summary import radial_errors
from lannunet_core.files import write_text
from lannunet_core.types import Floats, Prediction, State

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CASES_A_GROUP = 4
PICTURE_PIXELS = 560
INK = "#010203"  # stands for the page's text colour in a chart
BLUE, ORANGE, GREEN = "#3b82f6", "#f08c2e", "#12a67c"
POINTS_AS_PIXELS = 2000  # beyond this many, a chart's points are one picture rather than as many elements


@dataclass(frozen=True)
class Report:
    """What the page is made of.

    Attributes:
        title: Its heading.
        predictions: Of the evaluated split, with or without annotations.
        summary: Of `summarise` on them.
        landmark_names: The N names.
        image: Gives the pixels (C, *S) of a prediction's image, in the frame of its coordinates.
        history: Rows of `metrics.jsonl`; what is named `…loss…`, `…error…` and `lr` is drawn over `epoch`.
        config: The resolved configuration.
        provenance: What `run.json` holds.
        comparison: Summaries of other methods on the same images, by name.
    """

    title: str
    predictions: Sequence[Prediction]
    summary: Mapping[str, Any]
    landmark_names: Sequence[str]
    image: Callable[[Prediction], NDArray[Any]]
    history: Sequence[Mapping[str, Any]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def write_report(path: Path, report: Report) -> None:
    """Write the page to `path`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("lannunet_core.evaluation", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = lambda number: "–" if number is None else f"{number:.2f}"
    environment.filters["percent"] = lambda rate: "–" if rate is None else f"{rate:.1%}"
    groups = _groups(report)
    counts = report.summary["overall"]["counts"]
    page = environment.get_template("report.html.j2").render(
        report=report,
        summary=report.summary,
        unit=report.summary["unit"],
        confidence=_median_confidence(report.predictions),
        charts=_charts(report),
        groups=groups,
        counted=[name for name in ("not_found", "absent", "unlabelled") if counts[name]],
        aspect=_aspect(groups),
        config=_as_yaml(report.config),
        provenance=_as_yaml(report.provenance),
    )
    write_text(path, page)


def _as_yaml(values: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(values, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""


def _median_confidence(predictions: Sequence[Prediction]) -> float | None:
    values = np.concatenate([prediction.confidence for prediction in predictions] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else None


# --- cases ----------------------------------------------------------------------------


def _groups(report: Report) -> list[dict[str, Any]]:
    """Best, median and worst cases by mean error (a landmark not found is the worst of errors); without
    annotation the least and the most confident ones."""
    unit = report.summary["unit"]
    evaluated = [p for p in report.predictions if p.states is not None and (p.states == State.VISIBLE).any()]
    if evaluated:
        ranked = sorted(evaluated, key=lambda prediction: _case_error(prediction, unit))
        names = ("Best cases", "Median cases", "Worst cases")
    else:
        ranked = sorted(report.predictions, key=lambda prediction: -np.mean(prediction.confidence))
        names = ("Most confident cases", "Cases between", "Least confident cases")
    count = len(ranked)
    size = min(CASES_A_GROUP, math.ceil(count / 3))
    worst = ranked[max(count - size, size) :][::-1]
    between = ranked[size : count - len(worst)]
    start = (len(between) - size + 1) // 2
    chosen = (ranked[:size], between[max(start, 0) : max(start, 0) + size], worst)
    return [
        {"name": name, "cases": [_case(prediction, report) for prediction in predictions]}
        for name, predictions in zip(names, chosen, strict=True)
        if predictions
    ]


def _aspect(groups: Sequence[Mapping[str, Any]]) -> float:
    """Width over height of the frames that pictures are shown in: that of the middle one."""
    shapes = [case["panels"][0] for group in groups for case in group["cases"]]
    return float(np.median([shape["width"] / shape["height"] for shape in shapes])) if shapes else 1.0


def _case_error(prediction: Prediction, unit: str) -> float:
    errors = _errors(prediction, unit)
    assert prediction.states is not None
    return float(np.where(np.isnan(errors), np.inf, errors)[prediction.states == State.VISIBLE].mean())


def _errors(prediction: Prediction, unit: str) -> Floats:
    pixels, millimetres = radial_errors(prediction)
    return millimetres if unit == "mm" else pixels


def _case(prediction: Prediction, report: Report) -> dict[str, Any]:
    """A case's panels and caption. The focus is the landmark with the largest error (or least confidence)."""
    unit = report.summary["unit"]
    errors = _errors(prediction, unit)
    target = np.full_like(prediction.coordinates, np.nan) if prediction.target is None else prediction.target
    known = np.isfinite(errors)
    focus = int(np.nanargmax(errors)) if known.any() else int(np.argmin(prediction.confidence))
    marks = [
        {
            "name": name,
            "focus": n == focus,
            "prediction": prediction.coordinates[n],
            "target": target[n],
            "text": f"{name}: " + (f"{errors[n]:.2f} {unit}, " if known[n] else "")
            + f"confidence {prediction.confidence[n]:.2f}",
        }
        for n, name in enumerate(report.landmark_names)
    ]  # fmt: skip
    missing = [
        name
        for n, name in enumerate(report.landmark_names)
        if np.isnan(prediction.coordinates[n]).any()
        and (prediction.states is None or prediction.states[n] == State.VISIBLE)
    ]
    pixels = np.asarray(report.image(prediction))
    spacing = np.asarray(prediction.spacing or (1.0,) * (pixels.ndim - 1))
    panels = (_panels_2d if pixels.ndim == 3 else _panels_3d)(pixels, marks, spacing / spacing.min())
    return {
        "id": prediction.id,
        "mean": f"{errors[known].mean():.2f} {unit}" if known.any() else None,
        "focus": marks[focus]["text"],
        "missing": missing,
        "panels": panels,
        "volume": pixels.ndim == 4,
    }


def _panels_2d(pixels: NDArray[Any], marks: list[dict[str, Any]], scale: Floats) -> list[dict[str, Any]]:
    """The whole image, and a window around the focus."""
    shown = to_display(pixels)
    height, width = shown.shape[:2]
    panels = [_panel(shown, (0, 0, width, height), marks, scale)]
    focus = next(mark for mark in marks if mark["focus"])
    ends = np.array([focus["prediction"], focus["target"]])
    if np.isnan(ends).all():
        return panels
    centre = np.nanmean(ends, axis=0) if np.isnan(ends).any() else ends.mean(axis=0)
    spread = 0.0 if np.isnan(ends).any() else float(np.abs(ends[0] - ends[1]).max())
    half = max(6.0, 0.03 * max(width, height), 0.8 * spread)
    x, y = np.floor(centre + 0.5 - half).astype(int).clip(0)
    x_end, y_end = np.minimum(np.ceil(centre + 0.5 + half).astype(int), (width, height))
    if x < x_end and y < y_end:
        panels.append(_panel(shown, (x, y, x_end, y_end), marks, scale))
    return panels


def _panels_3d(pixels: NDArray[Any], marks: list[dict[str, Any]], scale: Floats) -> list[dict[str, Any]]:
    """The three planes through the focus; landmarks off the plane are projected onto it."""
    focus = next(mark for mark in marks if mark["focus"])
    size = np.array(pixels.shape[:0:-1])
    through = np.where(np.isnan(focus["target"]), focus["prediction"], focus["target"])
    through = np.where(np.isnan(through), (size - 1) / 2, through)
    plane = np.clip(through.round().astype(int), 0, size - 1)
    shown = to_display(pixels)  # (z, y, x, 3)
    panels = []
    for axis, cut in ((2, shown[plane[2]]), (1, shown[:, plane[1]]), (0, shown[:, :, plane[0]])):
        kept = [other for other in range(3) if other != axis]
        flat = [
            {**mark, "prediction": mark["prediction"][kept], "target": mark["target"][kept]} for mark in marks
        ]
        panel = _panel(cut, (0, 0, cut.shape[1], cut.shape[0]), flat, scale[kept])
        # Three share the width of one, so marks are drawn larger.
        panels.append({**panel, "unit": 2 * panel["unit"], "caption": f"{'xyz'[axis]} = {plane[axis]}"})
    return panels


def _panel(
    shown: NDArray[np.uint8],
    window: tuple[int, int, int, int],
    marks: Sequence[Mapping[str, Any]],
    scale: Floats,
) -> dict[str, Any]:
    """What the template needs to draw a window (x, y, x end, y end) of a picture with its marks.

    Lengths are picture pixels times `scale` (x, y), with the origin at the window's corner.
    """
    x, y, x_end, y_end = window
    origin = np.array([x - 0.5, y - 0.5])

    def place(point: Floats) -> list[float] | None:
        return (
            [round(float(value), 2) for value in (point - origin) * scale]
            if np.isfinite(point).all()
            else None
        )

    width, height = np.array([x_end - x, y_end - y]) * scale
    return {
        "href": _jpeg(shown[y:y_end, x:x_end]),
        "width": round(float(width), 2),
        "height": round(float(height), 2),
        "unit": round(float(max(width, height)) / 100, 3),
        "marks": [
            {**mark, "prediction": place(mark["prediction"]), "target": place(mark["target"])}
            for mark in marks
        ],
        "caption": "",
    }


def _jpeg(shown: NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) as a data URI, no larger than the page shows it."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(shown))
    picture.thumbnail((PICTURE_PIXELS, PICTURE_PIXELS), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


# --- charts ----------------------------------------------------------------------------


def _charts(report: Report) -> list[dict[str, Any]]:
    """Title, caption and SVG of each chart that the data allow."""
    unit = report.summary["unit"]
    charts: list[dict[str, Any]] = []
    errors = np.array([_errors(prediction, unit) for prediction in report.predictions])
    confidence = np.array([prediction.confidence for prediction in report.predictions])

    def add(title: str, caption: str, draw: Callable[[Axes], None]) -> None:
        with _figure() as figure:
            draw(figure.subplots())
            charts.append({"title": title, "caption": caption, "svg": _svg(figure, f"chart{len(charts)}")})

    if np.isfinite(errors).any():
        add(
            "Error by landmark",
            "Boxes hold the middle half of the cases, the line is the median; every dot is a case.",
            lambda axis: _draw_boxes(axis, errors, report.landmark_names, f"radial error ({unit})"),
        )
        add(
            "Detection rate",
            "Share of landmarks within a radius of the annotation; one that was not found counts as a miss.",
            lambda axis: _draw_detection(axis, report, errors),
        )
        if np.isfinite(confidence[np.isfinite(errors)]).any():
            add(
                "Error against confidence",
                "A confidence is honest when large errors come with small values.",
                lambda axis: _draw_confidence(axis, confidence, errors, unit),
            )
    elif np.isfinite(confidence).any():
        add(
            "Confidence by landmark",
            "Boxes hold the middle half of the cases, the line is the median; every dot is a case.",
            lambda axis: _draw_boxes(axis, confidence, report.landmark_names, "confidence"),
        )
    rows = [dict(_flat(row)) for row in report.history]
    panels = (
        ("loss", "Training loss", "log"),
        ("error", "Validation error", "linear"),
        ("lr", "Learning rate", "linear"),
    )
    for word, title, scale in panels:
        curves = _curves(rows, word)
        if curves:
            add(title, "", partial(_draw_curves, curves=curves, scale=scale))
    return charts


def _draw_boxes(axis: Axes, values: Floats, names: Sequence[str], label: str) -> None:
    """One box a column of `values` (images, N), with its points."""
    columns = [column[np.isfinite(column)] for column in values.T]
    places = np.arange(len(columns))
    axis.boxplot(
        columns,
        positions=places,
        widths=0.55,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": BLUE, "alpha": 0.35, "edgecolor": BLUE},
        medianprops={"color": INK, "linewidth": 1.5},
        whiskerprops={"color": BLUE},
        capprops={"color": BLUE},
    )
    jitter = np.random.default_rng(0)
    x = np.concatenate(
        [place + jitter.uniform(-0.2, 0.2, len(c)) for place, c in zip(places, columns, strict=True)]
    )
    y = np.concatenate(columns)
    axis.scatter(x, y, s=5, color=BLUE, alpha=0.6, linewidths=0, rasterized=len(y) > POINTS_AS_PIXELS)
    turned = len(names) > 10 or max(map(len, names)) > 6
    axis.set_xticks(places, names, rotation=90 if len(names) > 14 else 35 if turned else 0,
                    ha="right" if turned and len(names) <= 14 else "center", parse_math=False)  # fmt: skip
    axis.set(ylabel=label, ylim=(0, None))


def _draw_detection(axis: Axes, report: Report, errors: Floats) -> None:
    unit = report.summary["unit"]
    counts = report.summary["overall"]["counts"]
    found = np.sort(errors[np.isfinite(errors)])
    asked = counts["evaluated"] + counts["not_found"]
    rows = report.summary["overall"]["detection_rates"]
    end = max([1.15 * row["radius"] for row in rows] + [1.2 * float(np.percentile(found, 95))])
    x = np.concatenate([[0], found, [max(end, found[-1])]])
    rate = np.concatenate([[0], np.arange(1, len(found) + 1), [len(found)]]) / asked * 100
    axis.step(x, rate, where="post", color=BLUE, linewidth=2)
    for row in rows:
        axis.plot(row["radius"], row["rate"] * 100, "o", color=ORANGE, markersize=5)
        if row["ci95"]:
            axis.plot([row["radius"]] * 2, np.array(row["ci95"]) * 100, color=ORANGE, linewidth=1.5)
    axis.set(xlabel=f"radius ({unit})", ylabel="detected (%)", xlim=(0, end), ylim=(0, 102))


def _draw_confidence(axis: Axes, confidence: Floats, errors: Floats, unit: str) -> None:
    known = np.isfinite(errors) & np.isfinite(confidence)
    axis.scatter(
        confidence[known],
        errors[known],
        s=10,
        color=BLUE,
        alpha=0.6,
        linewidths=0,
        rasterized=int(known.sum()) > POINTS_AS_PIXELS,
    )
    axis.set(xlabel="confidence", ylabel=f"radial error ({unit})", xlim=(-0.02, 1.02), ylim=(0, None))


Curves = dict[str, tuple[list[float], list[float]]]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _curves(rows: Sequence[Mapping[str, Any]], word: str) -> Curves:
    """Epochs and values of each finite figure whose name holds `word`."""
    curves: Curves = {}
    for number, row in enumerate(rows):
        for key, value in row.items():
            if word in key and isinstance(value, (int, float)) and math.isfinite(value):
                epochs, values = curves.setdefault(key, ([], []))
                epochs.append(row.get("epoch", number))
                values.append(value)
    return curves


def _draw_curves(axis: Axes, curves: Curves, scale: str) -> None:
    for (name, (epochs, values)), colour in zip(
        curves.items(), [BLUE, ORANGE, GREEN] * len(curves), strict=False
    ):
        axis.plot(
            epochs,
            values,
            color=colour,
            linewidth=1.6,
            label=name,
            marker="o" if len(epochs) < 40 else None,
            markersize=3,
        )
    if scale == "log" and all(value > 0 for _, values in curves.values() for value in values):
        axis.set_yscale("log")
    else:
        axis.set_ylim(0, None)
    axis.set_xlabel("epoch")
    if len(curves) > 1:
        for text in axis.legend(frameon=False).get_texts():
            text.set_parse_math(False)


@contextmanager
def _figure() -> Iterator[Figure]:
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": INK,
        "grid.alpha": 0.12,
        "grid.linewidth": 0.6,
    }
    with matplotlib.rc_context(style):
        yield Figure(figsize=(5.4, 3.3), layout="constrained", facecolor="none")


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an <svg> element; `salt` keeps the ids of several charts on one page apart."""
    import matplotlib
    from markupsafe import Markup

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        for axis in figure.axes:
            axis.set_facecolor("none")
        figure.savefig(buffer, format="svg", dpi=160, metadata=nothing)
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :].replace(INK, "currentColor"))
