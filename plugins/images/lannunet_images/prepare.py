"""From an image's pixels to what a network sees: resized to the input size, normalised, zero outside.

Method: along each axis, an output pixel is the average of the linearly interpolated image over a window of
w = sqrt(s² - 1) pixels around the point it maps to, s being how many image pixels an output pixel spans. The
window vanishes at s = 1 (the identity) and for enlargements (linear interpolation), and cuts what would alias
otherwise. Unlike a sampled and normalised triangle it reproduces linear ramps exactly at every phase, so
that nothing moves against the coordinates.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lannunet_core import Floats, Normalisation, UserError
from lannunet_images.geometry import ResizeMode, resize_affine

BLOCK = 1 << 23  # pixels that are resized at a time


def resample_matrix(in_size: int, positions: Floats, scale: float) -> csr_array:
    """The weights of one axis, (out, in) float32; each row sums to 1.

    Args:
        in_size: Pixels of the image along this axis.
        positions: (out,) where the centre of each output pixel lies in the image, in pixels.
        scale: How many image pixels an output pixel spans.
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
    # The image goes on beyond its edge as its edge pixels; entries of the same place add up.
    columns = np.clip(columns, 0, in_size - 1).astype(np.int32)
    entries = (weights.astype(np.float32).ravel(), (rows.ravel(), columns.ravel()))
    return csr_array(entries, shape=(len(positions), in_size))


def resample_axis(weights: csr_array, values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Values resampled along one axis.

    Args:
        weights: (out, in) as `resample_matrix` makes them.
        values: Any number of axes, of which `axis` has `in` elements.
        axis: Which.

    Returns:
        The same axes, of which `axis` has `out` elements; not contiguous unless it is the first.
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
    """Resize to the input size, then z-score each channel over the image; zero (the mean) outside of it.

    Args:
        pixels: (C, [z,] y, x) of any number type, finite.
        input_size: (x, y[, z]); None: the image keeps its size.
        resize: `letterbox` or `stretch`.
        normalisations: One per channel, instead of the z-score where it is not None.
        pixel: Length of a pixel along each axis, as `resize_affine` takes it.

    Returns:
        The image (C, *S) float32 and its affine (D + 1, D + 1) from input pixels to original pixels. A
        channel of one value becomes zeros.
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
                f"an image of {'×'.join(map(str, original_size))} vanishes in an input of "
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
        if flat:  # rounding of the resize must not be blown up
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
    """Resize (*S) into `out`, block by block: a large image is never floats as a whole."""
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
    """A channel (*S) as a plugin's normalisation makes it, checked."""
    found = np.asarray(normalise(np.ascontiguousarray(channel)))
    if found.shape != channel.shape or not np.isfinite(found).all():
        raise UserError(
            f"a normalisation of a plugin gives {found.shape} numbers for a channel of {channel.shape}, or "
            "some that are not finite. Choose another, or report it to its author."
        )
    return found.astype(np.float32)
