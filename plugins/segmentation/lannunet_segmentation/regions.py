"""Regions: unions of labels that a network predicts independently, each with its own sigmoid.

A label map is written region by region in the order of `regions_class_order`, so that a region
within another one overwrites it. (As in Isensee et al., nnU-Net for Brain Tumor Segmentation, 2020.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lannunet_core import RunInfo
from lannunet_segmentation.types import Region

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLD = 0.5
"""The probability above which a voxel belongs to a region."""


def regions_of(run: RunInfo) -> tuple[Region, ...]:
    """The regions of a run; empty if it learns classes."""
    return tuple(Region(name, labels) for name, labels in zip(run.outputs, run.regions, strict=False))


def label_names(run: RunInfo) -> tuple[str, ...]:
    """The names of a run's label values, from 0 for the background."""
    return names_of_labels(regions_of(run)) if run.regions else run.outputs


def names_of_labels(regions: Sequence[Region]) -> tuple[str, ...]:
    """The names of label values, from 0: the name of the region with this label only, else its number."""
    own = {region.labels[0]: region.name for region in regions if len(region.labels) == 1}
    highest = max(max(region.labels) for region in regions)
    return ("background", *(own.get(value, f"label {value}") for value in range(1, highest + 1)))


def painted(maps: Tensor, regions: Sequence[Sequence[int]]) -> Tensor:
    """The labels (*S) from the regions' probabilities (R, *S); later regions overwrite earlier ones."""
    import torch

    labels = torch.zeros(maps.shape[1:], dtype=torch.int64, device=maps.device)
    for probability, values in zip(maps, regions, strict=True):
        labels[probability > THRESHOLD] = values[0]
    return labels
