"""What is said of each installed plugin, as plain data."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib import metadata
from typing import Any

from lannunet_core.names import plain
from lannunet_core.plugins import discovery
from lannunet_core.plugins.inspection import Look, look
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.plugins.manager import SPECS
from lannunet_core.plugins.source import SourceError, hooks_in_source


def static_rows(plugins: Sequence[InstalledPlugin]) -> list[dict[str, Any]]:
    """From metadata and source, without running any of them."""
    rows = []
    claims = name_claims()
    for plugin in plugins:
        row = from_metadata(plugin, claims)
        try:
            row["hooks"] = in_order(hooks_in_source(plugin.value))
        except SourceError as error:
            row["problems"].append(f"{error}: reinstall or update {plugin.distribution}")
        for hook in row["hooks"]:
            if hook not in SPECS:
                nearest = get_close_matches(hook, SPECS, n=1)
                hint = f", did you mean '{nearest[0]}'?" if nearest else ""
                row["problems"].append(f"there is no hook '{hook}'{hint}")
        rows.append(row)
    return rows


def checked_rows(plugins: Sequence[InstalledPlugin]) -> list[dict[str, Any]]:
    """From what each answers in a process of its own, too."""
    claims = name_claims()
    looks = look(plugins, ask=True)
    return [seen_row(plugin, seen, claims) for plugin, seen in zip(plugins, looks, strict=True)]


Claims = dict[str, list[InstalledPlugin]]
"""Who lays claim to each folded name."""


def name_claims() -> Claims:
    claims: Claims = {}
    for plugin in discovery.installed():
        for name in dict.fromkeys(map(plain, plugin.names)):
            claims.setdefault(name, []).append(plugin)
    return claims


def from_metadata(plugin: InstalledPlugin, claims: Claims) -> dict[str, Any]:
    """What metadata says of one; its hooks are left out."""
    problems = []
    if unmet := plugin.unmet_requirement():
        problems.append(unmet)
    for name in plugin.names:
        rivals = [p for p in claims[plain(name)] if p != plugin]
        if rivals:
            named = ", ".join(f"{p.distribution} {p.version} ({p.value})" for p in rivals)
            problems.append(f"the name '{name}' is also claimed by {named}: uninstall one of them")
    return {
        "name": plugin.name,
        "aliases": list(plugin.aliases),
        "distribution": plugin.distribution,
        "version": plugin.version,
        "source": source(plugin.distribution),
        "requires_core": plugin.requires_core,
        "hooks": [],
        "problems": problems,
    }


def seen_row(plugin: InstalledPlugin, seen: Look, claims: Claims) -> dict[str, Any]:
    """What metadata and a look at one say of it."""
    row = from_metadata(plugin, claims)
    if plugin.unmet_requirement() is None:  # else it has not been imported, and says the same again
        row["problems"] += seen.problems
    row["hooks"] = seen.hooks
    if not seen.hooks:
        with contextlib.suppress(SourceError):
            row["hooks"] = in_order(hooks_in_source(plugin.value))
    return {**row, "warnings": seen.warnings}


def in_order(hooks: Iterable[str]) -> list[str]:
    """As the contract has them; what it does not have comes last."""
    present = set(hooks)
    return [*(hook for hook in SPECS if hook in present), *sorted(present - SPECS.keys())]


def source(distribution: str) -> str:
    """`editable`, `wheel`, or `local`: a folder that was installed or lies on the path."""
    found = metadata.distribution(distribution)
    try:
        url = json.loads(found.read_text("direct_url.json") or "{}")
        folder = url.get("dir_info")
        editable = folder is not None and folder.get("editable")
    except (ValueError, AttributeError):  # it is not what installers write
        folder = editable = None
    if editable:
        return "editable"
    return "local" if folder is not None or found.read_text("WHEEL") is None else "wheel"


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rows as lines, each followed by its problems."""
    head = ("NAME", "DISTRIBUTION", "SOURCE", "HOOKS")
    cells = [
        (r["name"], f"{r['distribution']} {r['version']}", r["source"], ", ".join(r["hooks"]) or "-")
        for r in rows
    ]
    lines = aligned([head, *cells])
    shown = lines[:1]
    for row, line in zip(rows, lines[1:], strict=True):
        shown.append(line)
        if row["aliases"]:
            shown.append(f"  also called {', '.join(row['aliases'])}")
        shown += [f"  problem: {problem}" for problem in row["problems"]]
        shown += [f"  warning: {warning}" for warning in row.get("warnings", ())]
    return shown


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
