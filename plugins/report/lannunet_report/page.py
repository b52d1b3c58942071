"""What the pages of results have in common: their frame, pictures and charts.

A page needs nothing but itself: pictures are embedded JPEGs, charts are SVG whose ink follows the page's
colour scheme.
"""

from __future__ import annotations

import base64
import io
import json
import math
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
    from matplotlib.figure import Figure

CASES_A_GROUP = 4
PICTURE_PIXELS = 560
INK = "#010203"  # stands for the page's text colour in a chart
BLUE, ORANGE, GREEN = "#3b82f6", "#f08c2e", "#12a67c"
MOST_NAMES = 12  # curves of a chart, beyond which a legend would hide them
POINTS_AS_PIXELS = 2000  # beyond this many, a chart's points are one picture rather than as many elements

T = TypeVar("T")
Chart = dict[str, Any]
Curves = dict[str, tuple[list[float], list[float]]]


def write_page(
    path: Path, template: Path | None, config: Mapping[str, Any], provenance: Mapping[str, Any], **values: Any
) -> None:
    """Write the page that the file `template` makes of `values`; it may extend `page.html.j2`.

    `title` and `charts` are among them; the configuration and the provenance end every page, with the names
    of files alone unless `output.provenance` says otherwise. Without a template they are all there is.
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

    No one is in two of them.
    """
    count = len(ranked)
    size = min(CASES_A_GROUP, math.ceil(count / 3))
    worst = ranked[max(count - size, size) :][::-1]
    between = ranked[size : count - len(worst)]
    start = (len(between) - size + 1) // 2
    return ranked[:size], between[max(start, 0) : max(start, 0) + size], worst


def jpeg_url(shown: NDArray[np.uint8], pixels: int = PICTURE_PIXELS) -> str:
    """A picture (H, W, 3) as a data URI, no larger than the page shows it."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(shown))
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


# --- charts ----------------------------------------------------------------------------

INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
STYLE: dict[Any, Any] = dict.fromkeys(INKED, INK) | {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
}


def make_chart(title: str, caption: str, draw: Callable[[Axes], None]) -> Chart:
    """Title, caption and SVG of one chart; its title is unique on the page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.3), layout="constrained", facecolor="none")
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


def training_charts(
    history: Sequence[Mapping[str, Any]], panels: Sequence[tuple[str, str, str]]
) -> list[Chart]:
    """A chart for each panel (word, title, scale) of what in `history` has the word in its name."""
    rows = [dict(dotted(row)) for row in history]
    return [
        make_chart(title, "", partial(_draw_curves, curves=curves, scale=scale))
        for word, title, scale in panels
        if (curves := _curves(rows, word))
    ]


def draw_boxes(axis: Axes, values: Floats, names: Sequence[str], label: str) -> None:
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


def _curves(rows: Sequence[Mapping[str, Any]], word: str) -> Curves:
    """Epochs and values of each finite figure whose name holds `word`."""
    curves: Curves = {}
    for number, row in enumerate(rows):
        for key, value in row.items():
            # Under "sigma." are names of outputs, which may hold any word.
            found = word in key and (word == "sigma") == key.startswith("sigma.")
            if found and isinstance(value, (int, float)) and math.isfinite(value):
                epochs, values = curves.setdefault(key, ([], []))
                epochs.append(row.get("epoch", number))
                values.append(value)
    return curves


def _draw_curves(axis: Axes, curves: Curves, scale: str) -> None:
    for (name, (epochs, values)), colour in zip(curves.items(), cycle((BLUE, ORANGE, GREEN)), strict=False):
        marker = "o" if len(epochs) < 40 else None
        axis.plot(epochs, values, color=colour, linewidth=1.6, label=name, marker=marker, markersize=3)
    if scale == "log" and all(value > 0 for _, values in curves.values() for value in values):
        axis.set_yscale("log")
        _label_plainly(axis)
    else:
        axis.set_ylim(0, None)
    axis.set_xlabel("epoch")
    if 1 < len(curves) <= MOST_NAMES:
        for text in axis.legend(frameon=False).get_texts():
            text.set_parse_math(False)


def _label_plainly(axis: Axes) -> None:
    """Numbers on a logarithmic axis; powers of ten would be typeset, which takes longer than all the rest."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis.yaxis.set_major_formatter(Plain())
    axis.yaxis.set_minor_formatter(Plain())


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an <svg> element; `salt` keeps the ids of several charts on one page apart."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        for axis in figure.axes:
            axis.set_facecolor("none")
        figure.set_dpi(160)  # of what is drawn as pixels
        canvas: Any = FigureCanvasSVG(figure)  # untyped
        canvas.print_svg(buffer, metadata=nothing)  # `savefig` draws twice
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :].replace(INK, "currentColor"))
