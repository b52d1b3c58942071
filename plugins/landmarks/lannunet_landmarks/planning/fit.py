"""The network of a plan, and the size of its input images.

Sizes and spacings are (x, y[, z]).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lannunet_core import Floats, NetworkRequest, PlannedNetwork, PlanRequest
from lannunet_landmarks.data.proportions import SQUARE
from lannunet_landmarks.planning import recipe
from lannunet_landmarks.planning.cost import Budget
from lannunet_landmarks.planning.look import Look

FINER = 1.03  # ratio of two neighbouring resolutions in the search


@dataclass(frozen=True)
class Fitted:
    """The network of a plan, with its input images.

    Attributes:
        network: Network as the architecture offers it; its size is that of the images.
        pixel: mm (px if spacing is unknown) per pixel of the images, (x, y[, z]).
        batch: Images per batch.
        batches: Number of batches that fit into the time.
        why_size: Reason for the size.
        why_batch: Reason for the batch.
    """

    network: PlannedNetwork
    pixel: tuple[float, ...]
    batch: int
    batches: float
    why_size: str
    why_batch: str


def fit(found: Look, request: PlanRequest, budget: Budget) -> Fitted:
    """The most capable network with a sufficient view, on the largest images that leave time for enough
    batches."""
    dimensions = found.dataset.dimensions
    batch, seconds = recipe.LEAST_BATCH[dimensions], budget.seconds
    batches = recipe.BATCHES[dimensions] * math.sqrt(seconds / 60)
    # From the finest to the coarsest images, and for each from the most to the least capable network.
    offers = [request.networks(asked_of(found, *resolution)) for resolution in _resolutions(found)]
    finest = offers[0]
    native = math.prod(np.median(found.sizes, axis=0))
    least_able = finest[-1].products / math.prod(finest[-1].size)
    chosen, affordable = offers[-1][-1], False
    for rank, able in enumerate(finest):
        fitting = [offer[rank] for offer in offers if budget.affords(offer[rank], batch, batches)]
        if fitting:
            chosen, affordable = min(fitting, key=lambda one: (coarseness(found, one), one.products)), True
            costs = able.products / math.prod(able.size) / least_able
            if math.prod(chosen.size) >= min(recipe.LEAST_PIXELS[dimensions] * costs, native):
                break
    batch, why_batch = _larger_batch(chosen, budget, batch, batches)
    pixel = pixel_of(found, chosen)
    if not affordable:
        why = f"The smallest useful size, and still too slow for {about(batches)} batches in the time"
    elif math.isclose(coarseness(found, chosen), min(coarseness(found, offer[0]) for offer in offers)):
        why = "As fine as the images are, or need to be"
    else:
        why = f"As fine as leaves time for {about(batches)} batches on {budget.machine.name}"
    return Fitted(
        chosen,
        pixel,
        batch,
        budget.batches_of(chosen, batch),
        f"{_proportions(found, pixel)}. {why}",
        why_batch,
    )


def choose_resize(found: Look) -> tuple[str, str]:
    """How images of other sizes are fitted into the input, and the reason."""
    if (found.spacings.max(axis=1) > SQUARE * found.spacings.min(axis=1)).any():
        return "stretch", (
            "pixels are not equally long along each axis: every axis is scaled separately, which keeps the "
            "proportions in mm"
        )
    return "letterbox", "every image keeps its proportions, and the rest is padded"


def asked_of(found: Look, sides: Floats, pixel: Floats) -> NetworkRequest:
    return NetworkRequest(
        tuple(float(side) for side in sides),
        tuple(float(step) for step in pixel),
        found.channels,
        len(found.dataset.landmark_names),
    )


def _resolutions(found: Look) -> Iterator[tuple[Floats, Floats]]:
    """Sides of the images and lengths of their pixels, the finest first.

    Pixels are squares, unless the image's own are longer along an axis: slices are not interpolated.
    """
    own = np.median(found.spacings, axis=0)
    extent = np.median(found.sizes * found.spacings, axis=0)
    most = recipe.MOST_PIXELS[len(own)]
    pixel = float(own.min())
    first = True
    while first or (extent / np.maximum(own, pixel)).max() > 2 * recipe.LEAST_SIDE:
        sides = np.maximum(extent / np.maximum(own, pixel), recipe.LEAST_SIDE)
        if sides.prod() <= most:
            yield sides, extent / sides
            first = False
        pixel *= FINER


def _larger_batch(network: PlannedNetwork, budget: Budget, least: int, batches: float) -> tuple[int, str]:
    """As many images as fit into memory and leave time for twice the batches."""
    sizes = range(recipe.MOST_BATCH, least, -1)
    found = next((size for size in sizes if budget.affords(network, size, 2 * batches)), least)
    if found == least:
        return least, "the least that trains steadily; more batches, and larger images, do more"
    if found == recipe.MOST_BATCH:
        return found, "more would not help"
    return found, f"as many as fit into {budget.memory / 1e9:g} GB and twice the batches that are needed"


def coarseness(found: Look, network: PlannedNetwork) -> float:
    """The area, or volume, of a pixel of the input."""
    return math.prod(pixel_of(found, network))


def pixel_of(found: Look, network: PlannedNetwork) -> tuple[float, ...]:
    """The size of a pixel of the input, for the median image: in mm, else in its pixels."""
    steps = np.median(found.sizes * found.spacings, axis=0) / network.size
    if choose_resize(found)[0] == "letterbox":
        steps[:] = steps.max()
    return tuple(float(step) for step in steps)


def _proportions(found: Look, pixel: Sequence[float]) -> str:
    shown = f"{pixel[0]:.3g}" if max(pixel) <= SQUARE * min(pixel) else times(pixel)
    if not found.states_spacing:
        return f"a pixel is {shown} pixels of the median image"
    own = np.median(found.spacings, axis=0)
    coarse = int(own.argmax())
    if own[coarse] > SQUARE * own.min() and pixel[coarse] > SQUARE * min(pixel):
        return f"a pixel is {shown} mm: no slices are interpolated along {'xyz'[coarse]}"
    return f"a pixel is {shown} mm, in the proportions that the median image has in mm"


def about(number: float) -> str:
    return f"{float(f'{number:.2g}'):.0f}"


def times(numbers: Any) -> str:
    return "×".join(f"{number:.3g}" if number < 1000 else f"{number:.0f}" for number in numbers)
