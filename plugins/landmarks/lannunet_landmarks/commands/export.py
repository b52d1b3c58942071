"""`lannunet export SOURCE --format NAME -o OUT`: annotations or predictions for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lannunet_core import echo
from lannunet_landmarks.commands.import_ import SystemName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lannunet_landmarks.data.formats import Annotations


def command(
    source: Annotated[
        Path, typer.Argument(help="Annotations of any format, a predictions.csv, or the folder of a run.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The file or folder to write.")],
    name: Annotated[str, typer.Option("--format", help="The format, see lannunet plugins list.")],
    images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images, or the annotations that name them; a run's own by default."),
    ] = None,
    system: Annotated[
        SystemName | None,
        typer.Option(
            "--coordinate-system", help="Of the coordinates; the usual one of the format by default."
        ),
    ] = None,
) -> None:
    """Write annotations or predictions in the format of another program, and report what it cannot hold."""
    from lannunet_core import UserError, refuse_existing
    from lannunet_landmarks.data.exported import check_dimensions, in_system
    from lannunet_landmarks.data.formats import format_called, formats

    of = format_called(name, "--format")
    if of.write is None:
        able = ", ".join(one.name for one in formats() if one.write)
        raise UserError(f"--format: {of.title} is only read; written are {able}.")
    wanted = system.value if system else of.systems[0]
    if wanted not in of.systems:
        raise UserError(f"--coordinate-system: {of.title} holds {' or '.join(of.systems)}, not {wanted}.")
    refuse_existing(out)
    found = read(source, images)
    check_dimensions(found, of)
    moved = in_system(found, wanted)
    of.write(moved, out)
    for line in (*of.lost(moved), *found.notes):
        echo(f"note: {line}", err=True)
    counted = "pixels" if wanted == "pixel" else f"mm of {wanted}"
    echo(f"{out} holds {len(found.images)} images, as {of.title}, in {counted}.")


def read(source: Path, images: Path | None) -> Annotations:
    """The annotations to be written."""
    from lannunet_core import UserError
    from lannunet_landmarks.data.annotations import dataset_section, load_dataset
    from lannunet_landmarks.data.exchange import format_of, named, read_source
    from lannunet_landmarks.data.exported import of_dataset, of_predictions
    from lannunet_landmarks.evaluation.pooled import read_run
    from lannunet_landmarks.evaluation.predictions import read_predictions

    if source.is_dir() and (source / "predictions.csv").is_file() and format_of(source, -1) is None:
        source = source / "predictions.csv"
    if (of := format_of(source, -1)) is not None:
        return named(read_source(source, of, images))
    if source.suffix.lower() != ".csv":
        return of_dataset(load_dataset(dataset_section(source, images), -1))
    if images is not None:
        predictions, names = read_predictions(source)
        return of_predictions(predictions, names, images_of((one.id for one in predictions), images, source))
    if not (source.parent / "config.yaml").is_file():
        raise UserError(f"{source}: does not name its images. Give their folder (--images).")
    try:
        dataset, predictions = read_run(source.parent)
    except UserError as error:
        raise UserError(f"{error} Or name the images of the predictions (--images).") from None
    return of_predictions(predictions, dataset.landmark_names, {one.id: one.image for one in predictions})


def images_of(ids: Iterable[str], images: Path, where: Path) -> dict[str, Path]:
    """The image of each id, from a folder or from annotations."""
    from lannunet_core import UserError
    from lannunet_landmarks.data.annotations import dataset_section, load_dataset
    from lannunet_landmarks.data.exchange import format_of, is_ours
    from lannunet_landmarks.data.formats import ImageFinder, without_suffix

    if is_ours(images) or format_of(images, -1) is not None:
        dataset = load_dataset(dataset_section(images), -1)
        known = {one.id: one.image for of_split in dataset.samples.values() for one in of_split}
        if unknown := [name for name in ids if name not in known]:
            raise UserError(f"{where}: '{unknown[0]}' is not a sample of {images}.")
        return known
    finder = ImageFinder(images)
    return {
        name: finder.named(name, str(where))
        if without_suffix(name) != name
        else finder.of_case(name.rpartition("/")[2], str(where))
        for name in ids
    }
