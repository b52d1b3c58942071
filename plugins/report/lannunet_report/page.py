"""The common parts of result pages: their frame, pictures and charts.

A page is self-contained: pictures are embedded JPEGs, charts are SVG whose ink follows the page's
colour scheme.
"""

from __future__ import annotations

import base64
import io
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from lannunet_core import Floats, ReportPart, dotted, without_places, write_text

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

CASES_A_GROUP = 4
PICTURE_PIXELS = 560
INK = "#010203"  # placeholder for the page's text colour in a chart
BLUE, ORANGE, GREEN = "#2f6fde", "#f2a33a", "#0b9b78"  # which also differ in lightness
MOST_NAMES = 12  # curves of a chart, beyond which a legend would hide them
LONGEST_NAME = 22  # characters beside a chart
WIDTH = 3.7  # inches of a chart
POINTS_AS_PIXELS = 2000  # a chart with more points draws them as one picture, not as elements

T = TypeVar("T")
Chart = dict[str, Any]
Curves = dict[str, tuple[list[float], list[float]]]


def write_page(
    path: Path, template: Path | None, config: Mapping[str, Any], provenance: Mapping[str, Any], **values: Any
) -> None:
    """Write the page that the file `template` makes from `values`; it may extend `page.html.j2`.

    `title` and `charts` are among them; the configuration and the provenance end every page, with the names
    of files only unless `output.provenance` is full. Without a template the page has no other parts.
    """
    if config.get("output", {}).get("provenance") != "full":
        config, provenance = without_places((config, provenance))
    file = template or Path(__file__).with_name("page.html.j2")
    page = _environment(file.parent).get_template(file.name)
    shown = page.render(config=_as_yaml(config), provenance=_as_yaml(provenance), **values)
    write_text(path, shown)


@cache
def _environment(folder: Path) -> Environment:
    """Finds templates in the folder, and compiles each once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = lambda number, digits=2: "–" if number is None else f"{number:.{digits}f}"
    environment.filters["percent"] = lambda rate: "–" if rate is None else f"{rate:.1%}"
    return environment


def _as_yaml(values: Mapping[str, Any]) -> str:
    import yaml

    plain = json.loads(json.dumps(values, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""


def best_middle_worst(ranked: Sequence[T]) -> tuple[Sequence[T], Sequence[T], Sequence[T]]:
    """Up to `CASES_A_GROUP` from the start, from the middle, and from the end (last one first) of `ranked`.

    The three do not overlap.
    """
    count = len(ranked)
    size = min(CASES_A_GROUP, math.ceil(count / 3))
    worst = ranked[max(count - size, size) :][::-1]
    between = ranked[size : count - len(worst)]
    start = (len(between) - size + 1) // 2
    return ranked[:size], between[max(start, 0) : max(start, 0) + size], worst


def jpeg_url(shown: NDArray[np.uint8], pixels: int = PICTURE_PIXELS) -> str:
    """A picture (H, W, 3) as a data URI, not larger than the page shows it."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(shown))
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


# --- charts ----------------------------------------------------------------------------

INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
STYLE: dict[Any, Any] = dict.fromkeys(INKED, INK) | {
    "font.size": 9.5,  # at least 11 px on a phone, where a chart is 310 px wide
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
}


def make_chart(title: str, caption: str, draw: Callable[[Axes], None], height: float = 2.7) -> Chart:
    """Title, caption and SVG of one chart, of a `height` in inches; its title is unique on the page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="none")
        draw(figure.subplots())
        return {"title": title, "caption": caption, "svg": _svg(figure, title)}


def plugin_charts(parts: Sequence[ReportPart]) -> list[Chart]:
    """The parts of a report that plugins provide, as charts."""
    charts = []
    for part in parts:
        shown = "" if part.figure is None else _svg(part.figure, part.title)
        if part.picture is not None:
            shown += Markup(f'<img src="{jpeg_url(part.picture)}" alt="{escape(part.title)}">')
        charts.append({"title": part.title, "caption": part.text, "svg": shown})
    return charts


def monitor_of(config: Mapping[str, Any]) -> str:
    """The metric that chose the best model, with a minus if higher is better."""
    return str(config.get("trainer", {}).get("monitor", "validation_error"))


def kept_epoch(history: Sequence[Mapping[str, Any]], monitor: str) -> dict[str, Any] | None:
    """The epoch of the kept model: `epoch`, `last`, `value` and `figure`; None: there was no validation."""
    name, sign = monitor.removeprefix("-"), -1 if monitor.startswith("-") else 1
    known = [row for row in history if isinstance(row.get(name), (int, float)) and math.isfinite(row[name])]
    if not known:
        return None
    best = min(known, key=lambda row: sign * row[name])
    last = history[-1].get("epoch", len(history))
    return {"epoch": best.get("epoch"), "last": last, "value": best[name], "figure": name.replace("_", " ")}


def training_charts(
    history: Sequence[Mapping[str, Any]],
    panels: Sequence[tuple[str, str, str]],
    monitor: str = "validation_error",
) -> list[Chart]:
    """A chart for each panel (word, title, scale), of the columns of `history` with the word in their name.

    A line marks the kept epoch, by the metric of `monitor` (see `kept_epoch`).
    """
    rows = [dict(dotted(row)) for row in history]
    kept = kept_epoch(history, monitor)
    epoch = None if kept is None else kept["epoch"]
    return [
        make_chart(title, "", partial(_draw_curves, curves=curves, scale=scale, label=title, kept=epoch))
        for word, title, scale in panels
        if (curves := _curves(rows, word))
    ]


def short_name(name: str) -> str:
    """A shortened name that leaves enough room for its chart."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def box_height(names: Sequence[str]) -> float:
    """Height of a chart of boxes, in inches."""
    return 0.9 + 0.26 * max(len(names), 4)


def draw_boxes(axis: Axes, values: Floats, names: Sequence[str], label: str, log: bool = False) -> None:
    """One box per column of `values` (images, N), with its points and its name.

    On a logarithmic axis a value of 0 is drawn at its left end.
    """
    columns = [column[np.isfinite(column)] for column in values.T]
    if log:
        above = values[np.isfinite(values) & (values > 0)]
        columns = [np.maximum(column, above.min()) for column in columns]
        log_axis(axis.xaxis)
    places = np.arange(len(columns))
    for place, column in zip(places, columns, strict=True):
        if len(column):
            low, middle, high = np.quantile(column, (0.25, 0.5, 0.75))
            inside = column[(column >= low - 1.5 * (high - low)) & (column <= high + 1.5 * (high - low))]
            axis.hlines(place, inside.min(), inside.max(), color=BLUE, linewidth=1)
            axis.barh(place, high - low, left=low, height=0.55, facecolor=f"{BLUE}59", edgecolor=BLUE)
            axis.vlines(middle, place - 0.28, place + 0.28, color=INK, linewidth=1.8)
    jitter = np.random.default_rng(0)
    y = np.concatenate(
        [place + jitter.uniform(-0.2, 0.2, len(c)) for place, c in zip(places, columns, strict=True)]
    )
    x = np.concatenate(columns)
    axis.scatter(x, y, s=5, color=BLUE, alpha=0.6, linewidths=0, rasterized=len(x) > POINTS_AS_PIXELS)
    axis.set_yticks(places, [short_name(name) for name in names], parse_math=False)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel(label)
    if not log:
        axis.set_xlim(0, None)


def _curves(rows: Sequence[Mapping[str, Any]], word: str) -> Curves:
    """Epochs and values of each finite column whose name contains `word`."""
    curves: Curves = {}
    for number, row in enumerate(rows):
        for key, value in row.items():
            # Below "sigma." are names of outputs, which may contain any word.
            found = word in key and (word == "sigma") == key.startswith("sigma.")
            if found and isinstance(value, (int, float)) and math.isfinite(value):
                epochs, values = curves.setdefault(key, ([], []))
                epochs.append(row.get("epoch", number))
                values.append(value)
    return curves


def _draw_curves(axis: Axes, curves: Curves, scale: str, label: str, kept: int | None) -> None:
    for (name, (epochs, values)), colour in zip(curves.items(), cycle((BLUE, ORANGE, GREEN)), strict=False):
        marker = "o" if len(epochs) < 40 else None
        axis.plot(epochs, values, color=colour, linewidth=1.6, label=name, marker=marker, markersize=3)
    if scale == "log" and all(value > 0 for _, values in curves.values() for value in values):
        log_axis(axis.yaxis)
    else:
        axis.set_ylim(0, None)
    axis.set(xlabel="epoch", ylabel=label[0].lower() + label[1:])
    if kept is not None:
        axis.axvline(kept, color=INK, linewidth=1, linestyle=":")
        axis.text(kept, 1.0, f" kept: {kept}", transform=axis.get_xaxis_transform(), va="bottom", ha="center")
    if 1 < len(curves) <= MOST_NAMES:
        for text in axis.legend(frameon=False).get_texts():
            text.set_parse_math(False)


def log_axis(axis: Axis) -> None:
    """A logarithmic axis with plain numbers; typesetting powers of ten would take most of the time."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    name = axis.axis_name  # type: ignore[attr-defined]
    getattr(axis.axes, f"set_{name}scale")("log")
    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain())


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an <svg> element; `salt` makes the ids of several charts on one page distinct."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}), warnings.catch_warnings():
        # The browser draws the text, with its own fonts.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        for axis in figure.axes:
            axis.set_facecolor("none")
        figure.set_dpi(160)  # for parts that are drawn as pixels
        canvas: Any = FigureCanvasSVG(figure)  # untyped
        canvas.print_svg(buffer, metadata=nothing)  # `savefig` draws twice
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :].replace(INK, "currentColor"))
