"""`lannunet folds DATASET -o FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import echo


def command(
    annotations: Annotated[Path, typer.Argument(help="The JSON of annotations.")],
    out: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for foldK.json; name it in dataset.src_targets.")
    ],
    count: Annotated[int, typer.Option(min=2, help="How many folds.")] = 5,
    leave_one_out: Annotated[
        bool,
        typer.Option("--leave-one-out", help="One fold per image, or per group: each is tested alone."),
    ] = False,
    keep_testing: Annotated[
        bool, typer.Option("--keep-testing", help="Leave the list testing out of the folds.")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD|PATTERN",
            help="Keep samples of one patient together: a field of the samples, or a regular expression for "
            r"their ids or image paths, as in '^(\d+)_'.",
        ),
    ] = None,
    stratify: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Make each value of this field equally frequent in all folds."),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to; the JSON's own by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random split.")] = 0,
) -> None:
    """Make folds of landmark annotations for a cross-validation: each annotated sample is tested in one."""
    from lannunet_landmarks.data.folds import write_folds

    made = write_folds(
        annotations,
        out,
        None if leave_one_out else count,
        root=root,
        keep_testing=keep_testing,
        group=group,
        stratify=stratify,
        seed=seed,
    )
    for warning in made.warnings:
        echo(f"warning: {warning}", err=True)
    for note in made.notes:
        echo(note)
    last = made.count - 1
    echo(
        f"{out} holds fold0.json to fold{last}.json. Name it in dataset.src_targets, and train them with "
        f"`lannunet train CONFIG --folds 0-{last}`"
    )
