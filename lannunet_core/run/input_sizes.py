"""Whether it is the size of its input that a network cannot take: then it takes another one nearby."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.images.nests import map_tensors, spatial_size

ERRORS = (RuntimeError, ValueError, AssertionError)
"""What layers raise on tensors that do not fit together, and networks that look at their input."""
POWERS = (2, 4, 8, 16, 32, 64)
MOST_PIXELS = 2**18  # of an input that is only tried; more where the one that failed had about as many


def nearest_size(network: nn.Module, image: Tensor, inputs: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The nearest size (x, y[, z]) to that of an image (B, C, *S) that a network takes, of a few.

    Its sides are multiples of a power of two. None: the network fails with these too, or does not fail with
    an empty image of the same size, so that the size is not what it fails of.

    Args:
        network: It failed with these arguments.
        image: Its first argument.
        inputs: The others, by name; those of the image's size are tried with it.
    """

    def works(size: Sequence[int]) -> bool:
        def empty(tensor: Tensor) -> Tensor:
            same = tensor.shape[2:] == image.shape[2:]
            return tensor.new_zeros(*tensor.shape[:2], *reversed(size)) if same else tensor

        try:
            with torch.no_grad():
                network(empty(image), **map_tensors(dict(inputs), empty))
        except ERRORS:
            return False
        return True

    size = spatial_size(image)
    if works(size):
        return None
    return next(filter(works, sizes_around(size)), None)


def sizes_around(size: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Sizes of round sides, the nearest first."""
    found = {
        tuple(rounding(side / power) * power for side in size)
        for power, rounding in itertools.product(POWERS, (math.floor, round, math.ceil))
    }
    most = max(MOST_PIXELS, 2 * math.prod(size))
    possible = [one for one in found if 0 < math.prod(one) <= most and one != size]
    yield from sorted(possible, key=lambda one: (math.dist(one, size), one))
