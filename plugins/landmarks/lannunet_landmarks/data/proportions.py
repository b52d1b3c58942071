"""The proportions that a letterbox keeps: those in mm, so that a length is the same along all axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SQUARE = 1.05  # pixels with a smaller ratio of sides are treated as squares
FULLER = 3.0
"""The images' own pixel shape is used if it fills N times as much of the input, N being this number."""


def input_pixel_shape(
    sizes: Sequence[Sequence[int]], spacings: Sequence[Sequence[float]], input_size: Sequence[int]
) -> tuple[float, ...]:
    """The shape of an input pixel in mm, with the shortest side 1: a cube, or the shape of the images'
    pixels.

    Cubes make the scale equal along all axes, under rotation too. Thick slices in a flat input would leave it
    mostly empty: 96×96×7 voxels of 0.7×0.7×3 mm fill 5 % of the cubes. Then the images' own pixel shape is
    used.

    Args:
        sizes: Sizes of the images, (x, y[, z]) each.
        spacings: mm per pixel of the images.
        input_size: Size that they are resized to.
    """
    size, spacing, given = np.median(sizes, 0), np.median(spacings, 0), np.asarray(input_size, float)
    own = tuple(round(float(step), 5) for step in spacing / spacing.min())

    def filled(shape: Sequence[float]) -> float:
        """The share of the input that the median image fills."""
        extent = size * spacing / np.asarray(shape)
        return float(np.prod(extent * (given / extent).min() / given))

    cubes = (1.0,) * len(size)
    return own if filled(own) > FULLER * filled(cubes) else cubes


def pixel_in(spacing: Sequence[float] | None, shape: Sequence[float] | None) -> tuple[float, ...] | None:
    """The size of an image's pixel in units of the input pixel's sides, for `resize_affine`.

    Args:
        spacing: mm per pixel of the image, or the shape of its pixels; None: unknown, and the pixel is
            treated as having that shape.
        shape: See `input_pixel_shape`; None: proportions are kept in pixels.
    """
    if spacing is None or shape is None:
        return None
    return tuple(length / side for length, side in zip(spacing, shape, strict=True))
