"""`lannunet plugins show NAME`."""

from __future__ import annotations

import json
from importlib import metadata
from textwrap import indent
from typing import Annotated

import typer

from lannunet_core.plugins import discovery, listing
from lannunet_core.plugins.inspection import look
from lannunet_core.plugins.settings import Setting, settings


def command(
    name: Annotated[str, typer.Argument(help="The plugin, by any of its names.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe one plugin: what it is, its settings, its hooks and what it requires.

    It is looked at in a process of its own that can do no harm.
    """
    plugin = discovery.find(name)
    (seen,) = look([plugin])
    row = listing.seen_row(plugin, seen, listing.name_claims())
    summary = metadata.metadata(plugin.distribution).get_all("Summary") or [""]
    description = seen.description or summary[0]
    found = settings(seen.schema) if seen.schema is not None else []
    if as_json:
        print(
            json.dumps(
                {
                    **row,
                    "description": description,
                    "value": plugin.value,
                    "tasks": seen.tasks,
                    "settings": [vars(setting) for setting in found],
                },
                indent=2,
            )
        )
        return
    print(f"{plugin.name}: {description}" if description else plugin.name)
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
    for key, value in facts:
        print(f"  {key + ':':<14} {value}")
    if seen.schema is not None:
        section = "model" if "network" in row["hooks"] else "trainer"
        print(f"\nSettings, in {section}.{plugin.name}:" if found else "\nIt has no settings.")
        print(indent(_table(found), "  "), end="")


def _table(found: list[Setting]) -> str:
    if not found:
        return ""
    head = ("KEY", "TYPE", "DEFAULT", "WHAT IT DOES")
    rows = [(s.key, s.type, "(required)" if s.required else s.shown_default, s.description) for s in found]
    return "\n".join(listing.aligned([head, *rows])) + "\n"
