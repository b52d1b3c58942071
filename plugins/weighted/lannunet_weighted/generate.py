"""Weight maps of many cases, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from lannunet_segmentation import in_processes, save_array

from lannunet_core import progress_bar
from lannunet_weighted.cases import LabelFile
from lannunet_weighted.maps import Mode, Objects, weight_map


@dataclass(frozen=True)
class Recipe:
    """How weight maps are made, see `maps`.

    Attributes:
        mode: Which formula.
        w0: The weight of borders.
        sigma: How far borders reach.
        objects: What the formula of `unet` calls an object.
        mm: Whether distances are in mm, not in voxels.
        half: Whether to write float16, not float32.
    """

    mode: Mode = "unet"
    w0: float = 10.0
    sigma: float = 5.0
    objects: Objects = "components"
    mm: bool = False
    half: bool = False


def make_maps(
    cases: Sequence[LabelFile],
    recipe: Recipe,
    jobs: int = 0,
    done: Callable[[Path], None] = lambda path: None,
) -> None:
    """Write the weight map (1, *S) of each case, each as soon as it is done.

    Args:
        cases: Their targets' folders are made if need be.
        recipe: How.
        jobs: Processes; 0: one a core.
        done: Told each map that is written.

    Raises:
        UserError: A label map is damaged, or states no spacing where it has to.
    """
    for folder in {case.target.parent for case in cases}:
        folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("weight maps", len(cases)) as progress:
        for target in in_processes(partial(make_map, recipe=recipe), cases, jobs):
            done(target)
            progress.advance(1, target.name)


def make_map(case: LabelFile, recipe: Recipe) -> Path:
    """Write one weight map; its path."""
    weights = weight_map(
        case.label(),
        case.classes,
        recipe.mode,
        w0=recipe.w0,
        sigma=recipe.sigma,
        spacing=case.spacing() if recipe.mm else None,
        objects=recipe.objects,
    )
    save_array(case.target, weights[None].astype(np.float16 if recipe.half else np.float32, copy=False))
    return case.target
