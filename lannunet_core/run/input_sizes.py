"""Whether it is the size of its input that a network cannot take: then it takes another one nearby."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.images.nests import map_tensors, spatial_size

ERRORS = (RuntimeError, ValueError, AssertionError)
"""What layers raise on tensors that do not fit together, and networks that inspect their input."""
POWERS = (1, 2, 4, 8, 16, 32, 64)
MOST_PIXELS = 2**18  # of an input that is only tried; more where the one that failed had about as many


def nearby_size(network: nn.Module, image: Tensor, inputs: Mapping[str, Any]) -> tuple[int, ...] | None:
    """A size (x, y[, z]) near that of an image (B, C, *S) that a network takes: multiples of a power of two.

    None: the network fails with these too, or does not fail with an empty image of the same size, so that the
    size is not what it fails of.

    Args:
        network: It failed with these arguments.
        image: Its first argument.
        inputs: The others, by name; those of the image's size are tried with it.
    """
    size = spatial_size(image)
    for power in POWERS:
        tried = tuple(max(round(side / power), 1) * power for side in size)
        if math.prod(tried) > max(MOST_PIXELS, 2 * math.prod(size)):
            continue

        def empty(tensor: Tensor, tried: tuple[int, ...] = tried) -> Tensor:
            shape = tensor.shape[:2] + torch.Size(tried[::-1])
            return tensor.new_zeros(shape) if spatial_size(tensor) == size else tensor

        try:
            with torch.no_grad():
                network(empty(image), **map_tensors(dict(inputs), empty))
        except ERRORS:
            continue
        return None if tried == size else tried
    return None
