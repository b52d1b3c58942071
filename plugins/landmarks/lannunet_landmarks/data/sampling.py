"""Positions of training samples in their images; each class implements `hookspecs.Sampling`.

The transform is drawn first and the centre computed for it, so that a patch still holds its landmark after
augmentation. The centre is computed directly, without rejection.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from lannunet_images import FullImage as FullImage, on_pixels, showing, transform_points
from numpy.typing import NDArray

from lannunet_core import Floats, SpatialTransform, State
from lannunet_landmarks.types import Sample


@dataclass(frozen=True)
class PatchBias:
    """Patches at random positions, a share of them placed to hold a landmark.

    Patches of that share show a visible landmark, drawn uniformly, at a pixel of the patch, drawn uniformly.
    The others lie inside the image, at an offset drawn uniformly.

    Attributes:
        output_size: (x, y[, z]) of a patch.
        bias: The share. Patches at random positions may hold a landmark too.
    """

    output_size: tuple[int, ...]
    bias: float

    def centre(
        self,
        rng: np.random.Generator,
        image_size: tuple[int, ...],
        landmarks: Floats,
        states: NDArray[np.int64],
        transform: SpatialTransform,
    ) -> Floats:
        visible = landmarks[states == State.VISIBLE]
        size = np.asarray(self.output_size)
        if rng.random() < self.bias and len(visible):
            shown = rng.choice(visible)
            pixel = rng.integers(size).astype(np.float64)
        else:
            room = np.maximum(np.asarray(image_size) - size, 0)
            pixel = (size - 1) / 2
            shown = rng.integers(room + 1) + pixel
        return on_pixels(showing(shown, pixel, transform, self.output_size), transform, self.output_size)


@dataclass(frozen=True)
class PatchCentred:
    """Patches around one landmark each, at its position in an earlier run.

    Attributes:
        output_size: (x, y[, z]) of a patch.
        jitter: The patch is moved by up to this many pixels, uniformly along each axis.
        centres: Positions of each sample's landmarks (N, D), by its id, in original pixels, NaN where
            unknown; None: the annotated positions.
        seed: Makes the move a function of seed, sample and landmark; None: each draw has a new move.
    """

    output_size: tuple[int, ...]
    jitter: float
    centres: Mapping[str, Floats] | None = None
    seed: int | None = None

    def centre(
        self,
        rng: np.random.Generator,
        image_size: tuple[int, ...],
        landmarks: Floats,
        transform: SpatialTransform,
        sample: Sample,
        affine: Floats,
    ) -> Floats:
        points = landmarks
        if self.centres is not None:
            points = transform_points(np.linalg.inv(affine).astype(np.float64), self.centres[sample.id])
        known = np.flatnonzero(np.isfinite(points).all(1))
        last = np.asarray(image_size, np.float64) - 1
        shown = last / 2
        if len(known):
            landmark = int(rng.choice(known))
            if self.seed is not None:
                rng = jitter_generator(self.seed, sample.id, landmark)
            moved = points[landmark] + rng.uniform(-self.jitter, self.jitter, len(last))
            shown = moved.clip(0, last)  # a prediction may lie outside, but a patch must overlap the image
        middle = (np.asarray(self.output_size) - 1) / 2
        return on_pixels(showing(shown, middle, transform, self.output_size), transform, self.output_size)


def jitter_generator(seed: int, sample: str, landmark: int) -> np.random.Generator:
    """The random generator of a landmark of a sample."""
    return np.random.default_rng([seed, zlib.crc32(sample.encode()), landmark])
