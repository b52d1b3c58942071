"""`lannunet train CONFIG`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import api
from lannunet_core.cli import Overrides, PluginFiles
from lannunet_core.config.compose import load_config, written_output_dir
from lannunet_core.errors import UserError
from lannunet_core.plugins import recorded
from lannunet_core.plugins.launchers import TrainRequest, launcher
from lannunet_core.run.processes import started, taking_part


def command(
    context: typer.Context,
    config: Annotated[Path, typer.Argument(help="The run's YAML.")],
    overrides: Overrides = None,
    folds: Annotated[
        str | None,
        typer.Option(
            metavar="0-4", help="Train these folds one by one, each into foldK of the output folder."
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Train on N devices of this machine; the YAML's trainer.devices by default."
        ),
    ] = None,
    submit: Annotated[
        str | None,
        typer.Option(
            metavar="slurm|local:2",
            help="Write a script for a cluster, or train N folds at once on the devices of this machine.",
        ),
    ] = None,
    plugins: PluginFiles = None,
    resume: Annotated[bool, typer.Option(help="Continue with the run in the output folder.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace the run in the output folder.")] = False,
) -> None:
    """Train a model, predict the chosen split, and write tables and a report."""
    if resume and overwrite:
        raise typer.BadParameter("--resume continues a run and --overwrite replaces it: give one of them.")
    overrides = [*(overrides or []), *([] if devices is None else [f"trainer.devices={devices}"])]
    try:
        loaded = load_config(config, overrides, plugins or [])
    except UserError:
        if resume:
            _require_plugins_of_run(config, overrides)
        raise
    name, _, argument = (submit or "").partition(":")
    debug = context.find_root().params["debug"]
    request = TrainRequest(
        config, overrides, plugins or [], folds, resume, overwrite, debug, loaded, argument
    )
    if submit is not None:
        raise typer.Exit(launcher(name, "--submit", "schedulers")(request))
    trainer = loaded.run.trainer
    if trainer.processes > 1 == trainer.num_nodes and not started():
        raise typer.Exit(launcher("processes", "trainer.devices").start(request))
    if folds is not None:
        with taking_part(trainer):
            code = launcher("folds", "--folds")(request)
        raise typer.Exit(code)
    api.train(loaded, resume=resume, overwrite=overwrite)


def _require_plugins_of_run(config: Path, overrides: list[str]) -> None:
    """If plugins of the run to be resumed are missing, refer to its run.json, which names them."""
    folder = written_output_dir(config, overrides)
    description = folder / "run.json" if folder else None
    if description and description.is_file():
        recorded.require(json.loads(description.read_text(encoding="utf-8"))["plugins"], str(description))
