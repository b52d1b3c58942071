"""A grid of overlapping patches that covers an image, and what the pixels of each weigh.

Along each axis a patch's outputs weigh as a Gaussian around its middle, and nothing in a margin at its inner
edges, where the network saw zeros instead of the image, unless it saw some everywhere. The weights are
divided by their sum over the patches of that axis, so that they sum to 1 at every pixel: adding up is all
that is left to do, in one map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lannunet_core import UserError

WIDTH = 1 / 8  # of the Gaussian, as a share of the patch (Isensee et al. 2021)


@dataclass(frozen=True)
class Windows:
    """A grid of patches that covers an image. Everything is (x, y[, z]).

    Attributes:
        image_size: In pixels.
        patch_size: In pixels.
        starts: The first pixels of the patches along each axis, ascending; the grid is all combinations. They
            are multiples of the stride of each of the network's outputs.
        margin: Pixels at a patch's inner edges whose outputs depend on what lies outside of the patch.
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
        """Patches every half of their size, the last of each axis at the image's border.

        Args:
            image_size: In pixels. Where it is less than the patch's, one patch reaches beyond it.
            patch_size: In pixels.
            margin: In pixels; used as far as every pixel keeps a patch, and not at all where it is the patch.
            strides: What corners are to be multiples of; the last patch may reach beyond the border for it.
        """
        starts = []
        strides = strides or [1] * len(image_size)
        for image, patch, stride in zip(image_size, patch_size, strides, strict=True):
            if stride > patch:
                raise UserError(
                    f"sampler.patch: an output of the network has one pixel for {stride} of the image, more "
                    f"than the {patch} of a patch, so nothing can be stitched. Use larger patches, or "
                    "inference_mode: fully_convolutional."
                )
            last = max(math.ceil((image - patch) / stride), 0) * stride
            step = max(patch // 2 // stride, 1) * stride
            starts.append((*range(0, last, step), last))
        return Windows(tuple(image_size), tuple(patch_size), tuple(starts), tuple(margin))

    @property
    def covered_size(self) -> tuple[int, ...]:
        """Size of all patches together: the image's, or more."""
        return tuple(starts[-1] + patch for starts, patch in zip(self.starts, self.patch_size, strict=True))

    def corners(self) -> Iterator[tuple[int, ...]]:
        """The first pixel (x, y[, z]) of each patch."""
        return itertools.product(*self.starts)

    def box(self, corner: tuple[int, ...]) -> tuple[slice, ...]:
        """The patch at `corner` in an image (C, *S)."""
        sides = [slice(a, a + p) for a, p in zip(corner, self.patch_size, strict=True)]
        return (slice(None), *reversed(sides))

    def weights(self, axis: int, stride: int = 1) -> dict[int, Tensor]:
        """What the pixels of each patch weigh along an axis, by the patch's start.

        Args:
            axis: 0 is x.
            stride: Stride of the output, in image pixels.

        Returns:
            (patch / stride,) float64 each; at every output pixel of the image the patches' weights sum to 1.
        """
        starts = self.starts[axis]
        patch, image = (math.ceil(s[axis] / stride) for s in (self.patch_size, self.image_size))
        step = max((b - a for a, b in itertools.pairwise(starts)), default=0) // stride
        # No more than half of what neighbours share, so that one of them counts at every pixel. One that
        # leaves nothing of a patch, as of a network that normalises over all it sees, can be kept nowhere:
        # then no place is better to cut at than another, and all is blended.
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
