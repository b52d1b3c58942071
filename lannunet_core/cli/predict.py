"""`lannunet predict MODEL IMAGES… -o OUT`."""

from pathlib import Path
from typing import Annotated

import typer

from lannunet_core.api import task_of_model
from lannunet_core.cli import PluginFiles
from lannunet_core.errors import UserError
from lannunet_core.names import fold_numbers
from lannunet_core.task import PredictRequest


def command(
    model: Annotated[Path, typer.Argument(help="A model file, or the folder of a run (its best model).")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    also: Annotated[
        list[Path] | None, typer.Option(help="An additional model of an ensemble (repeatable).")
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option(metavar="0-4", help="Folds of a cross-validated run to use; all of them by default."),
    ] = None,
    spacing: Annotated[
        float | None, typer.Option(min=1e-6, max=1e6, help="mm per pixel of images that do not state it.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="File of lannunet calibrate: adds regions, calibrates confidence.")
    ] = None,
    coverage: Annotated[
        float | None, typer.Option(help="Coverage of the regions; the model's inference.coverage by default.")
    ] = None,
    tta: Annotated[
        bool | None,
        typer.Option(
            "--tta/--no-tta", help="Predict mirrored images too; the model's inference.tta by default."
        ),
    ] = None,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Also write class probabilities (CASE.npz).")
    ] = False,
    postprocess: Annotated[
        bool, typer.Option("--postprocess", help="Apply what lannunet evaluate --runs found to help.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto (the best one), cpu, cuda, cuda:1 or mps.")] = "auto",
    format: Annotated[
        str | None, typer.Option(metavar="NAME", help="Also write results in this format, such as dicom-seg.")
    ] = None,
    plugins: PluginFiles = None,
    overwrite: Annotated[bool, typer.Option(help="Replace results in the output folder.")] = False,
) -> None:
    """Predict standalone images with a trained model; its task defines the output files."""
    if coverage is not None and not 0 < coverage < 1:
        raise UserError(
            f"--coverage: {coverage:g} is not a probability. Give a number between 0 and 1, as in 0.9."
        )

    models, files = tuple(also or ()), tuple(plugins or ())
    if folds is not None:
        model, *more = chosen_folds(model, fold_numbers(folds))
        models = (*more, *models)
    request = PredictRequest(
        model, images, out, models, spacing, calibration, coverage, tta, overwrite, files,
        save_probabilities, postprocess, device, format,
    )  # fmt: skip
    task_of_model(model).predict(request)


def chosen_folds(model: Path, numbers: list[int]) -> list[Path]:
    """The folders of these folds of a cross-validated run."""
    from lannunet_core.plugins.references import located
    from lannunet_core.run.checkpoint import best_model

    folder = located(model)
    for number in numbers:
        if best_model(folder / f"fold{number}") is None:
            raise UserError(f"--folds: {model} has no trained fold {number} (fold{number}).")
    return [folder / f"fold{number}" for number in numbers]
