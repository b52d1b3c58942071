"""Folders that nnU-Net version 1 preprocessed: their pickles, plans and arrays.

A stage folder has for each case an array (C + 1, z, y, x), the segmentation last, as `.npz` or `.npy`, and
its properties as `.pkl`; its plan is in the parent folder. The plan's `transpose_forward` gives the axis of
the image for each of the array's axes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat

from lannunet_core import UserError
from lannunet_segmentation.data.arrays import layout, read_array
from lannunet_segmentation.data.nnunet_plan import Plan, identifier, listed, read_plan, typed
from lannunet_segmentation.data.plain_pickle import read_pickle
from lannunet_segmentation.types import Geometry, NnunetRecipe, SegmentationDataset

STAGE = re.compile(r"(.+)_stage(\d+)")
WEIGHT_MAP = "_weightmap"
"""Suffix of a case's id in the name of its weight map."""
SPACING_TOLERANCE = 1e-3  # relative


def find_stage(folder: Path) -> Path | None:
    """The folder itself if it has cases, else its finest stage; a stage of a 3D plan before one of a 2D plan.

    Args:
        folder: A folder that nnU-Net version 1 preprocessed: a `…_stage0`, or its parent.

    Returns:
        The folder; None: there are no cases.

    Raises:
        UserError: Several stages are equally fine.
    """
    if is_stage(folder):
        return folder
    found = stages(folder)
    if not found:
        return None
    ranks = {}
    for stage in found:
        plan = stage_plan(stage)
        number = int(cast("re.Match[str]", STAGE.fullmatch(stage.name))[2])
        ranks[stage] = (plan is None or not plan.slices, number)
    best = [stage for stage in ranks if ranks[stage] == max(ranks.values())]
    if len(best) > 1:
        raise UserError(f"{folder}: holds {' and '.join(f.name for f in best)}. Name one of them.")
    return best[0]


def is_stage(folder: Path) -> bool:
    """Whether it holds preprocessed cases."""
    return bool(stage_cases(folder))


def stages(folder: Path) -> list[Path]:
    """The stage folders in a folder; empty if it is not a parent of stages."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if STAGE.fullmatch(f.name) and f.is_dir() and is_stage(f))


def stage_cases(stage: Path) -> dict[str, Path]:
    """The array of each case by its id: the unpacked one if both exist."""
    cases = {}
    for suffix in (".npz", ".npy"):
        for path in sorted(stage.glob(f"*{suffix}")):
            if not path.name.startswith(".") and path.with_suffix(".pkl").is_file():  # weight maps have none
                cases[path.stem] = path
    return dict(sorted(cases.items()))


def stage_plan(stage: Path) -> Plan | None:
    """The plan of a stage folder; None: there is no plan at all.

    Raises:
        UserError: The plans beside it belong to other folders.
    """
    files = sorted(path for path in stage.parent.glob("*plans*.pkl") if path.is_file())
    return _stage_plan(stage, tuple((path, path.stat().st_mtime_ns) for path in files))


@lru_cache
def _stage_plan(stage: Path, dated: tuple[tuple[Path, int], ...]) -> Plan | None:
    match = STAGE.fullmatch(stage.name)
    files = [path for path, _ in dated]
    known = []
    for path in files:
        known.append(identifier(path))
        if match is not None and known[-1] == match[1]:
            return read_plan(path, int(match[2]), stage)
    if files:
        raise UserError(
            f"{stage}: was made by another plan than those beside it, {', '.join(known)[:80]!r}. Preprocess "
            "it again, or add the plan that made it."
        )
    return None


def preparation(stage: Path, dimensions: int) -> NnunetRecipe | str:
    """The recipe of a stage's arrays from raw images, or a sentence with the reason why it is unknown.

    Args:
        stage: The folder.
        dimensions: Dimensions of its cases.
    """
    plan, trained = (
        stage_plan(stage),
        f"it was trained on {stage.name}",
    )  # without its path, as models store it
    if plan is None:
        return f"{trained}, which has no plan beside it with the preparation of raw images"
    if plan.recipe is None:
        return f"{trained}, and {plan.unknown}"
    if dimensions == 2 and plan.recipe.transposed[0] != 0:
        return f"{trained}, whose 2D images {plan.path.name} cut along another axis than z"
    return plan.recipe


def preprocessed_shape(path: Path) -> tuple[int, ...]:
    """The shape (C + 1, *S) of a case's array, from its header.

    Raises:
        UserError: It is damaged.
    """
    shape = layout(path).shape
    if len(shape) not in (3, 4) or not all(shape):
        raise UserError(
            f"{path}: an array of shape {shape}; a preprocessed case has its channels first, and the "
            "segmentation as the last of them. Preprocess or copy it again."
        )
    return shape


def read_preprocessed(path: Path) -> NDArray[Any]:
    """A case's array (C + 1, *S) as stored, the segmentation last; memory-mapped where it is a `.npy`.

    Raises:
        UserError: It is damaged.
    """
    return read_array(path)


def geometry(path: Path, dimensions: int) -> Geometry:
    """The position of a case's preprocessed voxels: cropped, transposed and resampled from its original
    image."""
    properties, plan = _properties(path), stage_plan(path.parent)
    shape = preprocessed_shape(path)[1:]
    shape = (1,) * (3 - len(shape)) + shape
    spacing = properties.spacing_after_resampling[::-1]
    old_spacing = np.array(properties.itk_spacing or spacing)
    old_direction = np.reshape(properties.itk_direction or np.eye(3), (3, 3))
    crop = properties.crop_bbox or [(0, 0)] * 3
    transposed = (0, 1, 2) if plan is None else plan.transposed
    # The array's axes, in reverse order, are the file's x, y, z after the transposition.
    axes = [2 - transposed[2 - axis] for axis in range(3)]
    start = np.array([float(crop[2 - axis][0]) for axis in axes])
    step = old_spacing[axes]
    direction = old_direction[:, axes]
    origin = np.array(properties.itk_origin or (0.0, 0.0, 0.0))
    # Resampling keeps edges in place, so the first voxel's centre moves.
    origin = origin + direction @ (start * step + (np.array(spacing) - step) / 2)
    return Geometry(
        size=shape[::-1][:dimensions],
        spacing=spacing[:dimensions],
        origin=tuple(origin.tolist()),
        direction=tuple(direction.ravel().tolist()),
        axes=3,
        thickness=spacing[2],
    )


def check(path: Path, dataset: SegmentationDataset) -> None:
    """Check a case's header against its properties and the plan.

    Raises:
        UserError: It was made by another plan, or does not fit its properties.
    """
    properties, plan, shape = _properties(path), stage_plan(path.parent), preprocessed_shape(path)
    wanted = len(dataset.channel_names) + 1
    if shape[0] != wanted:
        raise UserError(
            f"{path}: has {shape[0]} channels where the data set has {wanted - 1} and the segmentation. It "
            "was made by another plan: preprocess again."
        )
    if dataset.dimensions == 3 and len(shape) != 4:
        raise UserError(
            f"{path}: is a 2D image, of shape {shape}, where other cases are volumes. Preprocess it again."
        )
    size = properties.size_after_resampling
    if size is not None and math.prod(size) != math.prod(shape[1:]):
        raise UserError(
            f"{path}: its size is {_times(shape[1:])}, but {path.stem}.pkl states {_times(size)}. Unpack or "
            "preprocess it again."
        )
    first = dataset.training[0].images[0]
    source = first.with_suffix(".pkl") if plan is None else plan.path
    expected = _spacing(first, source.stat().st_mtime_ns) if plan is None else plan.spacing
    found = properties.spacing_after_resampling
    free = 1 if plan is not None and plan.slices else 0
    if not np.allclose(found[free:], expected[free:], rtol=SPACING_TOLERANCE, atol=0):
        raise UserError(
            f"{path}: was resampled to {_times(found)} mm, but {source} states {_times(expected)} mm. It was "
            "made by another plan: preprocess again."
        )


def preprocessed_properties(path: Path) -> Mapping[str, Any]:
    """nnU-Net's properties of a case, from the pickle beside its array.

    Args:
        path: Path of the array.

    Returns:
        Among others `spacing_after_resampling`, three numbers in mm in the array's order.

    Raises:
        UserError: The pickle is missing, damaged, or not of nnU-Net version 1.
    """
    known = _properties(path).spacing_after_resampling
    return {**read_pickle(path.with_suffix(".pkl")), "spacing_after_resampling": known}


def highest_class(arrays: Iterable[Path]) -> int:
    """The highest label in the properties of these cases."""
    return max((int(value) for path in arrays for value in _properties(path).classes), default=0)


@lru_cache
def _spacing(path: Path, dated: int) -> tuple[float, ...]:
    return _properties(path).spacing_after_resampling


Length = Annotated[FiniteFloat, Field(gt=0)]


def _steps(spacing: Any) -> Any:
    steps = listed(spacing)
    return [1.0] * (3 - len(steps)) + list(steps) if isinstance(steps, (list, tuple)) else steps


class _Properties(BaseModel):
    """The used properties in a case's pickle: in the array's order, `itk_…` in SimpleITK's."""

    spacing_after_resampling: Annotated[tuple[Length, Length, Length], BeforeValidator(_steps)]
    size_after_resampling: Annotated[
        list[Annotated[int, Field(gt=0, lt=2**31)]] | None, BeforeValidator(listed)
    ] = None
    itk_spacing: Annotated[tuple[Length, Length, Length] | None, BeforeValidator(listed)] = None
    itk_origin: Annotated[tuple[FiniteFloat, FiniteFloat, FiniteFloat] | None, BeforeValidator(listed)] = None
    itk_direction: Annotated[
        list[FiniteFloat] | None, BeforeValidator(listed), Field(min_length=9, max_length=9)
    ] = None
    crop_bbox: Annotated[
        list[tuple[int, int]] | None, BeforeValidator(listed), Field(min_length=3, max_length=3)
    ] = None
    classes: Annotated[list[Annotated[FiniteFloat, Field(ge=-1000, le=2**15)]], BeforeValidator(listed)] = []


def _properties(path: Path) -> _Properties:
    file = path.with_suffix(".pkl")
    content = read_pickle(file)
    if not isinstance(content, dict) or "spacing_after_resampling" not in content:
        raise UserError(f'{file}: lacks "spacing_after_resampling"; it is not of nnU-Net version 1.')
    return typed(_Properties, content, file, "case's properties")


def _times(numbers: Any) -> str:
    return "×".join(f"{number:g}" for number in numbers)
