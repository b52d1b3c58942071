"""`lannunet plan`: from a data set to a runnable YAML."""

from pathlib import Path
from typing import Annotated

import typer

from lannunet_core.config.choosing import default_architecture
from lannunet_core.errors import UserError
from lannunet_core.files import refuse_existing, write_text
from lannunet_core.plan import PlanRequest, as_yaml, find_gpu
from lannunet_core.plugins import discovery, missing, tasks
from lannunet_core.task import Task

DEFAULT_GB = 4.0
SHARE_OF_GPU = 0.8  # the rest is the driver's, and what fragments


def command(
    dataset: Annotated[Path, typer.Argument(help="The data set: a folder or a file that a task knows.")],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="The YAML to write; else NAME.yaml right here.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="The task; else the one that knows such data sets.")
    ] = None,
    architecture: Annotated[
        str | None, typer.Option(metavar="NAME", help="The plugin that brings the network; else the task's.")
    ] = None,
    memory_gb: Annotated[
        float | None,
        typer.Option(min=0.25, help="Memory that a training step may take; else 4, or most of the GPU's."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="Minutes of training; else as the data suggests.")
    ] = None,
    gpu: Annotated[
        bool | None,
        typer.Option("--gpu/--no-gpu", help="Plan for a GPU or for the CPU; else for what is here."),
    ] = None,
    plugins: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Train with this extension, such as sparse.")
    ] = None,
) -> None:
    """Look at a data set and write a YAML that trains on it, with the reason of each choice."""
    planner = tasks.find(task, "--task") if task else planning(dataset)
    names = [name.strip() for given in plugins or [] for name in given.split(",")]
    found = [discovery.find(name) for name in names]
    wanted = architecture or default_architecture(planner)
    if not wanted:
        raise UserError(f"task {planner.name} has no default architecture: name one (--architecture).")
    network = discovery.find(wanted)
    name = planner.dataset_name(dataset)
    out = out or Path(f"{name}.yaml")
    refuse_existing(out)
    found_gpu = None if gpu is False else find_gpu()
    gpu_name, gpu_gb = found_gpu or ("", DEFAULT_GB / SHARE_OF_GPU)
    plan = planner.plan(
        PlanRequest(
            dataset,
            folder=out.parent,
            architecture=(network.name, network.load()),
            memory_gb=memory_gb or round(SHARE_OF_GPU * gpu_gb, 1),
            minutes=minutes,
            gpu=gpu or found_gpu is not None,
            gpu_name=gpu_name,
            extensions={plugin.name: plugin.load() for plugin in found},
        )
    )
    text = as_yaml(plan)
    write_text(out, text)
    typer.echo(text, nl=False)
    typer.echo(f"\n{out} is written. Train it with `lannunet train {out}`.")


def planning(dataset: Path) -> Task:
    """The task that knows such a data set."""
    every = tasks.every()
    known = [task for task in every if task.recognises(dataset)]
    if len(known) == 1:
        return known[0]
    if not every:
        raise UserError(f"No task is installed. {missing.both()}")
    if not known:
        raise UserError(
            f"{dataset}: no installed task makes a plan for it (tasks: {', '.join(t.name for t in every)}). "
            "Look at the path, or name the task (--task)."
        )
    raise UserError(f"{dataset}: may be for {' or '.join(t.name for t in known)}. Name the task (--task).")
