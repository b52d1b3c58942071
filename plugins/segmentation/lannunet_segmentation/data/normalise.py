"""Prepare an image for the network: clip, resample and normalise it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from lannunet_images import ZSCORES, normalised, resize_affine
from numpy.typing import NDArray

from lannunet_core import Floats, UserError
from lannunet_segmentation.data import regrid
from lannunet_segmentation.data.as_nnunet import prepare_as_nnunet, resized, slices_apart
from lannunet_segmentation.types import CaseImage, SegmentationDataset, Settings


def prepare_image(
    image: CaseImage, settings: Settings, dataset: SegmentationDataset
) -> tuple[NDArray[np.float32], Floats]:
    """Prepare an image for the network.

    Args:
        image: The stored image.
        settings: Settings of the preparation.
        dataset: Data set of the image; an image of a preprocessed folder is unchanged.

    Returns:
        (C, *S) float32, and the affine (D + 1, D + 1) from its pixels to original pixels.

    Raises:
        UserError: A pixel is not a finite number.
    """
    original = image.geometry.size
    if not all(np.isfinite(channel).all() for channel in image.pixels):
        raise UserError("holds pixels that are NaN or infinite. Replace them with numbers.")
    if dataset.layout == "preprocessed":
        return image.pixels, resize_affine(original, original, "stretch")
    if settings.nnunet is not None:
        return prepare_as_nnunet(image, settings.nnunet)
    size = prepared_size(original, image.geometry.spacing, settings)
    resample = resampling(image.geometry.spacing, size, settings)
    out = np.empty((len(image.pixels), *size[::-1]), np.float32)
    for channel, pixels in enumerate(image.pixels):
        brought = settings.brought[channel] if settings.brought else None
        if brought is not None:
            out[channel] = normalised(brought, resample(pixels))
            continue
        if settings.normalisation[channel] in ZSCORES:
            # Before resampling, which changes zeros, and spreads clipped values.
            out[channel] = resample(ZSCORES[settings.normalisation[channel]](pixels))
            continue
        clip = settings.clip[channel] if settings.normalisation[channel] == "ct" else None
        if clip is not None:
            # Before resampling, so that the bright values of metal do not spread.
            pixels = pixels.clip(clip[0], clip[1])
        out[channel] = resample(pixels)
        if settings.normalisation[channel] == "none":
            mean, deviation = 0.0, 1.0
        elif clip is not None:
            mean, deviation = clip[2:]
        else:
            mean, deviation = _moments(out[channel])
            # The rounding error of a flat channel must not be amplified.
            if pixels.min() == pixels.max():
                deviation = 0.0
        out[channel] -= np.float32(mean)
        out[channel] *= np.float32(1 / deviation if deviation > 0 else 0)
    return out, resize_affine(original, size, "stretch")


def resampling(
    spacing: tuple[float, ...], size: tuple[int, ...], settings: Settings
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function that resamples a channel (*S) of an image with `spacing` to `size` (x, y[, z])."""
    if settings.interpolation == "linear" or settings.spacing is None:
        return partial(regrid.resample, size=size)
    shape = np.array(size[::-1])
    return partial(resized, shape=shape, apart=thick_axis(spacing, settings), order=3)


def thick_axis(spacing: tuple[float, ...], settings: Settings) -> int | None:
    """The axis of an array (*S) along which the nearest slice is used; None: there is none."""
    if settings.interpolation == "linear" or settings.spacing is None or len(spacing) < 3:
        return None
    return slices_apart(spacing[::-1], settings.spacing[::-1])


def prepared_size(size: tuple[int, ...], spacing: tuple[float, ...], settings: Settings) -> tuple[int, ...]:
    if settings.spacing is None:
        return size
    sides = zip(size, spacing, settings.spacing, strict=True)
    return tuple(max(1, round(pixels * step / target)) for pixels, step, target in sides)


def _moments(values: NDArray[np.float32]) -> tuple[float, float]:
    """Mean and standard deviation in float64, without a copy of all values."""
    mean = float(values.mean(dtype=np.float64))
    flat = values.ravel()
    parts = np.array_split(flat, flat.size // 2**20 + 1)
    squares = sum(float(np.square(part - mean, dtype=np.float64).sum()) for part in parts)
    return mean, (squares / flat.size) ** 0.5
