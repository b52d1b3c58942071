"""Where patches are cut, so that each holds an annotated voxel."""

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
    """Patches of which one voxel is guaranteed to show a drawn annotated voxel, after augmentation.

    The transform is drawn before; the patch's centre, a float, is the one for which that voxel of the patch
    samples exactly the drawn one, elastic displacement included. What of the patch lies outside of the image
    counts as not annotated. Nothing is tried again.

    Attributes:
        output_size: (x, y[, z]) of a patch.
        balance: Whether each annotated voxel of the case is drawn as often, or each class.
        offset: Where in the patch it lies: anywhere, each place as often; in the middle; or `inside`, where
            the patch reaches beyond the image as little as it can (before augmentation), and is otherwise
            placed anywhere.
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
    """The first voxel of a patch around `voxel` that lies in the image or, where it is larger, holds it."""
    low = np.maximum(voxel - size + 1, np.minimum(image - size, 0))
    high = np.minimum(voxel, np.maximum(image - size, 0))
    first: NDArray[np.int64] = rng.integers(low, high + 1)
    return first
