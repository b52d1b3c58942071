"""`lannunet folds DATASET -o FOLDER`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    annotations: Annotated[Path, typer.Argument(help="The JSON of annotations.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for foldK.json; name it in dataset.src_targets.")
    ],
    count: Annotated[int, typer.Option(min=2, help="How many folds.")] = 5,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="As many folds as images: each is tested alone.")
    ] = False,
    keep_testing: Annotated[
        bool, typer.Option("--keep-testing", help="Leave the list testing out of the folds.")
    ] = False,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to; the JSON's own by default.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
) -> None:
    """Make folds for a cross-validation: each annotated sample is tested in exactly one of them."""
    from lannunet_landmarks.data.folds import write_folds

    made = write_folds(
        annotations,
        out,
        None if leave_one_out else count,
        root=root,
        keep_testing=keep_testing,
        seed=seed,
    )
    print(
        f"{out} holds fold0.json to fold{made - 1}.json. Name it in dataset.src_targets, and train them with "
        f"lannunet train CONFIG --folds 0-{made - 1}"
    )
