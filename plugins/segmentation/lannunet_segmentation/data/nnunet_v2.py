"""Folders that nnU-Net version 2 preprocessed: plans in JSON, arrays in Blosc2 frames, properties in pickles.

A folder of a configuration (`nnUNetPlans_3d_fullres`) has for each case its image `NAME.b2nd` (C, z, y, x),
its segmentation `NAME_seg.b2nd` (1, z, y, x) and its properties `NAME.pkl`; its plans are in the parent
folder, with dataset.json. `transpose_forward` gives the axis of the image for each of the array's axes. In
the segmentation −1 is background outside of nonzero voxels, on which nnU-Net trains; voxels without
annotation have the ignore label.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, Field, FiniteFloat

from lannunet_core import Floats, UserError
from lannunet_segmentation.data.blosc import b2nd_header, read_b2nd
from lannunet_segmentation.data.declaration import read_json
from lannunet_segmentation.data.nnunet_plan import listed, typed
from lannunet_segmentation.data.plain_pickle import read_pickle
from lannunet_segmentation.types import Geometry, NnunetChannel, NnunetRecipe, SegmentationDataset

SEGMENTATION = "_seg"
PREFERRED = ("3d_fullres", "2d", "3d_lowres")
"""Order of preference among configurations if a data set's folder is named."""
SCHEMES = {"ZScoreNormalization": "zscore", "CTNormalization": "ct", "NoNormalization": "none"}

Length = Annotated[FiniteFloat, Field(gt=0)]
Turn = Annotated[tuple[int, int, int], BeforeValidator(listed)]


class _Intensities(BaseModel):
    mean: FiniteFloat
    std: FiniteFloat
    percentile_00_5: FiniteFloat
    percentile_99_5: FiniteFloat


class _Plans(BaseModel):
    configurations: dict[str, dict[str, Any]]
    transpose_forward: Turn = (0, 1, 2)
    foreground_intensity_properties_per_channel: dict[int, _Intensities] = {}


class _Configuration(BaseModel):
    data_identifier: str
    preprocessor_name: str = "DefaultPreprocessor"
    spacing: list[Length] = Field(min_length=2, max_length=3)
    normalization_schemes: list[str]
    use_mask_for_norm: list[bool]


class _World(BaseModel):
    spacing: list[Length] = Field(min_length=2, max_length=3)
    origin: list[FiniteFloat] = Field(min_length=2, max_length=3)
    direction: list[FiniteFloat] = Field(min_length=4, max_length=9)


class _Properties(BaseModel):
    """The used properties in a case's pickle: in the order (z, y, x), `bbox…` and `shape…` in the array's."""

    spacing: Annotated[tuple[Length, Length, Length], BeforeValidator(listed)]
    shape_after_cropping_and_before_resampling: Annotated[
        tuple[int, int, int], BeforeValidator(listed), Field()
    ]
    bbox_used_for_cropping: Annotated[
        list[Annotated[tuple[int, int], BeforeValidator(listed)]],
        BeforeValidator(listed),
        Field(min_length=3, max_length=3),
    ]
    sitk_stuff: _World | None = None


def find_configuration(folder: Path) -> Path | None:
    """The folder itself if it is a configuration, else the first of `PREFERRED` in it, or the only one.

    Args:
        folder: Folder of a configuration, or of the data set in `nnUNet_preprocessed`.

    Returns:
        The folder; None: there are no cases of version 2.

    Raises:
        UserError: There are several, none of which is preferred.
    """
    if configuration_cases(folder):
        return folder
    found = configurations(folder)
    for name in PREFERRED:
        if len(best := [one for one in found if one.name.endswith(f"_{name}")]) == 1:
            return best[0]
    if len(found) > 1:
        raise UserError(f"{folder}: holds {' and '.join(f.name for f in found)}. Name one of them.")
    return found[0] if found else None


def configurations(folder: Path) -> list[Path]:
    """The folders of configurations in a data set's folder; empty if it is not such a folder."""
    if not folder.is_dir() or not _plan_files(folder):
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and configuration_cases(path))


def configuration_cases(folder: Path) -> dict[str, Path]:
    """The image of each case by its id."""
    arrays = {path.stem: path for path in folder.glob("*.b2nd") if not path.name.startswith(".")}
    return {name: path for name, path in sorted(arrays.items()) if f"{name}{SEGMENTATION}" in arrays}


def segmentation_of(path: Path) -> Path:
    """The file of the segmentation beside an image."""
    return path.with_name(f"{path.stem}{SEGMENTATION}{path.suffix}")


def preparation(folder: Path, dimensions: int) -> NnunetRecipe | str:
    """The recipe of a configuration's arrays from raw images, or a sentence with the reason why it is
    unknown."""
    trained = f"it was trained on {folder.name}"  # without its path, as models store it
    plan, plans, chosen = _plan(folder)
    if chosen.preprocessor_name != "DefaultPreprocessor":
        return (
            f"{trained}, and {plan.name} names a preprocessor of its own ({chosen.preprocessor_name[:60]!r})"
        )
    channels = []
    for index, (name, inside) in enumerate(
        zip(chosen.normalization_schemes, chosen.use_mask_for_norm, strict=False)
    ):
        scheme, found = SCHEMES.get(name), plans.foreground_intensity_properties_per_channel.get(index)
        if scheme is None:
            return (
                f"{trained}, and {plan.name} normalises channel {index} by {name[:60]!r}, which is not known"
            )
        if scheme == "ct" and found is None:
            return f"{trained}, and {plan.name} lacks the intensities that channel {index} was clipped to"
        if scheme == "ct" and found is not None:
            clip = (found.percentile_00_5, found.percentile_99_5, found.mean, found.std)
            channels.append(NnunetChannel("ct", False, clip))
        else:
            channels.append(NnunetChannel("none" if scheme == "none" else "zscore", inside))
    if dimensions == 2 and plans.transpose_forward[0] != 0:
        return f"{trained}, whose 2D images {plan.name} cut along another axis than z"
    free, last = len(chosen.spacing) == 2, chosen.spacing[-2:]
    spacing = (None if free else chosen.spacing[0], last[0], last[1])
    return NnunetRecipe(plan.name, spacing, plans.transpose_forward, tuple(channels), normalised_first=True)


def preprocessed_shape(path: Path) -> tuple[int, ...]:
    """The shape (C + 1, *S) of a case with its segmentation, from its header.

    Raises:
        UserError: It is damaged.
    """
    shape = b2nd_header(path).shape
    if len(shape) != 4:
        raise UserError(f"{path}: an array of shape {shape}; a preprocessed image is (C, z, y, x).")
    return (shape[0] + 1, *shape[1:])


def read_preprocessed(path: Path) -> NDArray[Any]:
    """A case's array (C + 1, *S), the segmentation last.

    Raises:
        UserError: A file is damaged or missing, or the two differ.
    """
    image, segmentation = read_b2nd(path), read_b2nd(segmentation_of(path))
    if segmentation.shape != (1, *image.shape[1:]):
        raise UserError(
            f"{segmentation_of(path)}: its shape is {segmentation.shape}, that of {path.name} is "
            f"{image.shape}. Preprocess it again."
        )
    return np.concatenate([image, np.maximum(segmentation, 0)], dtype=np.float32)


def preprocessed_properties(path: Path) -> Mapping[str, Any]:
    """nnU-Net's properties of a case, with `spacing_after_resampling`, mm in the array's order."""
    content = read_pickle(path.with_suffix(".pkl"))
    return {**content, "spacing_after_resampling": _spacing(path)[::-1]}


def geometry(path: Path, dimensions: int) -> Geometry:
    """The position of a case's preprocessed voxels: transposed, cropped and resampled from its original
    image."""
    properties, (_, plans, _) = _properties(path), _plan(path.parent)
    size = preprocessed_shape(path)[:0:-1]
    spacing = _spacing(path)
    world = properties.sitk_stuff
    axes = [2 - plans.transpose_forward[2 - axis] for axis in range(3)]  # x, y, z of the array in the image
    old = np.array(properties.spacing[::-1])[axes]
    direction: Floats = np.eye(3)
    origin: Floats = np.zeros(3)
    if world is not None and len(world.spacing) == 3:
        direction, origin = np.reshape(world.direction, (3, 3)), np.array(world.origin)
    elif world is not None:
        direction[:2, :2], origin[:2] = np.reshape(world.direction, (2, 2)), world.origin
    start = np.array([float(properties.bbox_used_for_cropping[2 - axis][0]) for axis in range(3)])
    direction = direction[:, axes]
    # Resampling keeps edges in place, so the first voxel's centre moves.
    origin = origin + direction @ (start * old + (np.array(spacing) - old) / 2)
    return Geometry(
        size=size[:dimensions],
        spacing=spacing[:dimensions],
        origin=tuple(origin.tolist()),
        direction=tuple(direction.ravel().tolist()),
        axes=3,
        thickness=spacing[2],
    )


def check(path: Path, dataset: SegmentationDataset) -> None:
    """Check a case's header against its segmentation, its properties and the plan.

    Raises:
        UserError: It was made by another plan, or does not fit them.
    """
    plan, plans, chosen = _plan(path.parent)
    channels, *shape = preprocessed_shape(path)
    if channels - 1 != len(dataset.channel_names):
        raise UserError(
            f"{path}: has {channels - 1} channels where the data set has {len(dataset.channel_names)}. "
            "Preprocess it again."
        )
    properties = _properties(path)
    before = np.array(properties.shape_after_cropping_and_before_resampling)
    own = np.array([properties.spacing[axis] for axis in plans.transpose_forward])
    target = np.array([*own[: 3 - len(chosen.spacing)], *chosen.spacing])
    if np.abs(np.round(own / target * before) - shape).max() > 1:  # rounding may differ
        raise UserError(
            f"{path}: its size is {'×'.join(map(str, shape))}, but {plan.name} resamples it to "
            f"{'×'.join(f'{step:g}' for step in target)} mm. It was made by another plan: preprocess again."
        )


def _spacing(path: Path) -> tuple[float, float, float]:
    """mm per voxel (x, y, z) of a case's array."""
    properties, (_, plans, _) = _properties(path), _plan(path.parent)
    shape, before = preprocessed_shape(path)[1:], properties.shape_after_cropping_and_before_resampling
    own = [properties.spacing[axis] for axis in plans.transpose_forward]
    z, y, x = (step * old / new for step, old, new in zip(own, before, shape, strict=True))
    return x, y, z


def _properties(path: Path) -> _Properties:
    file = path.with_suffix(".pkl")
    content = read_pickle(file)
    if not isinstance(content, dict) or "bbox_used_for_cropping" not in content:
        raise UserError(f'{file}: lacks "bbox_used_for_cropping"; it is not of nnU-Net version 2.')
    return typed(_Properties, content, file, "case's properties", version=2)


def _plan_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*lans.json") if path.is_file())


def _plan(configuration: Path) -> tuple[Path, _Plans, _Configuration]:
    """The file of the plans that made a configuration's folder, its content, and the configuration in it.

    Raises:
        UserError: No plans beside it made it.
    """
    files = _plan_files(configuration.parent)
    return _read_plan(configuration, tuple((path, path.stat().st_mtime_ns) for path in files))


@lru_cache
def _read_plan(
    configuration: Path, dated: tuple[tuple[Path, int], ...]
) -> tuple[Path, _Plans, _Configuration]:
    for path, _ in dated:
        plans = typed(_Plans, read_json(path), path, "plan", version=2)
        for name, own in plans.configurations.items():
            if own.get("data_identifier") == configuration.name:
                whole = _inherited(plans.configurations, name, path)
                return path, plans, typed(_Configuration, whole, path, "plan", f"{name}.", version=2)
    names = ", ".join(path.name for path, _ in dated) or "none"
    raise UserError(
        f"{configuration}: was made by other plans than those beside it ({names}). Add the plans that made "
        "it, or preprocess again."
    )


def _inherited(configurations: Mapping[str, Mapping[str, Any]], name: str, path: Path) -> dict[str, Any]:
    """A configuration with the keys that it inherits from others."""
    found: dict[str, Any] = {}
    seen: list[str] = []
    while name not in seen:
        seen.append(name)
        found = {**configurations[name], **found}
        name = found.pop("inherits_from", name)
        if name not in configurations:
            raise UserError(
                f'{path}: a configuration inherits from "{str(name)[:60]}", which does not exist.'
            )
    return found
