"""Descriptions of installed plugins, as plain data."""

import contextlib
import json
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

from lannunet_core.names import did_you_mean, plain
from lannunet_core.plugins import discovery
from lannunet_core.plugins.installed import Installed, InstalledPlugin
from lannunet_core.plugins.manager import SPECS
from lannunet_core.plugins.source import SourceError, hooks_in_source
from lannunet_core.telling import terminal_columns
from lannunet_core.testing.inspection import Look, look

WRONG_ANSWERS = "lannunet_core.testing.asking:wrong_answers"
"""Function that finds errors without data, for the inspection."""


def static_rows(plugins: Sequence[InstalledPlugin]) -> list[dict[str, Any]]:
    """Descriptions from metadata and source, without running any plugin."""
    rows = []
    for plugin in plugins:
        row = from_metadata(plugin)
        try:
            row["hooks"] = in_order(hooks_in_source(plugin.value))
        except SourceError as error:
            row["problems"].append(f"{error}: reinstall or update {plugin.distribution}")
        for hook in row["hooks"]:
            if hook not in SPECS and hook not in _specs_of_tasks():
                row["problems"].append(f"there is no hook '{hook}'.{did_you_mean(hook, SPECS)}")
        rows.append(row)
    return rows


def _specs_of_tasks() -> set[str]:
    """The hooks of tasks with their own specifications; only for these, tasks are imported."""
    from lannunet_core.plugins import tasks

    return {hook for task in tasks.every() for hook in tasks.specs_asked(task)}


def checked_rows(plugins: Sequence[InstalledPlugin]) -> list[dict[str, Any]]:
    """Descriptions that include the results of inspections in separate processes."""
    looks = look(plugins, further=WRONG_ANSWERS)
    return [seen_row(plugin, seen) for plugin, seen in zip(plugins, looks, strict=True)]


def from_metadata(plugin: InstalledPlugin) -> dict[str, Any]:
    """A description from metadata, without hooks."""
    unmet = plugin.unmet_requirement()
    problems = [unmet] if unmet else []
    others = [other for other in discovery.installed() if other != plugin]
    for name in plugin.names:
        if rivals := [other.claim for other in others if other.answers_to(name)]:
            named = ", ".join(rivals)
            problems.append(f"the name '{name}' is also claimed by {named}: uninstall one of them")
    return {
        **_identity(plugin),
        "aliases": list(plugin.aliases),
        "requires_core": plugin.requires_core,
        "hooks": [],
        "problems": problems,
    }


def seen_row(plugin: InstalledPlugin, seen: Look) -> dict[str, Any]:
    """A description from metadata and an inspection."""
    row = from_metadata(plugin)
    if plugin.unmet_requirement() is None:  # otherwise it was not imported, and has the same problem again
        row["problems"] += seen.problems
    row["hooks"] = seen.hooks
    if not seen.hooks:
        with contextlib.suppress(SourceError):
            row["hooks"] = in_order(hooks_in_source(plugin.value))
    return {**row, "warnings": seen.warnings}


def in_order(hooks: Iterable[str]) -> list[str]:
    """Hooks in the order of the contract; unknown ones come last."""
    present = set(hooks)
    return [*(hook for hook in SPECS if hook in present), *sorted(present - SPECS.keys())]


def source(distribution: str) -> str:
    """`editable`, `wheel`, or `local`: a folder that was installed or is on the path."""
    found = metadata.distribution(distribution)
    try:
        url = json.loads(found.read_text("direct_url.json") or "{}")
        folder = url.get("dir_info")
        editable = folder is not None and folder.get("editable")
    except (ValueError, AttributeError):  # not in the form that installers write
        folder = editable = None
    if editable:
        return "editable"
    return "local" if folder is not None or found.read_text("WHEEL") is None else "wheel"


def registered_rows(kind: str, installed: Sequence[Installed]) -> list[dict[str, Any]]:
    """Descriptions of installed tasks, or of another `kind` of entry points, from metadata."""
    return [
        {
            **_identity(one),
            "value": one.value,
            "problems": [
                f"the {kind} '{one.name}' is also provided by {other.claim}: uninstall one of them"
                for other in installed
                if other != one and plain(other.name) == plain(one.name)
            ],
        }
        for one in installed
    ]


def _identity(one: Installed) -> dict[str, Any]:
    found = {"name": one.name, "distribution": one.distribution, "version": one.version}
    return {**found, "source": source(one.distribution)}


def table(rows: Sequence[dict[str, Any]], *head: str) -> list[str]:
    """The rows of plugins or tasks as lines below a head, each followed by its problems."""
    cells = [[row["name"], f"{row['distribution']} {row['version']}", row["source"]] for row in rows]
    for row, cell in zip(rows, cells, strict=True):
        if "hooks" in row:
            cell.append(", ".join(row["hooks"]) or "-")
    first, *lines = aligned([head, *cells])
    shown = [first]
    for row, line in zip(rows, lines, strict=True):
        shown.append(line)
        if aliases := row.get("aliases"):
            shown.append(f"  also called {', '.join(aliases)}")
        shown += [f"  problem: {problem}" for problem in row["problems"]]
        shown += [f"  warning: {warning}" for warning in row.get("warnings", ())]
    return shown


def aligned(rows: Sequence[Sequence[str]], indent: int = 0) -> list[str]:
    """One text per row, the first of which is the head: columns, or one line per cell on a narrow
    terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room, margin = terminal_columns(), " " * indent
    if not room or indent + sum(widths) + 2 * (len(widths) - 1) <= room:
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return [margin + line for line in lines]
    (first, *titles), *others = rows
    return [margin + first] + [
        "\n".join(
            [
                margin + name,
                *(f"{margin}  {of.lower()}: {cell}" for of, cell in zip(titles, cells, strict=True)),
            ]
        )
        for name, *cells in others
    ]
