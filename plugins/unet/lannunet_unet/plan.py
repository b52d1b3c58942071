"""The networks for `lannunet plan`: U-Nets by nnU-Net's rules (Isensee et al. 2021), and their cost.

Sizes, spacings and strides are (x, y[, z]). Importing this must not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lannunet_images import COARSER, choose_strides as strides_by_size

from lannunet_core import NetworkRequest, PlannedNetwork

WIDTHS = (32, 16, 8)
"""Features at full resolution."""
LEAST_SIDE = 4
MOST_LEVELS = {2: 7, 3: 5}


def planned_networks(request: NetworkRequest) -> list[PlannedNetwork]:
    """One network per width, the widest first, for an image or patch that its strides divide."""
    strides = choose_strides(request.sides, request.spacing)
    multiples = [math.prod(stride[axis] for stride in strides) for axis in range(len(request.sides))]
    size = tuple(
        math.ceil(side / multiple) * multiple for side, multiple in zip(request.sides, multiples, strict=True)
    )
    return [
        _planned(Shape(size, strides, width, request.in_channels, request.outputs), request)
        for width in WIDTHS
    ]


def choose_strides(size: Sequence[float], spacing: Sequence[float]) -> tuple[tuple[int, ...], ...]:
    """The strides of each downsampling, by `lannunet_images.choose_strides`, up to `MOST_LEVELS`."""
    return strides_by_size(size, spacing, LEAST_SIDE, most=MOST_LEVELS[len(size)])


@dataclass(frozen=True)
class Shape:
    """A U-Net on images or patches of one size.

    Attributes:
        size: Size of the images or patches.
        strides: Strides of each downsampling.
        width: Features at full resolution.
        in_channels: C.
        outputs: N.
    """

    size: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    width: int
    in_channels: int
    outputs: int

    @property
    def most(self) -> int:
        """The upper limit of the features."""
        return 8 * self.width

    def cost(self) -> tuple[float, float]:
        """Multiplications of a forward pass per sample, and numbers kept for the backward pass."""
        kernel = 3 ** len(self.size)
        voxels = float(math.prod(self.size))
        products = numbers = 0.0
        coming = self.in_channels
        for level in range(len(self.strides) + 1):
            features = min(self.width * 2**level, self.most)
            voxels /= math.prod(self.strides[level - 1]) if level else 1
            products += voxels * kernel * features * (coming + features)
            numbers += voxels * 4 * features  # two convolutions, each normalised
            if level < len(self.strides):
                coarser = min(2 * features, self.most)
                products += voxels * features * (coarser + kernel * 3 * features)
                numbers += voxels * 6 * features  # the same again, and the two concatenated maps
            products += voxels * features * self.outputs
            numbers += voxels * 6 * self.outputs
            coming = features
        return products, numbers


def _planned(shape: Shape, request: NetworkRequest) -> PlannedNetwork:
    products, numbers = shape.cost()
    axes = ", ".join("xyz"[: len(shape.size)])
    widest = WIDTHS[0]
    settings = {
        "init_features": (
            shape.width,
            "as nnU-Net" if shape.width == widest else f"nnU-Net's {widest} would be too slow",
        ),
        "max_features": (shape.most, "doubled three times"),
        "strides": (
            [list(stride) for stride in shape.strides],
            f"({axes}) per downsampling: halved while {LEAST_SIDE} voxels remain"
            + _why_left_alone(shape.strides, request.spacing),
        ),
    }
    return PlannedNetwork(shape.size, settings, products, numbers)


def _why_left_alone(strides: Sequence[tuple[int, ...]], spacing: Sequence[float]) -> str:
    first = strides[0] if strides else ()
    waiting = [
        axis for axis, step in enumerate(first) if step == 1 and spacing[axis] >= COARSER * min(spacing)
    ]
    return f"; {', '.join('xyz'[axis] for axis in waiting)} is coarser and halved later" if waiting else ""
