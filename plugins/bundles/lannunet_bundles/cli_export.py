"""`lannunet bundle export MODEL --format onnx|torchscript -o OUT`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import echo


class FormatName(str, Enum):
    onnx = "onnx"
    torchscript = "torchscript"


def export(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder of a run (its best model).")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    to: Annotated[FormatName, typer.Option("--format", help="The format of the file.")] = FormatName.onnx,
    size: Annotated[
        str | None, typer.Option(metavar="X,Y[,Z]", help="Size of all images in pixels; default: any.")
    ] = None,
    plugins: Annotated[
        list[Path] | None,
        typer.Option("--plugin", metavar="FILE", help="A Python file with a plugin; its code runs."),
    ] = None,
) -> None:
    """Export a model as a graph that runs without LannU-Net."""
    from lannunet_bundles.export import SUFFIXES, decoder_beside, export as write
    from lannunet_core import UserError, refuse_existing

    sides = None
    if size is not None:
        if not all(part.isdecimal() and int(part) for part in size.split(",")):
            raise UserError(f"--size: {size} is not a size; give pixels, such as 512,384.")
        sides = [int(part) for part in size.split(",")]
    if out.suffix != SUFFIXES[to.value]:
        raise UserError(f"--output: {out} should end in {SUFFIXES[to.value]}, as {to.value} files do.")
    for file in (out, decoder_beside(out)):
        refuse_existing(file)
    made = write(model, out, to.value, sides, plugins or ())
    about = made.about
    sizes = ", ".join(
        f"{name} {[side or 'any' for side in one['shape']]}" for name, one in about["inputs"].items()
    )
    opset = f", opset {about['exported']['opset']}" if "opset" in about["exported"] else ""
    most = ", ".join(f"{name} {off:.1e}" for name, off in about["checked"]["most_off"].items())
    echo(f"{out}: {to.value}{opset}; inputs: {sizes}; outputs: {', '.join(about['outputs'])}")
    echo(f"checked with images of {', '.join(about['checked']['sizes'])}; largest differences: {most}")
    for name, share in about["checked"]["compared"].items():
        if share < 1:
            echo(
                f"note: {1 - share:.0%} of {name} were not compared: the model moves them when pixels change "
                "by 3 in 1,000,000"
            )
    if made.decoder is not None:
        echo(f"{made.decoder}: decodes the outputs to points, with NumPy alone")
    for left in about["left_out"]:
        echo(f"note: not exported: {left}")
