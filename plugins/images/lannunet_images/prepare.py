"""Preparation of a network's input: an image resized to the input size and normalised, zero outside.

Method: along each axis, an output pixel is the mean of the linearly interpolated image over a window of
w = sqrt(s² - 1) pixels around its source point, where s is the number of image pixels per output pixel. The
window has width 0 at s = 1 (the identity) and for enlargements (linear interpolation), and else prevents
aliasing. Unlike a sampled and normalised triangle, it reproduces linear ramps exactly at every phase, so the
image does not shift relative to its coordinates.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lannunet_core import Floats, Normalisation, UserError
from lannunet_images.geometry import ResizeMode, resize_affine

BLOCK = 1 << 23  # pixels per block of a resize


def resample_matrix(in_size: int, positions: Floats, scale: float) -> csr_array:
    """The weights of one axis, (out, in) float32; each row sums to 1.

    Args:
        in_size: Pixels of the image along this axis.
        positions: (out,) position of each output pixel's centre in the image, in pixels.
        scale: Image pixels per output pixel.
    """
    window = np.sqrt(max(scale**2 - 1, 0))
    reach = int(np.ceil(window / 2)) + 1
    columns = np.floor(positions)[:, None] + np.arange(-reach, reach + 2)  # (out, taps)
    distance = columns - positions[:, None]
    if window < 1e-3:
        weights = np.clip(1 - np.abs(distance), 0, None)
    else:
        weights = (_hat_integral(distance + window / 2) - _hat_integral(distance - window / 2)) / window
    rows = np.broadcast_to(np.arange(len(positions))[:, None], columns.shape)
    # The image is extended by its edge pixels; entries with the same indices are summed.
    columns = np.clip(columns, 0, in_size - 1).astype(np.int32)
    entries = (weights.astype(np.float32).ravel(), (rows.ravel(), columns.ravel()))
    return csr_array(entries, shape=(len(positions), in_size))


def resample_axis(weights: csr_array, values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Values resampled along one axis.

    Args:
        weights: (out, in) from `resample_matrix`.
        values: An array of any number of axes; `axis` has `in` elements.
        axis: The axis to resample.

    Returns:
        An array of the same axes; `axis` has `out` elements. It is contiguous only if `axis` is the first.
    """
    lines = np.moveaxis(values, axis, 0)
    mixed = (weights @ lines.reshape(len(lines), -1)).reshape(-1, *lines.shape[1:])
    return np.moveaxis(mixed, 0, axis)


def _hat_integral(t: Floats) -> Floats:
    """The integral of the hat function max(1 - |t|, 0) up to t."""
    t = np.clip(t, -1, 1)
    return np.where(t < 0, (1 + t) ** 2 / 2, 1 - (1 - t) ** 2 / 2)


def prepare_image(
    pixels: NDArray[Any],
    input_size: Sequence[int] | None,
    resize: ResizeMode,
    normalisations: Sequence[Normalisation | None] = (),
    pixel: Sequence[float] | None = None,
) -> tuple[NDArray[np.float32], Floats]:
    """Resize an image to the input size, then z-score each channel; the outside is zero (the mean).

    Args:
        pixels: (C, [z,] y, x) of any number type, finite.
        input_size: (x, y[, z]); None: the image keeps its size.
        resize: `letterbox` or `stretch`.
        normalisations: One per channel, used instead of the z-score if not None.
        pixel: Length of a pixel along each axis, as in `resize_affine`.

    Returns:
        The image (C, *S) float32 and its affine (D + 1, D + 1) from input pixels to original pixels. A
        constant channel becomes zeros.
    """
    original_size = pixels.shape[:0:-1]
    if input_size is None:
        input_size, resize = original_size, "stretch"
    matrix = resize_affine(original_size, input_size, resize, pixel)
    region: list[slice] = []  # of the output that shows the image
    resizers: list[csr_array | None] = []
    for along in reversed(range(len(original_size))):  # x is the last axis
        scale, shift = matrix[along, along], matrix[along, -1]
        if (scale, shift) == (1, 0) and input_size[along] == original_size[along]:
            region.append(slice(None))
            resizers.append(None)
            continue
        positions = scale * np.arange(input_size[along]) + shift
        inside = np.flatnonzero((positions >= -0.5) & (positions < original_size[along] - 0.5))
        if not len(inside):
            raise UserError(
                f"an image of {'×'.join(map(str, original_size))} has no pixel in an input of "
                f"{'×'.join(map(str, input_size))}. Use `resize: stretch` or a larger sampler.input_size."
            )
        region.append(slice(inside[0], inside[-1] + 1))
        resizers.append(resample_matrix(original_size[along], positions[inside], scale))

    out = np.zeros((len(pixels), *input_size[::-1]), np.float32)
    for index, channel in enumerate(pixels):
        place: tuple[Any, ...] = (index, *region)
        shown = out[place]
        _resize(channel, resizers, shown)
        flat = channel.min() == channel.max()
        if flat:  # rounding errors of the resize must not be amplified
            shown[:] = channel.flat[0]
        normalise = normalisations[index] if index < len(normalisations) else None
        if normalise is not None:
            shown[:] = normalised(normalise, shown)
            continue
        mean, deviation = shown.mean(dtype=np.float64), shown.std(dtype=np.float64)
        shown -= np.float32(mean)
        shown *= np.float32(0 if flat or deviation == 0 else 1 / deviation)
    return out, matrix


def _resize(channel: NDArray[Any], resizers: Sequence[csr_array | None], out: NDArray[np.float32]) -> None:
    """Resize (*S) to `out` by blocks, so that a large image is never converted to floats as a whole."""
    first, *others = resizers
    ratio = max(len(channel) / len(out), 1)
    step = max(int(BLOCK / (ratio * channel[0].size)), 1)
    for start in range(0, len(out), step):
        stop = min(start + step, len(out))
        if first is None:
            block = channel[start:stop].astype(np.float32)
        else:
            rows = first[start:stop]
            low, high = rows.indices.min(), rows.indices.max() + 1
            block = resample_axis(rows[:, low:high], channel[low:high].astype(np.float32), 0)
        for axis, weights in enumerate(others, start=1):
            if weights is not None:
                block = resample_axis(weights, block, axis)
        out[start:stop] = block


def normalised(normalise: Normalisation, channel: NDArray[np.float32]) -> NDArray[np.float32]:
    """A channel (*S) normalised by a plugin's function, whose result is checked."""
    found = np.asarray(normalise(np.ascontiguousarray(channel)))
    if found.shape != channel.shape or not np.isfinite(found).all():
        raise UserError(
            f"a normalisation of a plugin returns {found.shape} numbers for a channel of {channel.shape}, or "
            "numbers that are not finite. Choose another, or report it to its author."
        )
    return found.astype(np.float32)
