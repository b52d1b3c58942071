"""Find a nearby input size that a network accepts, if the size is what it fails on."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.images.nests import map_tensors, spatial_size

ERRORS = (RuntimeError, ValueError, AssertionError)
"""Exceptions of layers on tensors that do not fit, and of networks that check their input."""
POWERS = (1, 2, 4, 8, 16, 32, 64)
MOST_PIXELS = 2**18  # of an input for trying; more if the one that failed had about as many


def nearby_size(network: nn.Module, image: Tensor, inputs: Mapping[str, Any]) -> tuple[int, ...] | None:
    """A size (x, y[, z]) near that of an image (B, C, *S) that a network accepts, of multiples of 2^k.

    None: the network fails with these too, or accepts an empty image of the original size.

    Args:
        network: A network that failed with these arguments.
        image: Its first argument.
        inputs: The other arguments, by name; those of the image's size are resized with it.
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
