"""Pixel values for the eye."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

DISPLAY_PERCENTILES = (0.5, 99.5)


def to_display(pixels: NDArray[Any], limits: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Pixels (C, *S) of any type to (*S, 3) for the eye: three channels as colours, else the first.

    `limits` become black and white; None: those of `display_limits`.
    """
    values = np.asarray(pixels, dtype=np.float32)
    values = values if len(values) == 3 else np.repeat(values[:1], 3, axis=0)
    low, high = limits or display_limits(values)
    scaled = (np.nan_to_num(values, nan=low) - low) / max(high - low, 1e-12)
    return np.moveaxis((scaled.clip(0, 1) * 255).round().astype(np.uint8), 0, -1)


def display_limits(values: NDArray[Any]) -> tuple[float, float]:
    """The values that black and white stand for, so that the image fills the range but for its extremes."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, DISPLAY_PERCENTILES)
    return float(low), float(high)
