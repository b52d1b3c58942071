"""Statistics with percentile bootstraps (Efron 1979) over whole images or cases."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core.types import Floats

DRAWS = 1000
PERCENTILES = (2.5, 97.5)
# Of the resampling weights held at once: draws × errors of int64.
CHUNK_ELEMENTS = 4_000_000


def bootstrap_weights(images: int, seed: int) -> NDArray[np.int64] | None:
    """(draws, images) how often each image is in each draw; None without images."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(images, np.full(images, 1 / images), size=DRAWS) if images else None


def bootstrap_statistics(
    errors: Floats, image: NDArray[np.int64], weights: NDArray[np.int64] | None, radii: Sequence[float] = ()
) -> dict[str, Any]:
    """Mean, median, sd and detection rates of `errors` (E,), each with its interval.

    Args:
        errors: Or other figures; NaN where there is none, as of a point that was not found.
        image: (E,) the image of each.
        weights: Of `bootstrap_weights`.

    Returns:
        `mean`, `median` and `sd`, `mean_ci95` and so on, and rows of `detection_rates`.
    """
    order = np.argsort(errors)  # NaN last
    errors, image = errors[order], image[order]
    names = ("mean", "median", "sd", *(f"rate {radius}" for radius in radii))
    value: Floats = np.full(len(names), np.nan)
    low, high = value, value
    if len(errors) and weights is not None:
        value = _weighted(errors, np.ones((1, len(errors)), dtype=np.int64), radii)[0]
        step = max(1, CHUNK_ELEMENTS // len(errors))
        drawn = np.concatenate(
            [_weighted(errors, weights[i : i + step, image], radii) for i in range(0, len(weights), step)]
        )
        # A draw can miss every image that has this figure: it says nothing.
        usable = [figure[np.isfinite(figure)] for figure in drawn.T]
        nothing = (np.nan, np.nan)
        low, high = np.transpose([np.percentile(u, PERCENTILES) if u.size else nothing for u in usable])
    rows: dict[str, Any] = {}
    for i, name in enumerate(names[:3]):
        rows[name] = finite(value[i])
        rows[f"{name}_ci95"] = interval(low[i], high[i])
    rows["detection_rates"] = [
        {"radius": float(radius), "rate": finite(value[3 + i]), "ci95": interval(low[3 + i], high[3 + i])}
        for i, radius in enumerate(radii)
    ]
    return rows


def _weighted(errors: Floats, weights: NDArray[np.int64], radii: Sequence[float]) -> Floats:
    """Mean, median, sd and rates (draws, 3 + R) of ascending `errors` (E,), weighted (draws, E)."""
    found = int(np.isfinite(errors).sum())
    kept, counts = errors[:found], weights[:, :found]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = counts.sum(axis=1)
        centre = kept.mean() if found else 0.0  # keeps the difference of squares below accurate
        shift = counts @ (kept - centre) / total
        mean = centre + shift
        sd = np.sqrt(np.maximum(counts @ (kept - centre) ** 2 / total - shift**2, 0))
        if found:
            running = counts.cumsum(axis=1)
            middle = [
                kept[np.minimum((running <= rank[:, None]).sum(axis=1), found - 1)]
                for rank in ((total - 1) // 2, total // 2)
            ]
            median = np.where(total > 0, (middle[0] + middle[1]) / 2, np.nan)
        else:
            median = mean
        asked = weights.sum(axis=1)
        rates = [
            counts[:, : np.searchsorted(kept, radius, side="right")].sum(axis=1) / asked for radius in radii
        ]
    return np.stack([mean, median, sd, *rates], axis=1)


def finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


def interval(low: float, high: float) -> list[float] | None:
    return [float(low), float(high)] if np.isfinite(low) else None
