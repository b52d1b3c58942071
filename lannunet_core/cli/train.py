"""`lannunet train CONFIG`."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import api
from lannunet_core.cli import Overrides, PluginFiles
from lannunet_core.config.compose import load_config, written_output_dir
from lannunet_core.errors import UserError
from lannunet_core.plugins import recorded


def command(
    config: Annotated[Path, typer.Argument(help="The run's YAML.")],
    overrides: Overrides = None,
    folds: Annotated[
        str | None,
        typer.Option(
            metavar="0-4", help="Train these folds one by one, each into foldK of the output folder."
        ),
    ] = None,
    plugins: PluginFiles = None,
    resume: Annotated[bool, typer.Option(help="Continue with the run in the output folder.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the run in the output folder.")] = False,
) -> None:
    """Train a model, predict the chosen split, and write tables and a report."""
    if resume and overwrite:
        raise typer.BadParameter("--resume continues a run and --overwrite replaces it: give one of them.")
    if folds is not None:
        numbers = fold_numbers(folds)

        from lannunet_core.run.folds import train_folds

        train_folds(config, overrides or [], numbers, plugins=plugins or [], overwrite=overwrite)
        return
    try:
        loaded = load_config(config, overrides or [], plugins or [])
    except UserError:
        if resume:
            _require_plugins_of_run(config, overrides or [])
        raise
    api.train(loaded, resume=resume, overwrite=overwrite)


def fold_numbers(folds: str) -> list[int]:
    """`0-4` and `0,2,4`, or both."""
    numbers: list[int] = []
    for word in folds.split(","):
        ends = re.fullmatch("([0-9]+)(?:-([0-9]+))?", word.strip())
        more = range(int(ends[1]), int(ends[2] or ends[1]) + 1) if ends else range(0)
        if not more:
            raise UserError(f"--folds: '{word}' names no folds. Give numbers from 0 up, as in 0-4 or 0,2,4.")
        numbers += more
    return list(dict.fromkeys(numbers))


def _require_plugins_of_run(config: Path, overrides: list[str]) -> None:
    """Where the plugins of the run to continue with are missing, its run.json knows what to install."""
    folder = written_output_dir(config, overrides)
    description = folder / "run.json" if folder else None
    if description and description.is_file():
        recorded.require(json.loads(description.read_text(encoding="utf-8"))["plugins"], str(description))
