"""`lannunet plugins list`."""

import json
from typing import Annotated

import typer

from lannunet_core.plugins import discovery, missing
from lannunet_core.telling import echo
from lannunet_core.testing import listing


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Also import each plugin, in a separate process.")
    ] = False,
) -> None:
    """List the installed plugins, tasks and file formats, with their errors, without running any.

    With --check each is imported and asked for its network, its loss and everything else that needs no data,
    in a separate process that can do no harm.
    """
    found = discovery.installed()
    rows = listing.checked_rows(found) if check else listing.static_rows(found)
    scanned = discovery.scan()
    problems = scanned.problems
    others = {
        kind: listing.registered_rows(kind.replace("_", " ").removesuffix("s"), brought)
        for kind, brought in {"tasks": scanned.tasks, **scanned.formats}.items()
    }
    if as_json:
        print(json.dumps({"plugins": rows, **others, "problems": problems}, indent=2))
        return
    if lacking := [what for what, there in (("plugin", rows), ("task", others["tasks"])) if not there]:
        echo(f"No {' and no '.join(lacking)} is installed. {missing.for_a_run(rows)}")
    if rows:
        echo("\n".join(listing.table(rows, "NAME", "DISTRIBUTION", "SOURCE", "HOOKS")))
    for kind, brought in others.items():
        if brought:
            head = kind.replace("_", " ").removesuffix("s").upper()
            echo("\n".join(["", *listing.table(brought, head, "DISTRIBUTION", "SOURCE")]))
    for problem in problems:
        echo(problem)
