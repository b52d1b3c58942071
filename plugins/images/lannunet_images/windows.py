"""A grid of overlapping patches that covers an image, and the weights of their pixels.

Along each axis, the weights of a patch's outputs are a Gaussian around its centre. They are 0 in a margin at
its inner edges, where the network's receptive field contains padding instead of the image, unless all of the
patch is such a margin. Weights are divided by their sum over the patches of the axis, so they sum to 1 at
every pixel, and outputs are summed in one map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lannunet_core import UserError

WIDTH = 1 / 8  # deviation of the Gaussian, as a share of the patch (Isensee et al. 2021)


@dataclass(frozen=True)
class Windows:
    """A grid of patches that covers an image. Everything is (x, y[, z]).

    Attributes:
        image_size: Size of the image in pixels.
        patch_size: Size of a patch in pixels.
        starts: The first pixels of the patches along each axis, ascending; the grid is all combinations. They
            are multiples of the stride of each of the network's outputs.
        margin: Pixels at a patch's inner edges whose outputs depend on pixels outside of the patch.
    """

    image_size: tuple[int, ...]
    patch_size: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    margin: tuple[int, ...]

    @staticmethod
    def over(
        image_size: Sequence[int],
        patch_size: Sequence[int],
        margin: Sequence[int],
        strides: Sequence[int] | None = None,
    ) -> Windows:
        """Patches at steps of half their size; the last one of each axis is at the image's border.

        Args:
            image_size: Size in pixels. If it is less than the patch's, one patch extends beyond the image.
            patch_size: Size in pixels.
            margin: Margin in pixels; limited so that each pixel keeps a patch, and ignored if it fills the
                patch.
            strides: Corners are multiples of these, so the last patch may extend beyond the border.
        """
        starts = []
        strides = strides or [1] * len(image_size)
        for image, patch, stride in zip(image_size, patch_size, strides, strict=True):
            if stride > patch:
                raise UserError(
                    f"sampler.patch: an output of the network has one pixel for {stride} of the image, more "
                    f"than the {patch} of a patch, so patches cannot be stitched. Use larger patches, or "
                    "inference_mode: fully_convolutional."
                )
            last = max(math.ceil((image - patch) / stride), 0) * stride
            step = max(patch // 2 // stride, 1) * stride
            starts.append((*range(0, last, step), last))
        return Windows(tuple(image_size), tuple(patch_size), tuple(starts), tuple(margin))

    @property
    def covered_size(self) -> tuple[int, ...]:
        """Size of the area that all patches cover: the image's, or larger."""
        return tuple(starts[-1] + patch for starts, patch in zip(self.starts, self.patch_size, strict=True))

    def corners(self) -> Iterator[tuple[int, ...]]:
        """The first pixel (x, y[, z]) of each patch."""
        return itertools.product(*self.starts)

    def box(self, corner: tuple[int, ...]) -> tuple[slice, ...]:
        """The patch at `corner` in an image (C, *S)."""
        sides = [slice(a, a + p) for a, p in zip(corner, self.patch_size, strict=True)]
        return (slice(None), *reversed(sides))

    def weights(self, axis: int, stride: int = 1) -> dict[int, Tensor]:
        """The weights of each patch's pixels along an axis, by the patch's start.

        Args:
            axis: 0 is x.
            stride: Stride of the output, in image pixels.

        Returns:
            Weights (patch / stride,) float64 of each patch; at every output pixel of the image they sum to 1.
        """
        starts = self.starts[axis]
        patch, image = (math.ceil(s[axis] / stride) for s in (self.patch_size, self.image_size))
        step = max((b - a for a, b in itertools.pairwise(starts)), default=0) // stride
        # The margin is at most half of the overlap, so that one patch has weight at every pixel. A margin
        # that fills the patch, as for a network that normalises over its whole input, is ignored: no
        # position in the patch is better than another, so all are blended.
        margin = min(math.ceil(self.margin[axis] / stride), (patch - step) // 2)
        if 2 * self.margin[axis] >= self.patch_size[axis]:
            margin = 0
        offset = torch.arange(patch, dtype=torch.float64) - (patch - 1) / 2
        gaussian = torch.exp(-0.5 * (offset / (WIDTH * patch)) ** 2)
        total = torch.zeros(starts[-1] // stride + patch, dtype=torch.float64)
        weights = {}
        for start in starts:
            first = start // stride
            weight = gaussian.clone()
            if start > 0:
                weight[:margin] = 0
            if start < starts[-1]:
                weight[patch - margin :] = 0
            weight[max(image - first, 0) :] = 0
            total[first : first + patch] += weight
            weights[start] = weight
        return {
            start: torch.where(weight > 0, weight / total[start // stride :][:patch], 0)
            for start, weight in weights.items()
        }
