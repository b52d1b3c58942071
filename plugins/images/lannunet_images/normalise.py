"""Normalisations of a channel by z-scores over its content only.

With a plain z-score, outliers reduce the contrast of the body: 0.5 % of metal at 30,000 leaves a seventh of
the contrast of tissue with deviation 300, and 30 % of padding at -3024 leaves a fifth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1.0, 99.0)
PADDING = 0.01
"""The lowest value is padding if at least this share of the pixels has it."""
ROUNDING = 1e-6  # tolerance for resized constants, as a share of the range of values

Channel = NDArray[np.float32]


def percentile_zscore(channel: Channel) -> Channel:
    """A channel (*S), clipped to its 1st and 99th percentile, with mean 0 and deviation 1 of its content.

    Content is everything except padding. Padding is the lowest value if many pixels have it, as outside of a
    scanner's field of view or next to a collimated film, and the adjacent pixels, which a resize mixes with
    it.
    """
    from scipy import ndimage

    lowest, highest = float(channel.min()), float(channel.max())
    if lowest == highest:
        return np.zeros_like(channel)
    padding = channel <= lowest + ROUNDING * (highest - lowest)
    content = np.ones_like(padding)
    if padding.mean() >= PADDING:
        inner = ~ndimage.maximum_filter(padding, 3)
        content = inner if inner.any() else ~padding
    low, high = np.percentile(channel[content], PERCENTILES)
    clipped = channel.clip(np.float32(low), np.float32(high))
    return _scaled(clipped, clipped[content])


def nonzero_zscore(channel: Channel) -> Channel:
    """A channel (*S) with mean 0 and deviation 1 where it is not 0, holes included, and 0 elsewhere.

    It is nnU-Net's z-score with a mask (Isensee et al. 2021), for images whose background was set to 0.
    """
    from scipy import ndimage

    inside = ndimage.binary_fill_holes(channel != 0)
    if not inside.any():
        return np.zeros_like(channel)
    return np.where(inside, _scaled(channel, channel[inside]), np.float32(0))


@dataclass(frozen=True)
class Window:
    """Clips to [low, high], subtracts a mean and divides by a deviation: for calibrated values, as in CT."""

    low: float
    high: float
    mean: float
    deviation: float

    def __call__(self, channel: Channel) -> Channel:
        """Normalise a channel (*S)."""
        clipped = channel.clip(np.float32(self.low), np.float32(self.high))
        factor = 1 / self.deviation if self.deviation > 0 else 0.0
        return (clipped - np.float32(self.mean)) * np.float32(factor)


def _scaled(channel: Channel, counted: Channel) -> Channel:
    mean, deviation = counted.mean(dtype=np.float64), counted.std(dtype=np.float64)
    flat = counted.min() == counted.max()
    return Window(-np.inf, np.inf, float(mean), 0.0 if flat else float(deviation))(channel)


ZSCORES: Mapping[str, Callable[[Channel], Channel]] = {
    "percentile": percentile_zscore,
    "nonzero": nonzero_zscore,
}
"""Normalisations that depend on one image only, by name."""
