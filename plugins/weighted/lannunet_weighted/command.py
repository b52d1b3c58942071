"""`lannunet weightmaps`, and a script with the name and the arguments of DIAG's nnU-Net."""

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
        typer.Option(
            "--output", "-o", help="Folder for the maps; default: FOLDER, or weightmapsTr in a raw one."
        ),
    ] = None,
    matching_pattern: Annotated[
        str | None,
        typer.Option(help="Pattern of file names: labels of a raw folder, cases of a preprocessed one."),
    ] = None,
    mode: Annotated[
        ModeName,
        typer.Option(help="Distance to the two nearest objects (U-Net paper), or to the nearest class."),
    ] = ModeName.unet,
    sigma: Annotated[float, typer.Option(help="Width of borders, in voxels; in mm with --mm.")] = 5.0,
    w0: Annotated[float, typer.Option(help="The weight of borders.")] = 10.0,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", "-c", help="Label values, as in 1,2; default: all of dataset.json except background."
        ),
    ] = None,
    objects: Annotated[
        ObjectsName,
        typer.Option(help="Objects: connected components of each class, or label values."),
    ] = ObjectsName.components,
    mm: Annotated[bool, typer.Option("--mm", help="Distances in mm, by the files' spacing.")] = False,
    half: Annotated[bool, typer.Option("--half", help="Write float16 instead of float32.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Recompute existing maps.")] = False,
) -> None:
    """Compute weight maps from labels: CASE_weightmap.npy for each case.

    Rare classes and the borders between objects get a higher weight. Existing maps are kept, so an
    interrupted run continues where it stopped.
    """
    if objects == ObjectsName.instances and (mode == ModeName.nearest or classes is not None):
        raise UserError(
            "--objects instances: works with --mode unet and without --classes, because each label value is "
            "an object. Remove the other option."
        )
    if half and w0 > 65000:
        raise UserError(f"--half: float16 cannot store a weight of {w0:g}. Remove --half, or lower --w0.")
    _check(sigma, w0)
    chosen = None if classes is None else [_class(word) for word in classes.split(",")]

    from lannunet_weighted.cases import find_cases
    from lannunet_weighted.generate import Recipe

    cases = find_cases(folder, output_dir, matching_pattern, chosen, objects == ObjectsName.instances)
    todo = [case for case in cases if overwrite or not case.target.exists()]
    _make(todo, Recipe(mode.value, w0, sigma, objects.value, mm, half), jobs)
    kept = len(cases) - len(todo)
    echo(
        f"{cases[0].target.parent}: {len(todo)} weight map{'s' * (len(todo) != 1)} computed"
        + (f", {kept} kept (--overwrite recomputes existing maps)" if kept else "")
    )


def script(arguments: Sequence[str] | None = None) -> None:
    """`nnUNet_diag_generate_unet_weightmaps`."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="nnUNet_diag_generate_unet_weightmaps",
        description="Compute weight maps from the distance to the nearest class. `lannunet weightmaps` has "
        "more options.",
    )
    parser.add_argument("folder", type=Path, help="preprocessed by nnU-Net version 1 (…_stage0)")
    parser.add_argument("--output-dir", type=Path, help="folder for the maps; default: the same folder")
    parser.add_argument("--matching-pattern", help="pattern of file names, as in '*.npz'")
    parser.add_argument("--sigma", type=float, default=5.0, help="width of borders in voxels; default: 5")
    parser.add_argument("--w0", type=float, default=10.0, help="weight of borders; default: 10")
    parser.add_argument(
        "-c",
        "--classes",
        type=int,
        nargs="*",
        metavar="CLASS",
        help="label values; default: all of dataset.json except the background",
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
    """Compute maps; existing files of other programs are refused before the first map is written."""
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
