"""Normalisations of a channel that z-score only what counts of it.

A plain z-score takes a body's contrast away where something else spreads the values: 0.5 % of metal at 30,000
leaves tissue of deviation 300 a seventh of it, 30 % of padding at -3024 a fifth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (1.0, 99.0)
PADDING = 0.01
"""What at least this share of the pixels has, as the lowest value, is no content."""
ROUNDING = 1e-6  # of the range of values, by which a resized constant may differ

Channel = NDArray[np.float32]


def percentile_zscore(channel: Channel) -> Channel:
    """A channel (*S), clipped to its 1st and 99th percentile, with mean 0 and deviation 1 of its content.

    Content is everything but padding: the lowest value where many pixels have it, as outside of a scanner's
    field of view or beside a collimated film, and the pixels beside these, which a resize mixes with them.
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

    As nnU-Net's z-score with a mask (Isensee et al. 2021), for images whose background was set to 0.
    """
    from scipy import ndimage

    inside = ndimage.binary_fill_holes(channel != 0)
    if not inside.any():
        return np.zeros_like(channel)
    return np.where(inside, _scaled(channel, channel[inside]), np.float32(0))


@dataclass(frozen=True)
class Window:
    """Clips to [low, high], then takes a mean off and divides by a deviation: for values of one meaning."""

    low: float
    high: float
    mean: float
    deviation: float

    def __call__(self, channel: Channel) -> Channel:
        """A channel (*S)."""
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
"""Those of an image by itself, by name."""
