"""Placement of a sample in its image, after its transform is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lannunet_core import Floats, SpatialTransform, UserError


@dataclass(frozen=True)
class FullImage:
    """A `Sampling`: every training sample is the whole image."""

    output_size: tuple[int, ...]  # (x, y[, z]) of a sample, the input size

    def centre(self, image_size: tuple[int, ...]) -> Floats:
        return (np.asarray(image_size, np.float64) - 1) / 2


def showing(
    source: Floats, pixel: Floats, transform: SpatialTransform, output_size: tuple[int, ...]
) -> Floats:
    """The centre of a patch whose `pixel` (D,) shows the point `source` (D,)."""
    return source - transform.to_source(pixel, np.zeros_like(source), output_size)


def on_pixels(centre: Floats, transform: SpatialTransform, output_size: tuple[int, ...]) -> Floats:
    """The centre, moved by at most half a pixel if the output then consists of unchanged source pixels.

    The transform must be the identity, a mirror or a quarter turn. Pixels are then not blurred by resampling.
    """
    linear, magnitude = transform.linear, np.abs(transform.linear)
    if transform.elastic is not None or not np.array_equal(magnitude @ magnitude.T, np.eye(len(centre))):
        return centre
    first = transform.to_source(np.zeros_like(centre), centre, output_size) @ linear  # linear is orthogonal
    surplus: Floats = first - np.floor(first + 0.5)
    return centre - linear @ surplus


def shown_box(
    transform: SpatialTransform,
    centre: Floats,
    output_size: Sequence[int],
    image_size: Sequence[int],
    name: str,
) -> tuple[slice, ...]:
    """The part of an image (C, *S) that a sample shows, with a margin of one pixel at each side."""
    low, high = transform.source_box(centre, output_size)
    first = np.maximum(np.floor(low).astype(int) - 1, 0)
    last = np.minimum(np.ceil(high).astype(int) + 1, np.asarray(image_size) - 1)
    if (last < first).any():
        point = ", ".join(f"{value:g}" for value in centre)
        raise UserError(
            f'sample "{name}": a patch around ({point}) shows nothing of its image of '
            f"{'×'.join(map(str, image_size))} pixels. Check the placement of patches (sampler.patch)."
        )
    sides = [slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]
    return (slice(None), *reversed(sides))
