"""Where training samples are cut from their image; each class implements `hookspecs.Sampling`.

The transform is drawn first and the centre found for it, so that what a patch is meant to hold is in it after
augmentation. Nothing is tried again: each centre is solved for.
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
    """Patches from anywhere, a share of them placed to hold a landmark.

    Those show one of the visible landmarks, with equal probability, at a pixel of the patch, with equal
    probability. The others lie inside the image, at every offset as often.

    Attributes:
        output_size: (x, y[, z]) of a patch.
        bias: The share. Patches placed anywhere may hold a landmark too.
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
    """Patches around one landmark each, where an earlier run saw it.

    Attributes:
        output_size: (x, y[, z]) of a patch.
        jitter: The patch is moved by up to this many pixels, uniformly along each axis.
        centres: Where each sample's landmarks are (N, D), by its id, in original pixels, NaN where unknown;
            None: where they are annotated.
        seed: Makes the move a function of seed, sample and landmark; None: each draw moves again.
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
            shown = moved.clip(0, last)  # a prediction may lie outside, and a patch must show something
        middle = (np.asarray(self.output_size) - 1) / 2
        return on_pixels(showing(shown, middle, transform, self.output_size), transform, self.output_size)


def jitter_generator(seed: int, sample: str, landmark: int) -> np.random.Generator:
    """Random numbers that belong to a landmark of a sample."""
    return np.random.default_rng([seed, zlib.crc32(sample.encode()), landmark])
