"""`lannunet demo`: from drawn images to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path, typer.Argument(help="Where to put data, configuration and results.")] = Path(
        "runs/demo"
    ),
    minutes: Annotated[
        float | None,
        typer.Option(min=0.05, max=1e6, help="Minutes of training, instead of a fixed number of batches."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier demo in the folder.")] = False,
) -> None:
    """Draw a small data set, train U-Net on it, test, and write a report."""
    from lannunet_landmarks.demo.run import run_demo

    run_demo(folder, minutes, overwrite)
