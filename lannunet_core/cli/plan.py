"""`lannunet plan`: from a data set to a runnable YAML."""

from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import api
from lannunet_core.files import refuse_existing, write_text
from lannunet_core.telling import echo


def command(
    dataset: Annotated[Path, typer.Argument(help="The data set: a folder or file that a task recognises.")],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="The YAML to write; else NAME.yaml in this folder.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="The task; else the one that recognises the data set.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(metavar="NAME", help="Plugin that provides the network; else the task's.")
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(min=0.25, max=1e6, help="Memory of a training step; else 4, or most of the GPU's."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, max=1e6, help="Minutes of training; else as the data needs.")
    ] = None,
    gpu: Annotated[
        bool | None,
        typer.Option("--gpu/--no-gpu", help="Plan for a GPU or for the CPU; else for this machine."),
    ] = None,
    plugins: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Train with this extension, such as sparse.")
    ] = None,
) -> None:
    """Inspect a data set and write a YAML that trains on it, with the reason of each choice."""
    planner = api.task_of_dataset(dataset, task)
    out = out or Path(f"{planner.dataset_name(dataset)}.yaml")
    refuse_existing(out)
    text = str(
        api.plan(
            dataset,
            folder=out.parent,
            task=planner.name,
            architecture=architecture,
            memory_gb=memory_gb,
            minutes=minutes,
            gpu=gpu,
            extensions=[name.strip() for given in plugins or [] for name in given.split(",")],
        )
    )
    write_text(out, text)
    typer.echo(text, nl=False)
    echo(f"\n{out} is written. Train it with `lannunet train {out}`.")
