"""Statistics of the training images' intensities around the landmarks, for `clip` normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from lannunet_images import ImageFiles
from numpy.typing import NDArray

from lannunet_core import UserError, progress_bar
from lannunet_landmarks.types import Sample, State

MOST_IMAGES = 100
MOST_PIXELS = 20_000  # per channel of an image
REACH = 1 / 16  # of the image's sides, in each direction from a landmark
PERCENTILES = (1.0, 99.0)
DIGITS = 6

Clip = tuple[float, float, float, float]


def measured_clips(samples: Sequence[Sample], channels: int, files: ImageFiles) -> list[Clip]:
    """The 1st and 99th percentile of each channel, and mean and deviation of the values between them.

    Only values around the landmarks count: otherwise air and padding would dominate. nnU-Net uses the
    annotated foreground in the same way (Isensee et al. 2021). A subset is used if there are many images, the
    same for any order of samples.

    Raises:
        UserError: No landmark is annotated in them.
    """
    placed = [one for one in samples if is_placed(one).any()]
    placed.sort(key=lambda one: (str(one.image), one.id))
    count = min(len(placed), MOST_IMAGES)
    chosen = [placed[len(placed) * k // count] for k in range(count)]
    if not chosen:
        raise UserError(
            "sampler.clip: no landmark is annotated, so nothing can be measured; give the four numbers."
        )
    seen: list[list[NDArray[np.float64]]] = [[] for _ in range(channels)]
    with progress_bar("measuring intensities", len(chosen)) as bar:
        for sample in chosen:
            pixels = files.read(sample.image, sample.coordinates.shape[1]).pixels
            for values, channel in zip(seen, pixels, strict=False):
                values.append(around_landmarks(sample, channel))
            bar.advance()
    return [of_values(np.concatenate(values)) for values in seen]


def is_placed(sample: Sample) -> NDArray[np.bool_]:
    placed: NDArray[np.bool_] = sample.states == State.VISIBLE
    return placed


def around_landmarks(sample: Sample, channel: NDArray[np.generic]) -> NDArray[np.float64]:
    """Values of a channel (*S) in a box around each landmark, evenly picked."""
    found = []
    for point in sample.coordinates[is_placed(sample)]:
        box = tuple(
            slice(max(math.floor(at - reach), 0), math.ceil(at + reach) + 1)
            for at, reach in zip(point[::-1], np.array(channel.shape) * REACH, strict=True)
        )
        found.append(channel[box].ravel())
    values: NDArray[np.float64] = np.concatenate(found).astype(np.float64)
    return values[:: len(values) // MOST_PIXELS + 1]


def of_values(values: NDArray[np.float64]) -> Clip:
    low, high = np.percentile(values, PERCENTILES)
    clipped = values.clip(low, high)
    low, high, mean, deviation = (
        float(f"{number:.{DIGITS}g}") for number in (low, high, clipped.mean(), clipped.std())
    )
    return low, high, mean, deviation
