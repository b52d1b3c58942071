"""`lannunet train CONFIG`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lannunet_core.config.compose import load_config


def command(
    config: Annotated[Path, typer.Argument(help="The run's YAML.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the YAML.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in the output folder.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the run in the output folder.")] = False,
) -> None:
    """Train a model, predict the chosen split, and write tables and a report."""
    loaded = load_config(config, overrides or [])
    if resume and overwrite:
        raise typer.BadParameter("--resume goes on with a run and --overwrite replaces it: give one of them.")

    from lannunet_core.training.run import train

    train(loaded, resume=resume, overwrite=overwrite)
