"""Cases that nnU-Net preprocessed, by its version: `.b2nd` is version 2, `.npz` and `.npy` version 1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lannunet_segmentation.data import nnunet_v1, nnunet_v2
from lannunet_segmentation.types import Geometry, NnunetRecipe, SegmentationDataset


def is_version_2(path: Path) -> bool:
    return path.suffix == ".b2nd"


def preprocessed_shape(path: Path) -> tuple[int, ...]:
    """The shape (C + 1, *S) of a case's image and segmentation, from its header.

    Raises:
        UserError: It is damaged.
    """
    return nnunet_v2.preprocessed_shape(path) if is_version_2(path) else nnunet_v1.preprocessed_shape(path)


def read_preprocessed(path: Path) -> NDArray[Any]:
    """A case's array (C + 1, *S), the segmentation last; memory-mapped if it is a `.npy`.

    Raises:
        UserError: It is damaged.
    """
    return nnunet_v2.read_preprocessed(path) if is_version_2(path) else nnunet_v1.read_preprocessed(path)


def preprocessed_properties(path: Path) -> Mapping[str, Any]:
    """nnU-Net's properties of a case, from the pickle beside its array.

    Args:
        path: Path of the array.

    Returns:
        Among others `spacing_after_resampling`, three numbers in mm in the array's order.

    Raises:
        UserError: The pickle is missing, damaged, or not of nnU-Net.
    """
    return (
        nnunet_v2.preprocessed_properties(path)
        if is_version_2(path)
        else nnunet_v1.preprocessed_properties(path)
    )


def files_of(path: Path) -> list[Path]:
    """The files of a case in addition to its array."""
    beside = [nnunet_v2.segmentation_of(path)] if is_version_2(path) else []
    return [*beside, path.with_suffix(".pkl")]


def geometry(path: Path, dimensions: int) -> Geometry:
    """The position of a case's preprocessed voxels."""
    return (
        nnunet_v2.geometry(path, dimensions) if is_version_2(path) else nnunet_v1.geometry(path, dimensions)
    )


def check(path: Path, dataset: SegmentationDataset) -> None:
    """Check a case's header against its properties and the plan.

    Raises:
        UserError: It was made by another plan, or does not fit its properties.
    """
    if is_version_2(path):
        nnunet_v2.check(path, dataset)
    else:
        nnunet_v1.check(path, dataset)


def preparation(dataset: SegmentationDataset) -> NnunetRecipe | str:
    """The recipe of a data set's arrays from raw images, or a sentence with the reason why it is unknown."""
    path = dataset.training[0].images[0]
    if is_version_2(path):
        return nnunet_v2.preparation(path.parent, dataset.dimensions)
    return nnunet_v1.preparation(path.parent, dataset.dimensions)
