"""Strides and kernels of a network's levels, from size and spacing: (x, y[, z]).

The rules are nnU-Net's (Isensee et al., Nature Methods 18, 2021). Importing this needs no torch.
"""

import math
from collections.abc import Sequence

COARSER = 2.0
"""Axes with voxels this many times longer than the shortest are not halved, and have kernels of 1."""
NEVER = 10_000


def choose_strides(
    size: Sequence[float],
    spacing: Sequence[float] | None = None,
    least_side: int = 4,
    alone: float = 2.0,
    most: int = NEVER,
) -> tuple[tuple[int, ...], ...]:
    """The strides of each downsampling.

    Each axis is halved while at least `least_side` pixels remain. An axis whose pixels are twice as long as
    the shortest among the axes that can be halved is not halved until those have the same length.

    Args:
        size: Size of the image or patch, (x, y[, z]).
        spacing: mm per pixel, (x, y[, z]); None: the same length along all axes.
        least_side: Minimum side in pixels.
        alone: An axis that is halved alone has at least this many times `least_side` pixels (nnU-Net: 3).
        most: Maximum number of downsamplings.
    """
    sides, steps = list(size), list(spacing or [1.0] * len(size))
    strides: list[tuple[int, ...]] = []
    while len(strides) < most:
        able = [axis for axis, side in enumerate(sides) if side >= 2 * least_side]
        shortest = min((steps[axis] for axis in able), default=0.0)
        halved = [axis for axis in able if steps[axis] < COARSER * shortest]
        if not halved or (len(halved) == 1 and sides[halved[0]] < alone * least_side):
            break
        stride = tuple(2 if axis in halved else 1 for axis in range(len(sides)))
        strides.append(stride)
        sides = [side / step for side, step in zip(sides, stride, strict=True)]
        steps = [length * step for length, step in zip(steps, stride, strict=True)]
    return tuple(strides)


def kernels_by_spacing(
    strides: Sequence[Sequence[int]], spacing: Sequence[float] | None, dimensions: int
) -> list[tuple[int, ...]]:
    """The kernel of each level: 3, or 1 along a coarse axis. There is one level more than downsamplings.

    A coarse axis has pixels at least twice as long as the shortest. Its kernel is 3 once downsampling has
    reduced the ratio below 2, and at the coarsest level.

    Args:
        strides: Strides of each downsampling.
        spacing: mm per pixel of the input; None: the same length along all axes.
        dimensions: D.
    """
    steps, kernel = list(spacing or [1.0] * dimensions), (1,) * dimensions
    kernels = []
    for stride in strides:
        shortest = min(steps)
        kernel = tuple(
            3 if side == 3 or step < COARSER * shortest else 1
            for side, step in zip(kernel, steps, strict=True)
        )
        kernels.append(kernel)
        steps = [length * step for length, step in zip(steps, stride, strict=True)]
    return [*kernels, (3,) * dimensions]


def level_scale(image_size: Sequence[int], level_size: Sequence[int]) -> tuple[float, ...]:
    """The stride k (x, y[, z]) of a network's level, in input pixels.

    A coarser level shares pixel edges with the network's input, not centres: p on the input is
    (p + ½) / k − ½ on a level of stride k.

    The stride is the power of two with ceil(S / k) == S_l if there is one, because networks that pad to a
    multiple and crop keep the origin; else it is the ratio of the sizes.
    """

    def stride(full: int, level: int) -> float:
        powers = (2**n for n in range(max(full - 1, 1).bit_length() + 1))
        return next((k for k in powers if math.ceil(full / k) == level), full / level)

    return tuple(stride(full, level) for full, level in zip(image_size, level_size, strict=True))
