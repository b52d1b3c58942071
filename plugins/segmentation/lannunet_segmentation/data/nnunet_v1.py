"""Folders that nnU-Net version 1 preprocessed: their pickles, plans and arrays.

A stage folder has for each case an array (C + 1, z, y, x), the segmentation last, as `.npz` or `.npy`, and
its properties as `.pkl`; the plan that made it lies in the folder above. The plan's `transpose_forward` says
which axis of the image each of the array's is. Its pickles are read without running anything.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lannunet_core import UserError
from lannunet_segmentation.types import Geometry, SegmentationDataset

STAGE = re.compile(r"(.+)_stage(\d+)")
WEIGHT_MAP = "_weightmap"
"""What follows a case's id in the name of its weight map."""
SPACING_TOLERANCE = 1e-3  # relative


@dataclass(frozen=True)
class Plan:
    """What a plan says of one stage.

    Attributes:
        path: Its file.
        channel_names: C.
        classes: How many, without the background.
        spacing: mm, in the array's order.
        transposed: Which axis (z, y, x) of the image each of the array's axes is.
        slices: Whether it is a 2D plan: volumes keep their spacing along the array's first axis.
    """

    path: Path
    channel_names: tuple[str, ...]
    classes: int
    spacing: tuple[float, ...]
    transposed: tuple[int, ...]
    slices: bool


def find_stage(folder: Path) -> Path | None:
    """The folder itself where it holds cases, else its finest stage, one of a 3D plan before a 2D one.

    Args:
        folder: Preprocessed by nnU-Net version 1: a `…_stage0`, or its parent.

    Returns:
        None where there are no cases.

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
        raise UserError(f"{folder}: holds {' and '.join(f.name for f in best)}. Name the one that is meant.")
    return best[0]


def is_stage(folder: Path) -> bool:
    """Whether it holds preprocessed cases."""
    return bool(stage_cases(folder))


def stages(folder: Path) -> list[Path]:
    """The stage folders in a folder; none where it is none itself."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if STAGE.fullmatch(f.name) and f.is_dir() and is_stage(f))


def stage_cases(stage: Path) -> dict[str, Path]:
    """The array of each case by its id: the unpacked one, where there are both."""
    cases = {}
    for suffix in (".npz", ".npy"):
        for path in sorted(stage.glob(f"*{suffix}")):
            if path.with_suffix(".pkl").is_file():  # weight maps have none
                cases[path.stem] = path
    return dict(sorted(cases.items()))


def stage_plan(stage: Path) -> Plan | None:
    """What the plan beside a stage folder says of it; None where there is none at all.

    Raises:
        UserError: The plans beside it are of other folders.
    """
    files = sorted(path for path in stage.parent.glob("*plans*.pkl") if path.is_file())
    return _stage_plan(stage, tuple((path, path.stat().st_mtime_ns) for path in files))


@lru_cache
def _stage_plan(stage: Path, dated: tuple[tuple[Path, int], ...]) -> Plan | None:
    match = STAGE.fullmatch(stage.name)
    files = [path for path, _ in dated]
    known = []
    for path in files:
        content = read_pickle(path)
        try:
            known.append(content["data_identifier"])
            if match is None or content["data_identifier"] != match[1]:
                continue
            stages, number = content["plans_per_stage"], int(match[2])
            if number not in stages:
                raise UserError(f"{path}: has no stage {number}: {stage} was made by another plan.")
            modalities = content["modalities"]
            return Plan(
                path=path,
                channel_names=tuple(str(modalities[index]) for index in range(content["num_modalities"])),
                classes=int(content["num_classes"]),
                spacing=tuple(float(step) for step in stages[number]["current_spacing"]),
                transposed=tuple(int(axis) for axis in content.get("transpose_forward", (0, 1, 2))),
                slices=len(stages[number]["patch_size"]) == 2,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: is no plan of nnU-Net version 1 ({error!r}).") from None
    if files:
        raise UserError(
            f"{stage}: was made by another plan than those beside it ({', '.join(map(str, known))}). "
            "Preprocess again, or bring the plan that made it."
        )
    return None


def preprocessed_shape(path: Path) -> tuple[int, ...]:
    """The shape (C + 1, *S) of a case's array, from its header.

    Raises:
        UserError: It is damaged.
    """
    try:
        if path.suffix == ".npy":
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        else:
            with zipfile.ZipFile(path) as archive, archive.open("data.npy") as file:
                numpy: Any = np.lib.format
                first = numpy.read_magic(file) == (1, 0)
                shape = (numpy.read_array_header_1_0 if first else numpy.read_array_header_2_0)(file)[0]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None
    return cast("tuple[int, ...]", shape)


def read_preprocessed(path: Path) -> NDArray[Any]:
    """A case's array (C + 1, *S) as stored, the segmentation last; memory-mapped where it is a `.npy`.

    Raises:
        UserError: It is damaged.
    """
    try:
        if path.suffix == ".npy":
            return cast(NDArray[Any], np.load(path, mmap_mode="r", allow_pickle=False))
        with np.load(path, allow_pickle=False) as archive:
            return cast(NDArray[Any], archive["data"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None


def geometry(path: Path, dimensions: int) -> Geometry:
    """Where a case's preprocessed voxels lie: cropped, turned and resampled from its original image."""
    properties, plan = preprocessed_properties(path), stage_plan(path.parent)
    shape = preprocessed_shape(path)[1:]
    shape = (1,) * (3 - len(shape)) + shape
    spacing = properties["spacing_after_resampling"][::-1]
    old_spacing = np.asarray(properties.get("itk_spacing", spacing), float)
    old_direction = np.reshape(properties.get("itk_direction", np.eye(3)), (3, 3))
    crop = properties.get("crop_bbox", [(0, 0)] * 3)
    transposed = (0, 1, 2) if plan is None else plan.transposed
    # The array's axes, last first, are the file's x, y, z after the turn.
    axes = [2 - transposed[2 - axis] for axis in range(3)]
    start = np.array([float(crop[2 - axis][0]) for axis in axes])
    step = old_spacing[axes]
    direction = old_direction[:, axes]
    origin = np.asarray(properties.get("itk_origin", np.zeros(3)), float)
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
    properties, plan, shape = preprocessed_properties(path), stage_plan(path.parent), preprocessed_shape(path)
    wanted = len(dataset.channel_names) + 1
    if shape[0] != wanted:
        raise UserError(
            f"{path}: has {shape[0]} channels where the data set has {wanted - 1} and the segmentation. It "
            "was made by another plan: preprocess again."
        )
    size = properties.get("size_after_resampling")
    if size is not None and np.prod(size) != np.prod(shape[1:]):
        raise UserError(
            f"{path}: its size is {_times(shape[1:])}, but {path.stem}.pkl says {_times(size)}. Unpack or "
            "preprocess it again."
        )
    first = dataset.training[0].images[0]
    source = first.with_suffix(".pkl") if plan is None else plan.path
    expected = _spacing(first, source.stat().st_mtime_ns) if plan is None else plan.spacing
    found = properties["spacing_after_resampling"]
    free = 1 if plan is not None and plan.slices else 0
    if not np.allclose(found[free:], expected[free:], rtol=SPACING_TOLERANCE, atol=0):
        raise UserError(
            f"{path}: was resampled to {_times(found)} mm, but {source} says {_times(expected)} mm. It was "
            "made by another plan: preprocess again."
        )


def preprocessed_properties(path: Path) -> Mapping[str, Any]:
    """What nnU-Net knows of a case, from the pickle beside its array.

    Args:
        path: The array.

    Returns:
        Among others `spacing_after_resampling`, three numbers in mm in the array's order.

    Raises:
        UserError: The pickle is missing, damaged, or not of nnU-Net version 1.
    """
    file = path.with_suffix(".pkl")
    properties = read_pickle(file)
    if not isinstance(properties, dict) or "spacing_after_resampling" not in properties:
        raise UserError(f'{file}: lacks "spacing_after_resampling"; it is not of nnU-Net version 1.')
    return {**properties, "spacing_after_resampling": _steps(properties["spacing_after_resampling"])}


def highest_class(arrays: Iterable[Path]) -> int:
    """The highest label that the properties of these cases name."""
    found = [preprocessed_properties(path).get("classes", ()) for path in arrays]
    return max((int(value) for classes in found for value in classes), default=0)


@lru_cache
def _spacing(path: Path, dated: int) -> tuple[float, ...]:
    return cast("tuple[float, ...]", preprocessed_properties(path)["spacing_after_resampling"])


def _steps(spacing: Any) -> tuple[float, ...]:
    steps = tuple(float(step) for step in spacing)
    return (1.0,) * (3 - len(steps)) + steps


def _times(numbers: Any) -> str:
    return "×".join(f"{number:g}" for number in numbers)


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: damaged, or no preprocessed case ({error}). Preprocess or copy it again.")


# Pickles


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1")  # how old pickles write bytes


PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "slice"): slice,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("numpy.core.numeric", "_frombuffer"): np.empty(0).__reduce_ex__(5)[0],
}
"""What a pickle may name: containers and NumPy's numbers, nothing that acts."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        key = module.replace("numpy._core", "numpy.core"), name  # as NumPy 2 calls it
        if key not in PLAIN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which reading it would run")
        return PLAIN[key]


def read_pickle(path: Path) -> Any:
    """A pickle of plain data; one that would run anything is refused.

    Raises:
        UserError: It is damaged, absent, or names anything beside containers and numbers.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(file).load()
    except Exception as error:  # a damaged pickle makes the library raise anything
        raise UserError(f"{path}: is no plain pickle of nnU-Net ({error}). Copy or make it again.") from None
