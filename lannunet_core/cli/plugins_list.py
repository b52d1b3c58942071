"""`lannunet plugins list`."""

import json
from typing import Annotated

import typer

from lannunet_core.plugins import discovery, listing, missing


def command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Also import each plugin, in a process of its own.")
    ] = False,
) -> None:
    """List the installed plugins, tasks and image formats, and what is wrong with them, without running any.

    With --check each is imported and asked for its network, its loss and whatever else needs no data, in a
    process of its own that can do no harm.
    """
    found = discovery.installed()
    rows = listing.checked_rows(found) if check else listing.static_rows(found)
    scanned = discovery.scan()
    problems = scanned.problems
    tasks = listing.registered_rows("task", scanned.tasks)
    formats = listing.registered_rows("set of image formats", scanned.image_formats)
    if as_json:
        listed = {"plugins": rows, "tasks": tasks, "image_formats": formats, "problems": problems}
        print(json.dumps(listed, indent=2))
        return
    if not rows or not tasks:
        lacking = [what for what, found in (("plugin", rows), ("task", tasks)) if not found]
        print(f"No {' and no '.join(lacking)} is installed. {missing.both()}")
    if rows:
        print("\n".join(listing.table(rows, "NAME", "DISTRIBUTION", "SOURCE", "HOOKS")))
    if tasks:
        print("", *listing.table(tasks, "TASK", "DISTRIBUTION", "SOURCE"), sep="\n")
    if formats:
        print("", *listing.table(formats, "IMAGE FORMATS", "DISTRIBUTION", "SOURCE"), sep="\n")
    for problem in problems:
        print(problem)
