"""`lannunet plugins show NAME`."""

import json
from importlib import metadata
from typing import Annotated, Any

import typer

from lannunet_core.names import plain
from lannunet_core.plugins import discovery
from lannunet_core.plugins.settings import settings
from lannunet_core.telling import echo
from lannunet_core.testing import listing
from lannunet_core.testing.inspection import look


def command(
    name: Annotated[str, typer.Argument(help="The plugin or task, by any of its names.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe one plugin: its settings, its hooks and its requirements.

    It is inspected in a separate process that can do no harm. For a task its distribution is shown.
    """
    every = listing.registered_rows("task", discovery.scan().tasks)
    tasks = [row for row in every if plain(row["name"]) == plain(name)]
    if tasks and not any(plugin.answers_to(name) for plugin in discovery.installed()):
        _show_task(tasks[0], as_json)
        return
    plugin = discovery.find(name)
    (seen,) = look([plugin])
    row = listing.seen_row(plugin, seen)
    description = seen.description or _summary(plugin.distribution)
    found = settings(seen.schema) if seen.schema is not None else []
    if as_json:
        further = {"description": description, "value": plugin.value, "tasks": seen.tasks}
        print(json.dumps({**row, **further, "settings": [vars(setting) for setting in found]}, indent=2))
        return
    requires = f"lannunet-core{plugin.requires_core}" if plugin.requires_core else "any lannunet-core"
    facts = [
        ("distribution", f"{plugin.distribution} {plugin.version} ({row['source']})"),
        ("class", plugin.value),
        *([("also called", ", ".join(plugin.aliases))] if plugin.aliases else []),
        ("requires", requires),
        *([("tasks", ", ".join(seen.tasks))] if seen.tasks else []),
        ("hooks", ", ".join(row["hooks"]) or "none"),
        *(("problem", problem) for problem in row["problems"]),
        *(("warning", warning) for warning in row["warnings"]),
    ]
    _print_facts(plugin.name, description, facts)
    if seen.schema is not None:
        section = "model" if "network" in row["hooks"] else "trainer"
        echo(f"\nSettings, in {section}.{plugin.name}:" if found else "\nIt has no settings.")
        head = ("KEY", "TYPE", "DEFAULT", "WHAT IT DOES")
        rows = [(s.key, s.type, s.shown_default, s.description) for s in found]
        for line in listing.aligned([head, *rows], indent=2) if rows else []:
            echo(line)


def _show_task(row: dict[str, Any], as_json: bool) -> None:
    description = _summary(row["distribution"])
    if as_json:
        print(json.dumps({**row, "kind": "task", "description": description}, indent=2))
        return
    facts = [
        ("a task", f"task: {row['name']}"),
        ("distribution", f"{row['distribution']} {row['version']} ({row['source']})"),
        ("class", row["value"]),
        *(("problem", problem) for problem in row["problems"]),
    ]
    _print_facts(row["name"], description, facts)


def _summary(distribution: str) -> str:
    summary: list[str] = metadata.metadata(distribution).get_all("Summary") or [""]
    return summary[0]


def _print_facts(name: str, description: str, facts: list[tuple[str, str]]) -> None:
    echo(f"{name}: {description}" if description else name)
    for key, value in facts:
        echo(f"  {key + ':':<14} {value}")
