"""Planes of images as PNG, for the page."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from lannunet_report import display_limits, to_display
from numpy.typing import NDArray
from PIL import Image

COLOURS = ((255, 159, 28), (46, 196, 182), (231, 29, 54), (80, 120, 255), (255, 220, 90), (190, 110, 255))
OPACITY = 110  # of 255


def plane_png(pixels: NDArray[Any], z: int) -> bytes:
    """The plane z of an image (C, [z,] y, x), in the grey values of the whole image."""
    limits = display_limits(pixels if len(pixels) == 3 else pixels[:1])
    return _png(Image.fromarray(to_display(pixels[:, z] if pixels.ndim == 4 else pixels, limits)))


def labels_png(labels: NDArray[Any], z: int) -> bytes:
    """The plane z of a label map ([z,] y, x): one colour per class, background transparent."""
    plane = np.asarray(labels[z] if labels.ndim == 3 else labels, np.int64)
    table = np.array([(0, 0, 0, 0), *((*colour, OPACITY) for colour in COLOURS)], np.uint8)
    index = np.where(plane > 0, (plane - 1) % len(COLOURS) + 1, 0)
    return _png(Image.fromarray(table[index]))


def _png(image: Image.Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG", compress_level=1)
    return written.getvalue()
