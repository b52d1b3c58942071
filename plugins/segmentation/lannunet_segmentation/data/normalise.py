"""An image as the network sees it: clipped, resampled and normalised."""

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
    """An image as the network sees it.

    Args:
        image: As it is stored.
        settings: How it is prepared.
        dataset: What it belongs to; an image of a preprocessed folder stays as it is.

    Returns:
        (C, *S) float32, and the affine (D + 1, D + 1) from its pixels to original pixels.

    Raises:
        UserError: A pixel is not a finite number.
    """
    original = image.geometry.size
    if not all(np.isfinite(channel).all() for channel in image.pixels):
        raise UserError("holds pixels that are NaN or infinite. Replace them by numbers.")
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
            # Before resampling, which makes zeros something else, and spreads what is clipped.
            out[channel] = resample(ZSCORES[settings.normalisation[channel]](pixels))
            continue
        clip = settings.clip[channel] if settings.normalisation[channel] == "ct" else None
        if clip is not None:
            # Before resampling, or what metal shines with would spread.
            pixels = pixels.clip(clip[0], clip[1])
        out[channel] = resample(pixels)
        if settings.normalisation[channel] == "none":
            mean, deviation = 0.0, 1.0
        elif clip is not None:
            mean, deviation = clip[2:]
        else:
            mean, deviation = _moments(out[channel])
            # Rounding leaves a little of a flat channel that must not be blown up.
            if pixels.min() == pixels.max():
                deviation = 0.0
        out[channel] -= np.float32(mean)
        out[channel] *= np.float32(1 / deviation if deviation > 0 else 0)
    return out, resize_affine(original, size, "stretch")


def resampling(
    spacing: tuple[float, ...], size: tuple[int, ...], settings: Settings
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """What resamples a channel (*S) of an image with `spacing` to `size` (x, y[, z])."""
    if settings.interpolation == "linear" or settings.spacing is None:
        return partial(regrid.resample, size=size)
    shape = np.array(size[::-1])
    return partial(resized, shape=shape, apart=thick_axis(spacing, settings), order=3)


def thick_axis(spacing: tuple[float, ...], settings: Settings) -> int | None:
    """The axis of an array (*S) along which slices are taken, not mixed; None: there is none."""
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
