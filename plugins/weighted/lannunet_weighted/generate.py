"""Weight maps of many cases, computed in several processes."""

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
    """The parameters of weight maps, see `maps`.

    Attributes:
        mode: The formula.
        w0: The weight of borders.
        sigma: The width of borders.
        objects: Definition of an object in the formula `unet`.
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
        cases: The label maps; missing folders of their targets are created.
        recipe: The parameters of the maps.
        jobs: Processes; 0: one per core.
        done: Called with the path of each map once it is written.

    Raises:
        UserError: A label map is damaged, or has no spacing although distances are in mm.
    """
    for folder in {case.target.parent for case in cases}:
        folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("weight maps", len(cases)) as progress:
        for target in in_processes(partial(make_map, recipe=recipe), cases, jobs):
            done(target)
            progress.advance(1, target.name)


def make_map(case: LabelFile, recipe: Recipe) -> Path:
    """Write one weight map and return its path."""
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
