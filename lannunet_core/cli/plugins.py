"""`lannunet plugins`: what is installed, from metadata and source alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import metadata
from typing import Annotated, Any

import typer

from lannunet_core.plugins import discovery
from lannunet_core.plugins.discovery import InstalledPlugin, fold
from lannunet_core.plugins.manager import SPECS
from lannunet_core.plugins.source import SourceError, hooks_in_source

app = typer.Typer(no_args_is_help=True)


@app.callback()
def plugins() -> None:
    """List the installed plugins."""


@app.command("list")
def list_plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the installed plugins, their hooks and what is wrong with them, without running any of them."""
    found = discovery.installed()
    claimants = Counter(
        (fold(name)) for plugin in found for name in {fold(n): n for n in plugin.names}.values()
    )
    contested = {name for name, count in claimants.items() if count > 1}
    rows = [describe(plugin, contested) for plugin in found]
    problems = discovery.scan().problems
    if as_json:
        print(json.dumps({"plugins": rows, "problems": problems}, indent=2))
        return
    if not rows:
        print("No plugin is installed. To add one, pip install it: pip install lannunet-unet")
    for line in _table(rows):
        print(line)
    for problem in problems:
        print(problem)


def describe(plugin: InstalledPlugin, contested: Iterable[str] = ()) -> dict[str, Any]:
    """One plugin as `plugins list --json` prints it. `contested` are folded names that several claim."""
    hooks: list[str] = []
    problems = []
    if unmet := plugin.unmet_requirement():
        problems.append(unmet)
    for name in plugin.names:
        if fold(name) in contested:
            others = [p for p in discovery.installed() if p != plugin and p.answers_to(name)]
            rivals = ", ".join(f"{p.distribution} {p.version} ({p.value})" for p in others)
            problems.append(f"the name '{name}' is also claimed by {rivals}: uninstall one of them")
    try:
        hooks = hooks_in_source(plugin.value)
    except SourceError as error:
        problems.append(f"{error}: reinstall or update {plugin.distribution}")
    for hook in hooks:
        if hook not in SPECS:
            nearest = get_close_matches(hook, SPECS, n=1)
            problems.append(
                f"there is no hook '{hook}'" + (f", did you mean '{nearest[0]}'?" if nearest else "")
            )
    return {
        "name": plugin.name,
        "aliases": list(plugin.aliases),
        "distribution": plugin.distribution,
        "version": plugin.version,
        "source": source(plugin.distribution),
        "requires_core": plugin.requires_core,
        "hooks": hooks,
        "problems": problems,
    }


def source(distribution: str) -> str:
    """`editable`, `wheel`, or `local`: a folder that was installed or lies on the path."""
    found = metadata.distribution(distribution)
    url = json.loads(found.read_text("direct_url.json") or "{}")
    if url.get("dir_info", {}).get("editable"):
        return "editable"
    if "dir_info" in url or found.read_text("WHEEL") is None:
        return "local"
    return "wheel"


def _table(rows: list[dict[str, Any]]) -> Iterable[str]:
    head = ("NAME", "DISTRIBUTION", "SOURCE", "HOOKS")
    cells = [
        (r["name"], f"{r['distribution']} {r['version']}", r["source"], ", ".join(r["hooks"]) or "-")
        for r in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    if rows:
        yield _line(head, widths)
    for row, values in zip(rows, cells, strict=True):
        yield _line(values, widths)
        if row["aliases"]:
            yield f"  also called {', '.join(row['aliases'])}"
        yield from (f"  problem: {problem}" for problem in row["problems"])


def _line(cells: Iterable[str], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
