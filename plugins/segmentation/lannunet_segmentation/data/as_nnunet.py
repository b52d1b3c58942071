"""Preprocess an image like nnU-Net: cropped to nonzero voxels, transposed, resampled, normalised.

It repeats `ImageCropper`, `GenericPreprocessor` and `PreprocessorFor2D` for an image without a label, so that
a model that was trained on a folder which they preprocessed gets raw images in the same form. The
`DefaultPreprocessor` of version 2 normalises first, then resamples. Arrays have three axes here; for 2D
images the first has one slice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lannunet_core import Floats
from lannunet_segmentation.types import CaseImage, NnunetChannel, NnunetRecipe

ANISOTROPIC = 3.0  # ratio of coarsest to finest spacing from which slices are resampled separately


def prepare_as_nnunet(image: CaseImage, recipe: NnunetRecipe) -> tuple[NDArray[np.float32], Floats]:
    """Preprocess an image for the network.

    Args:
        image: The stored image.
        recipe: Steps of nnU-Net; for 2D images, it keeps the first axis.

    Returns:
        (C, *S) float32, and the affine (D + 1, D + 1) from its pixels to original pixels.
    """
    geometry, turn = image.geometry, recipe.transposed
    dimensions = len(geometry.size)
    pixels = image.pixels.reshape(len(image.pixels), *(1,) * (3 - dimensions), *image.pixels.shape[1:])
    steps = (*geometry.spacing, geometry.thickness)[:3][::-1]  # along z, y, x

    shown = ndimage.binary_fill_holes((pixels != 0).any(0))
    box = (ndimage.find_objects(shown.view(np.uint8)) or [(slice(None),) * 3])[0]
    # Zero voxels inside the box: -1 in nnU-Net.
    inside = shown[box].transpose(turn)
    every = (slice(None), *box)
    cropped = pixels[every].transpose(0, *(axis + 1 for axis in turn))

    own = [steps[axis] for axis in turn]
    target = [step if wanted is None else wanted for step, wanted in zip(own, recipe.spacing, strict=True)]
    shape = np.round(np.array(own) / np.array(target) * inside.shape).astype(int).clip(1)
    apart = slices_apart(own, target)
    whole = inside
    inside = resized(inside.astype(np.float32), shape, apart, order=1) >= 0.5
    out = np.empty((len(cropped), *shape), np.float32)
    for channel, how, values in zip(out, recipe.channels, cropped, strict=True):
        if recipe.normalised_first:
            channel[...] = resized(normalise(values, whole, how), shape, apart, order=3)
        else:
            channel[...] = normalise(resized(values, shape, apart, order=3), inside, how)

    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, original in enumerate(turn):
        scale = cropped.shape[1 + axis] / shape[axis]
        affine[2 - original, 2 - axis] = scale
        affine[2 - original, 3] = (box[original].start or 0) + (scale - 1) / 2
    kept = [*range(dimensions), 3]
    return out.reshape(len(out), *shape[3 - dimensions :]), affine[np.ix_(kept, kept)]


def slices_apart(own: Sequence[float], target: Sequence[float]) -> int | None:
    """The axis along which slices are resampled separately, with the nearest slice; None: no axis."""
    for steps in (np.array(own), np.array(target)):
        if steps.max() / steps.min() > ANISOTROPIC:
            coarse = np.flatnonzero(steps == steps.max())
            return int(coarse[0]) if len(coarse) == 1 else None
    return None


def resized(
    values: NDArray[np.float32], shape: NDArray[np.int64], apart: int | None, order: int
) -> NDArray[np.float32]:
    """Resample values (*S) to a grid of another shape over the same space, with splines of an order."""
    if np.array_equal(values.shape, shape):
        return values
    if apart is None:
        return splined(values, shape, order)
    slices = np.moveaxis(values, apart, 0)
    new = np.delete(shape, apart)
    stacked = np.stack([splined(each, new, order) for each in slices])
    places = (np.arange(shape[apart]) + 0.5) * (len(slices) / shape[apart])
    return np.moveaxis(stacked[np.floor(places).astype(int)], 0, apart)


def splined(values: NDArray[np.float32], shape: NDArray[np.int64], order: int) -> NDArray[np.float32]:
    """As `resized`, along all axes; the range of values does not grow."""
    if np.array_equal(values.shape, shape):
        return values
    factors = shape / np.array(values.shape)
    found: NDArray[np.float64] = ndimage.zoom(
        values.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True
    )
    return found.clip(values.min(), values.max()).astype(np.float32)


def normalise(
    values: NDArray[np.float32], inside: NDArray[np.bool_], how: NnunetChannel
) -> NDArray[np.float32]:
    """A channel (*S), normalised; `inside` is its nonzero region."""
    if how.scheme == "none":
        return values
    if how.clip is None:
        counted = values[inside] if how.inside else values
        mean, deviation = _moments(counted)
    else:
        low, high, mean, deviation = how.clip
        if how.scheme == "ct2":
            mean, deviation = _moments(values[(values > low) & (values < high)])
        values = values.clip(low, high)
    scaled: NDArray[np.float32] = (values - np.float32(mean)) / np.float32(deviation + 1e-8)
    if how.inside:
        scaled[~inside] = 0
    return scaled


def _moments(values: NDArray[np.float32]) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
