"""Where a sample is cut from its image, once its transform is drawn."""

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
    """The centre for which the output's `pixel` (D,) shows the point `source` (D,)."""
    return source - transform.to_source(pixel, np.zeros_like(source), output_size)


def on_pixels(centre: Floats, transform: SpatialTransform, output_size: tuple[int, ...]) -> Floats:
    """The centre, moved by at most half a pixel where the output then shows source pixels as they are.

    That is so for no transform but a mirror or a quarter turn: what is not resampled is not blurred.
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
    """The part of an image (C, *S) that a sample of it shows, and a pixel more at either side."""
    low, high = transform.source_box(centre, output_size)
    first = np.maximum(np.floor(low).astype(int) - 1, 0)
    last = np.minimum(np.ceil(high).astype(int) + 1, np.asarray(image_size) - 1)
    if (last < first).any():
        point = ", ".join(f"{value:g}" for value in centre)
        raise UserError(
            f'sample "{name}": a patch around ({point}) shows nothing of its image of '
            f"{'×'.join(map(str, image_size))} pixels. Inspect where patches are to be cut (sampler.patch)."
        )
    sides = [slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)]
    return (slice(None), *reversed(sides))
