"""`lannunet plugins install SPEC…`: pip, in the Python that runs lannunet."""

import importlib
from typing import Annotated

import typer

from lannunet_core.cli.pip import pip
from lannunet_core.plugins import discovery
from lannunet_core.telling import echo
from lannunet_core.testing import listing


def command(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC...", help="Arguments of pip: names, files, folders, addresses; also its options."
        ),
    ],
) -> None:
    """Install plugins with pip, into the Python that runs lannunet, and list what they provide.

    Put options of pip after `--`: lannunet plugins install -- --upgrade lannunet-my-model
    """
    before = discovery.scan()
    pip("install", *specs)
    importlib.invalidate_caches()
    discovery.scan.cache_clear()
    after = discovery.scan()
    new = set(after.everything) - set(before.everything)
    if not new:
        echo("No new plugin: the packages were installed already, or provide none.")
    for plugin in filter(new.__contains__, after.plugins):
        echo(f"Plugin {plugin} is installed: lannunet plugins show {plugin.name}")
        visible = plugin in discovery.installed()
        for problem in listing.from_metadata(plugin)["problems"] if visible else []:
            echo(f"  problem: {problem}")
    for task in filter(new.__contains__, after.tasks):
        echo(f"Task {task} is installed: task: {task.name}")
    for command in filter(new.__contains__, after.commands):
        echo(f"Command {command} is installed: lannunet {command.name} --help")
    for kind, formats in after.formats.items():
        for one in filter(new.__contains__, formats):
            echo(f"{kind.replace('_', ' ').capitalize()} {one} are installed.")
