"""`lannunet predict MODEL IMAGES… -o OUT`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder of a run (its best model).")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for predictions.csv and report.html.")],
    spacing: Annotated[
        float | None, typer.Option(min=1e-6, help="mm per pixel, for images whose files do not say.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace results in the output folder.")] = False,
) -> None:
    """Predict loose images: coordinates in original pixels, with a confidence for each."""
    from lannunet_core.training.predict import predict

    predict(model, images, out, spacing=spacing, overwrite=overwrite)
