"""`lannunet plugins list`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from lannunet_core.plugins import discovery, listing


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Also import each plugin, in a process of its own.")
    ] = False,
) -> None:
    """List the installed plugins, their hooks and what is wrong with them, without running any of them.

    With --check each is imported and asked for its network, its loss and whatever else needs no data, in a
    process of its own that can do no harm.
    """
    found = discovery.installed()
    rows = listing.checked_rows(found) if check else listing.static_rows(found)
    problems = discovery.scan().problems
    if as_json:
        print(json.dumps({"plugins": rows, "problems": problems}, indent=2))
        return
    if not rows:
        print("No plugin is installed. To add one: lannunet plugins install lannunet-unet")
    for line in [*(listing.table(rows) if rows else []), *problems]:
        print(line)
