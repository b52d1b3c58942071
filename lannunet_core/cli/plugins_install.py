"""`lannunet plugins install SPEC…`: pip, in the Python that runs lannunet."""

import importlib
from typing import Annotated

import typer

from lannunet_core.cli.pip import pip
from lannunet_core.plugins import discovery, listing


def command(
    specs: Annotated[
        list[str],
        typer.Argument(
            metavar="SPEC...", help="What pip takes: names, files, folders, addresses; its options too."
        ),
    ],
) -> None:
    """Install plugins with pip, into the Python that runs lannunet, and say what they brought.

    Options of pip follow `--`: lannunet plugins install -- --upgrade lannunet-my-model
    """
    before = discovery.scan()
    pip("install", *specs)
    importlib.invalidate_caches()
    discovery.scan.cache_clear()
    after = discovery.scan()
    plugins = [plugin for plugin in after.plugins if plugin not in before.plugins]
    tasks = [task for task in after.tasks if task not in before.tasks]
    commands = [command for command in after.commands if command not in before.commands]
    formats = [one for one in after.image_formats if one not in before.image_formats]
    if not (plugins or tasks or commands or formats):
        print("No new plugin: what was asked for was there already, or brings none.")
    for plugin in plugins:
        print(f"Plugin {plugin} is installed: lannunet plugins show {plugin.name}")
        visible = plugin in discovery.installed()
        for problem in listing.from_metadata(plugin)["problems"] if visible else []:
            print(f"  problem: {problem}")
    for task in tasks:
        print(f"Task {task} is installed: task: {task.name}")
    for command in commands:
        print(f"Command {command} is installed: lannunet {command.name} --help")
    for one in formats:
        print(f"Image formats {one} are installed.")
