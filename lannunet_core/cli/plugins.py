"""`lannunet plugins`: each of its commands lives in a module of its own, imported when it is called."""

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from lannunet_core.cli import as_click

COMMANDS = {
    "list": "List the installed plugins, their hooks and what is wrong with them.",
    "show": "Describe one plugin and its settings.",
    "check": "Test a plugin against the contract, and print a table.",
    "new": "Write a new package with a plugin that trains.",
    "install": "Install plugins with pip, into the Python that runs lannunet.",
    "uninstall": "Uninstall the distribution that brings a plugin.",
}


class LazyCommands(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, text in COMMANDS.items():
            self.add_command(TyperCommand(name, help=text, short_help=text))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in COMMANDS:
            place = "testing.command" if args[0] == "check" else f"cli.plugins_{args[0]}"
            module = importlib.import_module(f"lannunet_core.{place}")
            self.add_command(as_click(args[0], module.command))
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyCommands, no_args_is_help=True, help="See, write, check, install and uninstall plugins."
)


@app.callback()
def plugins() -> None:
    """See, write, check, install and uninstall plugins."""
