"""Additional input channels of a second stage: one per class of the first stage's segmentation.

The first stage segments its own training images better than others. So that the second stage does not rely
on it, the segmentation is corrupted in training, as in nnU-Net (Isensee et al. 2021): classes are dilated,
eroded, opened or closed, and components are removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from lannunet_core import ExtraMap
from lannunet_segmentation.data.samples import TrainingPatches

PREVIOUS = ExtraMap("previous stage", "label", "nearest", 0.0)
"""The first stage's label map of each training case."""
MORPHED, REMOVED = 0.4, 0.2  # of the patches
LARGEST_RADIUS = 8  # voxels
SHORTEST_SIDES = 8  # the radius is at most this part of the shortest side of a patch
LARGEST_COMPONENT = 0.15  # of a patch; larger ones are kept
CORRUPTION = 1  # a stream of random numbers beside the one that draws the patch


class CascadePatches(TrainingPatches):
    """Training patches of a second stage, with `PREVIOUS` among their extra maps; see `TrainingPatches`.

    Args:
        classes: Number of classes of the first stage, without the background.
    """

    def __init__(self, classes: int, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.classes = classes

    def __getitem__(self, place: tuple[int, int, int]) -> dict[str, Any]:
        item = super().__getitem__(place)
        rng = np.random.default_rng([self.seed, *place[:2], CORRUPTION])
        item[PREVIOUS.key] = torch.from_numpy(corrupted(item[PREVIOUS.key].numpy(), rng))
        return item

    def on_device(self, batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
        moved = super().on_device(batch, device)
        moved["image"] = with_classes(moved["image"], moved.pop(PREVIOUS.key), self.classes)
        return moved


def with_classes(images: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Images (B, C, *S) with a channel after theirs for each of the labels (B, *S) 1 … `classes`."""
    return torch.cat([images, *((labels == value)[:, None].to(images) for value in range(1, classes + 1))], 1)


def corrupted(labels: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """A corrupted copy of labels (*S)."""
    labels = labels.copy()
    if rng.random() < MORPHED:
        for value in rng.permutation(found_in(labels)):
            morph(labels, value, rng)
    if rng.random() < REMOVED:
        for value in found_in(labels):
            remove_component(labels, value, rng)
    return labels


def found_in(labels: NDArray[Any]) -> NDArray[Any]:
    """The classes in a label map, without the background."""
    values: NDArray[Any] = np.unique(labels)
    return np.asarray(values[values > 0])


def morph(labels: NDArray[Any], value: float, rng: np.random.Generator) -> None:
    """Dilate, erode, open or close a class by a ball of a random radius; lost voxels become background."""
    largest = max(min(LARGEST_RADIUS, min(labels.shape) // SHORTEST_SIDES), 1)
    radius = int(rng.integers(1, largest + 1))
    steps = ((grown,), (shrunk,), (shrunk, grown), (grown, shrunk))[rng.integers(4)]
    for inside in ndimage.find_objects((labels == value).view(np.uint8)):  # one, or another class covers it
        box = tuple(slice(max(side.start - radius - 1, 0), side.stop + radius + 1) for side in inside)
        mask = labels[box] == value
        made = mask
        for step in steps:
            made = step(made, radius)
        labels[box][mask] = 0
        labels[box][made] = value


def grown(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """A mask (*S) dilated by a ball, in voxels."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= radius)


def shrunk(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """A mask (*S) eroded by a ball, in voxels; outside of the array it continues as at the border."""
    return ~grown(~mask, radius)


def remove_component(labels: NDArray[Any], value: float, rng: np.random.Generator) -> None:
    """Remove one component of a class that is not large. Voxels that share a corner are connected."""
    parts, count = ndimage.label(labels == value, ndimage.generate_binary_structure(labels.ndim, labels.ndim))
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    small = np.flatnonzero(sizes < LARGEST_COMPONENT * labels.size) + 1
    if len(small):
        labels[parts == rng.choice(small)] = 0
