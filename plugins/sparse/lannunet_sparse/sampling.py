"""Where patches are cut, so that each holds a voxel that somebody annotated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.data.sampling import showing
from lannunet_core.types import Floats


@dataclass(frozen=True)
class AnnotatedVoxel:
    """Patches of which one voxel is certain to show a drawn annotated voxel, after augmentation.

    The transform is drawn before; the patch's centre, a float, is the one for which that voxel of the patch
    samples exactly the drawn one, elastic displacement included. What of the patch lies outside of the image
    counts as not annotated. Nothing is tried again.

    Attributes:
        output_size: (x, y[, z]) of a patch.
        balance: Whether each annotated voxel of the case is drawn as often, or each class.
        offset: Whether it lies anywhere in the patch, each place as often, or in the middle.
    """

    output_size: tuple[int, ...]
    balance: Literal["voxels", "classes"] = "voxels"
    offset: Literal["random", "centre"] = "random"

    def centre(
        self,
        rng: np.random.Generator,
        image_size: tuple[int, ...],
        landmarks: Floats,
        states: NDArray[np.int64],
        transform: SpatialTransform,
        sample: Any,
        affine: Floats,
    ) -> Floats:
        voxels = sample.annotated()
        if self.balance == "classes":
            voxels = sample.voxels(int(rng.choice(sample.classes_present)))
        size = np.asarray(self.output_size)
        place = rng.integers(size) if self.offset == "random" else size // 2
        voxel = voxels.draw(rng)
        return showing(voxel.astype(np.float64), place.astype(np.float64), transform, self.output_size)
