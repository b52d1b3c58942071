"""`lannunet weightmaps`, and the same under the name and with the arguments that DIAG's nnU-Net has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lannunet_core import UserError, echo, lock_folder, note, telling_errors

if TYPE_CHECKING:
    from lannunet_weighted.cases import LabelFile
    from lannunet_weighted.generate import Recipe


class ModeName(str, Enum):
    unet = "unet"
    nearest = "nearest"


class ObjectsName(str, Enum):
    components = "components"
    instances = "instances"


def command(
    folder: Annotated[
        Path, typer.Argument(help="An nnU-Net folder: raw, or preprocessed by version 1 (…_stage0).")
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the maps; FOLDER, of a raw one FOLDER/weightmapsTr."),
    ] = None,
    matching_pattern: Annotated[
        str | None,
        typer.Option(help="Only files of such names: labels of a raw folder, cases of a preprocessed one."),
    ] = None,
    mode: Annotated[
        ModeName,
        typer.Option(help="By the two nearest objects, as in the U-Net paper, or the nearest class."),
    ] = ModeName.unet,
    sigma: Annotated[float, typer.Option(help="How far borders reach, in voxels; in mm with --mm.")] = 5.0,
    w0: Annotated[float, typer.Option(help="The weight of borders.")] = 10.0,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", "-c", help="Label values, as in 1,2; all of dataset.json but the background."
        ),
    ] = None,
    objects: Annotated[
        ObjectsName,
        typer.Option(help="What is an object: components of each class, or every label value one."),
    ] = ObjectsName.components,
    mm: Annotated[bool, typer.Option("--mm", help="Distances in mm, by the files' spacing.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Write float16 instead of float32.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: one a core.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Recompute existing maps.")] = False,
) -> None:
    """Make weight maps from labels, CASE_weightmap.npy for each case.

    Rare classes and the borders between objects get a higher weight. Maps that are there already are kept, so
    an interrupted run continues where it stopped.
    """
    if objects == ObjectsName.instances and (mode == ModeName.nearest or classes is not None):
        raise UserError(
            "--objects instances: is for --mode unet, without --classes: each label value is an object."
        )
    if half and w0 > 65000:
        raise UserError(f"--half: float16 holds no weight of {w0:g}. Leave it out, or lower --w0.")
    _check(sigma, w0)
    chosen = None if classes is None else [_class(word) for word in classes.split(",")]

    from lannunet_weighted.cases import find_cases
    from lannunet_weighted.generate import Recipe

    cases = find_cases(folder, output_dir, matching_pattern, chosen, objects == ObjectsName.instances)
    todo = [case for case in cases if overwrite or not case.target.exists()]
    _make(todo, Recipe(mode.value, w0, sigma, objects.value, mm, half), jobs)
    kept = len(cases) - len(todo)
    echo(
        f"{cases[0].target.parent}: {len(todo)} weight map{'s' * (len(todo) != 1)} made"
        + (f", {kept} kept that were there (--overwrite recomputes them)" if kept else "")
    )


def script(arguments: Sequence[str] | None = None) -> None:
    """`nnUNet_diag_generate_unet_weightmaps`."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="nnUNet_diag_generate_unet_weightmaps",
        description="Make weight maps by the distance to the nearest class. `lannunet weightmaps` does more.",
    )
    parser.add_argument("folder", type=Path, help="preprocessed by nnU-Net version 1 (…_stage0)")
    parser.add_argument("--output-dir", type=Path, help="folder for the maps; the same by default")
    parser.add_argument("--matching-pattern", help="only files of such names, as in '*.npz'")
    parser.add_argument("--sigma", type=float, default=5.0, help="how far borders reach, in voxels; 5")
    parser.add_argument("--w0", type=float, default=10.0, help="the weight of borders; 10")
    parser.add_argument(
        "-c",
        "--classes",
        type=int,
        nargs="*",
        metavar="CLASS",
        help="label values; all of dataset.json but the background by default",
    )
    chosen = parser.parse_args(arguments)
    with telling_errors():
        _check(chosen.sigma, chosen.w0)
        if wrong := [value for value in chosen.classes or () if value < 1]:
            raise UserError(f"--classes: {wrong[0]} is not a class. Give label values from 1 up.")

        from lannunet_weighted.cases import find_cases
        from lannunet_weighted.generate import Recipe

        cases = find_cases(chosen.folder, chosen.output_dir, chosen.matching_pattern, chosen.classes or None)
        _make(cases, Recipe("nearest", chosen.w0, chosen.sigma))


def _make(cases: Sequence[LabelFile], recipe: Recipe, jobs: int = 0) -> None:
    """Maps that somebody else made are refused before the first is written."""
    from lannunet_weighted.generate import make_maps

    for case in cases:
        lock_folder(case.target.parent)
        note(case.target)
    make_maps(cases, recipe, jobs)


def _check(sigma: float, w0: float) -> None:
    if not 0 < sigma < math.inf:
        raise UserError(f"--sigma: {sigma:g} is not a width. Give a positive number.")
    if not 0 <= w0 < math.inf:
        raise UserError(f"--w0: {w0:g} is not a weight. Give 0 or a positive number.")


def _class(word: str) -> int:
    if not word.strip().isdecimal() or int(word) < 1:
        raise UserError(f"--classes: '{word}' is not a class. Give label values from 1 up, as in 1,2.")
    return int(word)
