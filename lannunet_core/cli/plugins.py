"""`lannunet plugins`: each of its commands is a module, imported when it is called."""

import importlib
from typing import Any

import typer

from lannunet_core.cli import LazyGroup

COMMANDS = {
    "list": "List the installed plugins, their hooks and what is wrong with them.",
    "show": "Describe one plugin and its settings.",
    "check": "Test a plugin against the contract, and print a table.",
    "new": "Write a new package with a plugin that trains.",
    "install": "Install plugins with pip, into the Python that runs lannunet.",
    "uninstall": "Uninstall the distribution that provides a plugin.",
}


class Plugins(LazyGroup):
    def helps(self) -> dict[str, str]:
        return COMMANDS

    def find(self, name: str) -> Any:
        if name not in COMMANDS:
            return None
        place = {"check": "testing.command", "new": "scaffold.command"}.get(name, f"cli.plugins_{name}")
        return importlib.import_module(f"lannunet_core.{place}").command


app = typer.Typer(cls=Plugins, no_args_is_help=True, help="See, write, check, install and uninstall plugins.")
app.callback()(lambda: None)  # it has no command of its own
