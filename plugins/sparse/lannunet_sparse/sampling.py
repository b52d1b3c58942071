"""Placement of patches, so that each contains an annotated voxel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from lannunet_images import showing
from lannunet_segmentation import PreparedCase
from numpy.typing import NDArray

from lannunet_core import Floats, SpatialTransform


@dataclass(frozen=True)
class AnnotatedVoxel:
    """Patches that contain a drawn annotated voxel exactly, also after augmentation.

    The transform is drawn before; the patch's centre, a float, is computed so that one voxel of the patch
    samples exactly the drawn one, including elastic displacement. Parts of the patch outside the image count
    as not annotated. There are no retries.

    Attributes:
        output_size: (x, y[, z]) of a patch.
        balance: Whether annotated voxels of the case, or its classes, are drawn uniformly.
        offset: Position of the voxel in the patch: uniformly random; in the middle; or `inside`, uniformly
            random among the positions where the patch extends beyond the image as little as possible (before
            augmentation).
    """

    output_size: tuple[int, ...]
    balance: Literal["voxels", "classes"] = "voxels"
    offset: Literal["random", "centre", "inside"] = "random"

    def centre(
        self,
        rng: np.random.Generator,
        image_size: tuple[int, ...],
        transform: SpatialTransform,
        sample: PreparedCase,
    ) -> Floats:
        voxels = sample.annotated()
        if self.balance == "classes":
            voxels = sample.voxels(int(rng.choice(sample.classes_present)))
        size, voxel = np.asarray(self.output_size), voxels.draw(rng)
        if self.offset == "random":
            place = rng.integers(size)
        elif self.offset == "centre":
            place = size // 2
        else:
            first = first_inside(rng, voxel, size, np.asarray(image_size))
            shown = transform.to_output(voxel.astype(np.float64), first + (size - 1) / 2, self.output_size)
            place = np.clip(np.rint(shown), 0, size - 1)
        return showing(voxel.astype(np.float64), place.astype(np.float64), transform, self.output_size)


def first_inside(
    rng: np.random.Generator, voxel: NDArray[np.int64], size: NDArray[np.int64], image: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The first voxel of a patch around `voxel` that is inside the image or, if larger, contains it."""
    low = np.maximum(voxel - size + 1, np.minimum(image - size, 0))
    high = np.minimum(voxel, np.maximum(image - size, 0))
    first: NDArray[np.int64] = rng.integers(low, high + 1)
    return first
