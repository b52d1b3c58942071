"""Points and affine matrices.

A point is (x, y[, z]) in pixels, pixel centres at integers. An affine matrix is (D + 1, D + 1) and maps
column vectors; `compose(a, b)` applies b first. The functions that only multiply work on NumPy arrays and on
torch tensors alike.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Floats

ResizeMode = Literal["letterbox", "stretch"]
Array = TypeVar("Array")


def transform_points(matrix: Array, points: Array) -> Array:
    """Map points (…, P, D) with matrices (…, D + 1, D + 1), NumPy or torch."""
    linear, shift = matrix[..., :-1, :-1], matrix[..., :-1, -1]  # type: ignore[index]
    return points @ linear.swapaxes(-1, -2) + shift[..., None, :]  # type: ignore[no-any-return]


def affine_matrix(linear: Floats, shift: Floats) -> Floats:
    """The (D + 1, D + 1) matrix of x ↦ linear · x + shift."""
    size = len(shift)
    matrix = np.eye(size + 1)
    matrix[:size, :size] = linear
    matrix[:size, size] = shift
    return matrix


def resize_affine(
    original_size: Sequence[int],
    input_size: Sequence[int],
    mode: ResizeMode = "letterbox",
    pixel: Sequence[float] | None = None,
) -> Floats:
    """The matrix of a resize, from input pixels to original pixels.

    A point resized by s is x' = (x + 0.5) · s − 0.5, because pixel edges scale, not centres.

    Sizes are (x, y[, z]) in pixels. `letterbox` keeps the proportions and centres the image; `stretch` fills
    the input. `pixel` is the length of an original pixel along each axis (x, y[, z]), in mm or any other
    unit, in which proportions are kept; None: pixels have the same length along all axes.
    """
    original, wanted = np.asarray(original_size, float), np.asarray(input_size, float)
    scale = wanted / original
    if mode == "letterbox":
        lengths = np.ones_like(scale) if pixel is None else np.divide(pixel, min(pixel))
        lengths[lengths < 1 + 1e-5] = 1  # rounding in a header does not make a square pixel rectangular
        scale = lengths * (scale / lengths).min()
    margin = (wanted - original * scale) / 2  # of input pixels, on the near side
    # input edge e' = e · s + margin with e = x + 0.5
    return affine_matrix(np.diag(1 / scale), (0.5 - margin) / scale - 0.5)


def is_inside(points: Floats, size: Sequence[int]) -> NDArray[np.bool_]:
    """Whether points (…, D) lie on the pixels of an image of `size` (x, y[, z]); NaN is outside."""
    with np.errstate(invalid="ignore"):
        return np.all((points >= -0.5) & (points < np.asarray(size) - 0.5), axis=-1)  # type: ignore[no-any-return]
