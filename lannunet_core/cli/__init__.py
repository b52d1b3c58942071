"""The command `lannunet`. Each sub-command is a module, imported when it is called.

`lannunet_core/cli/<name>.py` has `command`, a function, or `app`, a typer app of several.
"""

import contextlib
import importlib
import io
import sys
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from lannunet_core.errors import UserError
from lannunet_core.plugins import discovery, missing
from lannunet_core.plugins.installed import Installed, PluginWarning
from lannunet_core.plugins.source import SourceError, first_line
from lannunet_core.telling import echo, telling_errors
from lannunet_core.version import __version__

COMMANDS = {
    "plan": "Inspect a data set and write a YAML that trains on it.",
    "train": "Train and evaluate what a YAML describes.",
    "predict": "Predict images with a trained model.",
    "config": "Check, explain, import or describe a configuration.",
    "plugins": "See, write, check, install and uninstall plugins.",
}
BEFORE = {"out": "output", "output-dir": "output"}
"""Earlier names of options, which every command still accepts."""

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the YAML.")
]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE", help="A Python file with a plugin; its code runs."),
]


class LazyGroup(TyperGroup):
    """Lists commands from their names and one-line help; imports one when it is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, text in self.helps().items():
            self.add_command(TyperCommand(name, help=text, short_help=text))

    helps: Any  # () → the help of each command by name
    find: Any  # (name) → a command, or None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if found := self.find(args[0]):
            self.add_command(as_click(args[0], found))
        return super().resolve_command(ctx, args)


class Lannunet(LazyGroup):
    def helps(self) -> dict[str, str]:
        return COMMANDS | {
            one.name: _help(one) for one in discovery.scan().commands if one.name not in COMMANDS
        }

    def find(self, name: str) -> Any:
        _warn_of_taken_names(name)
        if name in self.commands:
            return _core_command(name) if name in COMMANDS else _installed_command(name)
        if hint := missing.for_command(name, discovery.scan().tasks):
            raise UserError(f"There is no command '{name}' here. {hint}")
        return None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        _warn_of_taken_names(*COMMANDS)
        super().format_help(ctx, formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        if tasks := ", ".join(task.name for task in discovery.scan().tasks):
            formatter.write(f"\nTasks that a YAML can name (task:): {tasks}\n")

    def invoke(self, ctx: Any) -> Any:
        with telling_errors(ctx.params["debug"]):
            return super().invoke(ctx)


app = typer.Typer(
    cls=Lannunet,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: BEFORE.get(name, name),
    },
)


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"lannunet-core {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error arose.")] = False,
) -> None:
    """Train models on medical images: every task and every model is a plugin."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends with SystemExit: 0 done, 1 the run failed, 2 the user's input is wrong."""
    warnings.formatwarning = _plain_warning  # type: ignore[assignment]
    textwrap.TextWrapper.wordsep_re = textwrap.TextWrapper.wordsep_simple_re  # names stay whole in help
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # some terminals cannot show every character
            stream.reconfigure(errors="replace")
    typer.main.get_command(app)(args=arguments, prog_name="lannunet")


def _core_command(name: str) -> Any:
    module = importlib.import_module(f"lannunet_core.cli.{name}")
    return module.app if hasattr(module, "app") else module.command


def _help(command: Installed) -> str:
    """The first line of its docstring, read from its source without importing it."""
    with contextlib.suppress(SourceError):
        if text := first_line(command.value):
            return text
    return f"({command.distribution} {command.version})"


def _installed_command(name: str) -> Any:
    claims = [command for command in discovery.scan().commands if command.name == name]
    command = discovery.only(f"The command '{name}'", claims)
    found = command.load_as("The command")
    if not callable(found):
        raise UserError(
            f"The command {command} is not a function or typer app: '{command.value}' is {found!r}. "
            f"{command.remedy}"
        )
    return found


def as_click(name: str, command: Any) -> Any:
    """A function becomes one command, a typer app a group of commands, even of one."""
    parent = typer.Typer(add_completion=False, rich_markup_mode=None)
    parent.callback()(lambda: None)
    if isinstance(command, typer.Typer):
        parent.add_typer(command, name=name)
    else:
        parent.command(name)(command)
    group: Any = typer.main.get_command(parent)
    return group.commands[name]


def _warn_of_taken_names(*names: str) -> None:
    for command in discovery.scan().commands:
        if command.name in names and command.name in COMMANDS:
            echo(
                f"Warning: {command.distribution} {command.version} provides a command '{command.name}'; it "
                f"is ignored, as the name belongs to the core.",
                err=True,
            )


def _plain_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any
) -> str:
    """Warnings for users are one line; others keep the place in the code."""
    if category in (UserWarning, PluginWarning):
        return f"Warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"
