"""`lannunet suggest RUN IMAGES… -o FOLDER`: which images to annotate next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import echo


def command(
    model: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a model file.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Image files, and folders of them.")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="The folder to write; must not exist.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many images.")] = 20,
    name: Annotated[
        str, typer.Option("--format", help="Format of the predictions, see lannunet plugins list.")
    ] = "lannunet",
    also: Annotated[
        list[Path] | None, typer.Option(help="Additional models; images on which they disagree come first.")
    ] = None,
) -> None:
    """Choose the images a person should annotate next, with predictions to start from."""

    from lannunet_core import UserError, terminal_text
    from lannunet_landmarks.data.exported import check_dimensions, in_system, of_predictions
    from lannunet_landmarks.data.formats import format_called, formats
    from lannunet_landmarks.loop.suggest import annotated_samples, not_annotated, suggest
    from lannunet_landmarks.loop.written import write_suggestions
    from lannunet_landmarks.predict.loose import loose_samples
    from lannunet_landmarks.predict.model import LandmarkModel

    of = format_called(name, "--format")
    if of.write is None:
        able = ", ".join(one.name for one in formats() if one.write)
        raise UserError(f"--format: {of.title} is only read; written are {able}.")
    if out.exists():
        raise UserError(f"{out}: exists already. Choose another folder (-o), or remove it.")
    opened = LandmarkModel(model, also or ())
    session = opened.session
    annotated = annotated_samples(opened)
    if not annotated:
        echo(
            f"warning: {model}: the annotations of its training were not found, so its own images may be "
            "suggested, and shapes are not compared.",
            err=True,
        )
    given = loose_samples(images, session.run, session.files, session.pixel)
    left = not_annotated(given, annotated)
    if not left:
        raise UserError("IMAGES: all of them are annotated already. Name others.")
    found = suggest(opened, left, annotated, count)
    paths = {one.id: one.image for one in left}
    start = of_predictions([one.prediction for one in found], session.run.outputs, paths)
    check_dimensions(start, of)
    moved = in_system(start, of.systems[0], session.files)
    write_suggestions(out, found, moved, of)
    for line in of.lost(moved):
        echo(f"note: {line}", err=True)
    already = f" ({len(given) - len(left)} are annotated already)" if len(left) < len(given) else ""
    echo(f"{out} holds {len(found)} of {len(given)} images{already}, as {of.title}; the first ones:")
    for one in found[:5]:
        echo(
            f"  {terminal_text(one.prediction.id)}: confidence {1 - one.doubt:.2f}, shape "
            f"{one.strangeness:.1f}, distance {one.novelty:.2f}{', at random' if one.random else ''}"
        )
