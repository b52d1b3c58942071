"""Positions of patches: anywhere, or around a voxel of a class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from lannunet_images import on_pixels, showing

from lannunet_core import Floats, SpatialTransform
from lannunet_segmentation.data.prepared import PreparedCase


@dataclass(frozen=True)
class ForegroundBias:
    """Patches inside the image, a share of them around a voxel of a class (Isensee et al. 2021).

    A class that the case has, without the background, is drawn uniformly, and a voxel of it. The patch is
    moved as little as needed to lie inside the image; along an axis where it is larger, it is centred.

    Attributes:
        output_size: Size (x, y[, z]) of a patch.
        share: Share of patches around a voxel of a class.
    """

    output_size: tuple[int, ...]
    share: float

    def centre(
        self,
        rng: np.random.Generator,
        image_size: tuple[int, ...],
        transform: SpatialTransform,
        sample: PreparedCase,
    ) -> Floats:
        size, image = np.asarray(self.output_size), np.asarray(image_size)
        room = np.maximum(image - size, 0)
        classes = [index for index in sample.classes_present if index > 0]
        if rng.random() < self.share and classes:
            voxel = sample.voxels(int(rng.choice(classes))).draw(rng)
            first = np.clip(voxel - size // 2, 0, room)
        else:
            first = rng.integers(room + 1)
        first = np.where(image < size, (image - size) // 2, first)
        middle = (size - 1) / 2
        return on_pixels(
            showing(first + middle, middle, transform, self.output_size), transform, self.output_size
        )
