"""The page and the numbers of a comparison."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lannunet_core import echo, write_text
from lannunet_report.comparing.differences import cases_of, differences_of, figures_of, verdict
from lannunet_report.comparing.results import Figure, Group, aligned
from lannunet_report.page import BLUE, GREEN, INK, ORANGE, Chart, log_axis, make_chart, short_name, write_page
from lannunet_report.terminal import print_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (ORANGE, GREEN, BLUE, "#a855f7", "#e11d48")
MOST_DRAWN = 60  # outputs in a chart


def write_comparison(path: Path, groups: Sequence[Group], title: str) -> dict[str, Any]:
    """Write the page to `path` and the numbers to a `.json` beside it, and return them.

    Args:
        path: Path that ends in `.html`.
        groups: At least two; the others are compared with the first.
        title: Heading of the page.

    Returns:
        `runs` (one row per group), `figures` (by title: each group's own `overall` and `per_output`),
        `differences` (one row per other group: `name`, `figures` by title with `verdict`, `cases`), `notes`.

    Raises:
        UserError: The runs cannot be compared.
    """
    groups, notes = aligned(groups)
    base, *others = groups
    figures = base.runs[0].figures
    if base.runs[0].split in ("training", "validation"):
        seen = "trained" if base.runs[0].split == "training" else "chose"
        notes.append(f"these are {base.runs[0].split} cases, which {seen} the models too")
    comparison: dict[str, Any] = {
        "title": title,
        "base": base.name,
        "cases": len(base.runs[0].cases),
        "outputs": list(base.runs[0].outputs),
        "notes": notes,
        "runs": [{"name": group.name, "seeds": len(group.runs), **group.about} for group in groups],
        "figures": {
            figure.title: {group.name: figures_of(group, n) for group in groups}
            for n, figure in enumerate(figures)
        },
        "differences": [
            {
                "name": other.name,
                "figures": {
                    figure.title: _judged(differences_of(other, base, n), figure)
                    for n, figure in enumerate(figures)
                },
                "cases": cases_of(other, base),
            }
            for other in others
        ],
    }
    write_text(path.with_suffix(".json"), json.dumps(comparison, indent=1))
    charts = [_differences_chart(comparison, figure) for figure in figures]
    charts += [_cases_chart(one, figures[0], base.name) for one in comparison["differences"]]
    write_page(
        path,
        Path(__file__).with_name("compare.html.j2"),
        {},
        {},
        title=title,
        comparison=comparison,
        shown=[{"title": one.title, "digits": digits_of(one), "share": one.share} for one in figures],
        charts=charts,
    )
    return comparison


def _judged(blocks: dict[str, Any], figure: Figure) -> dict[str, Any]:
    for block in (blocks["overall"], *blocks["per_output"].values()):
        block["verdict"] = verdict(block, figure)
    return blocks


def digits_of(figure: Figure) -> int:
    return 2 if figure.unit and not figure.share else 3


def print_comparison(comparison: dict[str, Any]) -> None:
    """Print the overall values and differences, one table per metric."""
    for note in comparison["notes"]:
        echo(f"note: {note}")
    names = [row["name"] for row in comparison["runs"]]
    for title, of_group in comparison["figures"].items():
        rows = []
        for name in names:
            own = of_group[name]["overall"]
            found = [one for one in comparison["differences"] if one["name"] == name]
            change = found[0]["figures"][title]["overall"] if found else None
            rows.append([
                name,
                _number(own["mean"]),
                "" if change is None else _number(change["mean"], "+"),
                "" if change is None else _interval(change["ci95"]),
                "" if change is None else change["verdict"],
            ])  # fmt: skip
        print_table(title, ["run", "mean", "difference", "95 % CI", "is"], rows)


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "–" if ends is None else " … ".join(f"{end:+.3f}" for end in ends)


# --- charts ---------------------------------------------------------------------------


def _differences_chart(comparison: dict[str, Any], figure: Figure) -> Chart:
    blocks = [(one["name"], one["figures"][figure.title]) for one in comparison["differences"]]
    outputs = ["all", *blocks[0][1]["per_output"]][: MOST_DRAWN + 1]
    side = "right" if figure.higher_is_better else "left"
    return make_chart(
        f"Difference in {figure.name}",
        f"Relative to {comparison['base']}; the {side} of 0 is better. Lines are 95 % intervals of the mean.",
        partial(_draw_differences, blocks=blocks, outputs=outputs, figure=figure),
        height=1.2 + 0.22 * len(outputs) * max(len(blocks), 1),
    )


def _draw_differences(
    axis: Axes, blocks: Sequence[tuple[str, dict[str, Any]]], outputs: Sequence[str], figure: Figure
) -> None:
    step = 0.7 / max(len(blocks), 1)
    for number, (name, of_figure) in enumerate(blocks):
        colour = COLOURS[number % len(COLOURS)]
        for row, output in enumerate(outputs):
            block = of_figure["overall"] if row == 0 else of_figure["per_output"][output]
            if block["mean"] is None:
                continue
            y = row + (number - (len(blocks) - 1) / 2) * step
            axis.plot(block["mean"], y, "o", color=colour, markersize=5 if row else 7,
                      label=name if row == 0 else None)  # fmt: skip
            if block["ci95"]:
                axis.plot(block["ci95"], [y, y], color=colour, linewidth=1.8)
    axis.axvline(0, color=INK, linewidth=1)
    axis.axhline(0.5, color=INK, linewidth=0.5, alpha=0.4)
    axis.set_yticks(range(len(outputs)), [short_name(name) for name in outputs], parse_math=False)
    axis.set_ylim(len(outputs) - 0.4, -0.6)
    axis.set_xlabel(f"difference in {figure.title}", parse_math=False)
    if len(blocks) > 1:
        for text in axis.legend(frameon=False).get_texts():
            text.set_parse_math(False)


def _cases_chart(difference: dict[str, Any], figure: Figure, base: str) -> Chart:
    known = [row for row in difference["cases"] if row["difference"] is not None]
    x, y = (np.array([row[side] for row in known]) for side in ("base", "other"))
    better = "above" if figure.higher_is_better else "below"
    return make_chart(
        f"Cases: {difference['name']}",
        f"Each dot is a case; those {better} the line are better than with {base}.",
        partial(_draw_cases, x=x, y=y, names=(base, difference["name"]), figure=figure),
    )


def _draw_cases(axis: Axes, x: Any, y: Any, names: tuple[str, str], figure: Figure) -> None:
    if len(x):
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axis.plot(ends, ends, color=INK, linewidth=1)
        if figure.unit and ends[0] > 0 and ends[1] > 20 * ends[0]:
            log_axis(axis.xaxis)
            log_axis(axis.yaxis)
    axis.plot(x, y, "o", color=BLUE, markersize=4, alpha=0.7)
    axis.set_xlabel(f"{short_name(names[0])}: {figure.title}", parse_math=False)
    axis.set_ylabel(f"{short_name(names[1])}: {figure.title}", parse_math=False)
