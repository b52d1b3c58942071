"""Pixel values for display."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DISPLAY_PERCENTILES = (0.5, 99.5)
ENOUGH = 1 << 22  # values to take percentiles of


def to_display(pixels: NDArray[Any], limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Convert pixels (C, *S) of any type to (*S, 3) for display: three channels as colours, else the first.

    `limits` become black and white; None: the result of `display_limits`.
    """
    pixels = np.asarray(pixels)
    pixels = pixels if len(pixels) == 3 else pixels[:1]
    low, high = limits or display_limits(pixels)
    shown = np.empty((*pixels.shape[1:], 3), np.uint8)
    for index in range(3):
        for place, values in enumerate(pixels[index % len(pixels)]):  # never all as floats, to save memory
            scaled = (np.nan_to_num(values.astype(np.float32), nan=low) - low) / max(high - low, 1e-12)
            shown[place, ..., index] = (scaled.clip(0, 1) * 255).round()
    return shown


def display_limits(values: NDArray[Any]) -> tuple[float, float]:
    """The values shown as black and white; only the extremes of the image lie outside."""
    some = values.flat[:: max(values.size // ENOUGH, 1)]
    finite = some[np.isfinite(some)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, DISPLAY_PERCENTILES)
    return float(low), float(high)
