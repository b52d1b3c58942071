"""The networks from which `lannunet plan` chooses, by nnU-Net's rules, and their cost.

Isensee et al., "nnU-Net Revisited", MICCAI 2024. Sizes and strides are (x, y[, z]). Needs no torch.
"""

from collections.abc import Sequence
from math import ceil, prod

from lannunet_images import choose_strides

from lannunet_core import NetworkRequest, PlannedNetwork

BLOCKS = {"residual": (1, 3, 4, 6), "plain": (2,)}


def strides_for(size: Sequence[float], spacing: Sequence[float] | None) -> tuple[tuple[int, ...], ...]:
    """nnU-Net's downsamplings: an axis is halved while 4 pixels remain, alone while it has 12."""
    return choose_strides(size, spacing, least_side=4, alone=3.0, most=5 if len(size) == 3 else 7)


def levels_of(width: int, most: int, blocks: Sequence[int], downsamplings: int) -> list[tuple[int, int]]:
    """Features and blocks of each level of the encoder."""
    return [
        (min(width * 2**level, most), blocks[min(level, len(blocks) - 1)])
        for level in range(downsamplings + 1)
    ]


def planned_networks(request: NetworkRequest) -> list[PlannedNetwork]:
    """One network per width, the widest first, for an image or patch that its strides divide."""
    strides = strides_for(request.sides, request.spacing)
    steps = [prod(axis) for axis in zip(*strides, strict=True)] or [1] * len(request.sides)
    size = tuple(ceil(side / step) * step for side, step in zip(request.sides, steps, strict=True))
    found = []
    for width in (32, 16, 8):
        settings = {
            "init_features": (width, "as nnU-Net" if width == 32 else "nnU-Net's 32 would be too slow"),
            "max_features": (10 * width, "10 times init_features, as nnU-Net"),
            "strides": (
                [list(stride) for stride in strides],
                "(x, y[, z]) per downsampling, by nnU-Net's rules",
            ),
        }
        found.append(PlannedNetwork(size, settings, *cost(request, size, strides, width)))
    return found


def cost(
    request: NetworkRequest, size: Sequence[int], strides: Sequence[Sequence[int]], width: int
) -> tuple[float, float]:
    """Multiplications of a forward pass per sample, and numbers kept for the backward pass."""
    kernel, pixels, before = 3.0 ** len(size), float(prod(size)), width
    products, numbers = pixels * kernel * request.in_channels * width, pixels * 2 * width  # the stem
    levels = levels_of(width, 10 * width, BLOCKS["residual"], len(strides))
    for level, (features, blocks) in enumerate(levels):
        pixels /= prod(strides[level - 1]) if level else 1
        products += pixels * kernel * features * (before + (2 * blocks - 1) * features)
        numbers += pixels * 5 * features * blocks  # two convolutions, normalised, and their sum with the skip
        if before != features:  # 1×1 in the skip
            products += pixels * before * features
            numbers += pixels * (before + 2 * features)
        if level < len(strides):  # the decoder
            mixed = levels[level + 1][0] + kernel * 2 * features + request.outputs
            products += pixels * features * mixed
            numbers += pixels * (4 * features + 6 * request.outputs)
        before = features
    return products, numbers
