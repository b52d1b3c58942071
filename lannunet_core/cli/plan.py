"""`lannunet plan`: from an nnU-Net folder to a runnable YAML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lannunet_core.errors import UserError
from lannunet_core.files import write_text
from lannunet_core.plugins import discovery


def command(
    folder: Annotated[Path, typer.Argument(help="An nnU-Net folder, raw or preprocessed.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The YAML to write; else NAME.yaml right here.")
    ] = None,
    memory_gb: Annotated[float, typer.Option(min=0.25, help="Memory that a training step may take.")] = 4.0,
    minutes: Annotated[
        float | None, typer.Option(min=0.05, help="Minutes of training; else as the data suggests.")
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Plan for a GPU, not for two CPU cores.")] = False,
    plugins: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Train with this extension, such as sparse.")
    ] = None,
) -> None:
    """Look at a segmentation data set and write a YAML that trains on it, with the reason of each choice."""
    from lannunet_core.segmentation.folders import read_dataset
    from lannunet_core.segmentation.plan import fingerprint, make_plan, write_plan

    names = [name.strip() for given in plugins or [] for name in given.split(",")]
    found = [discovery.find(name) for name in names]
    extensions = {plugin.name: plugin.load() for plugin in found}
    dataset = read_dataset(folder)
    if out is None:
        named = dataset.path.parent if dataset.layout == "preprocessed" else dataset.path
        out = Path(f"{named.resolve().name}.yaml")
    if out.exists():
        raise UserError(f"{out}: there is such a file already. Choose another name (-o), or remove it.")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}. Make it, or choose another name (-o).")
    # Paths in a YAML start from its folder.
    root = dataset.path if dataset.path.is_absolute() else Path(os.path.relpath(dataset.path, out.parent))
    plan = make_plan(
        fingerprint(dataset),
        memory_gb=memory_gb,
        minutes=minutes,
        gpu=gpu,
        plugins=extensions,
        root=root.as_posix(),
    )
    text = write_plan(plan)
    write_text(out, text)
    typer.echo(text, nl=False)
    typer.echo(f"\n{out} is written. Train it with `lannunet train {out}`.")
