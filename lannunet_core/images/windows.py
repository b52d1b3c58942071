"""The maps of a whole image from those of overlapping patches.

Along each axis a patch's outputs weigh as a Gaussian around its middle, and nothing in a margin at its inner
edges, where the network saw zeros instead of the image. The weights are divided by their sum over the patches
of that axis, so that they sum to 1 at every pixel: adding up is all that is left to do, in one map.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lannunet_core.errors import UserError
from lannunet_core.images.nests import finest, level_scale, map_tensors, tensors_of

WIDTH = 1 / 8  # of the Gaussian, as a share of the patch (Isensee et al. 2021)

Corner = tuple[int, ...]
"""The first pixel (x, y[, z]) of a patch."""


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
            margin: In pixels; used as far as every pixel keeps a patch.
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

    def corners(self) -> Iterator[Corner]:
        return itertools.product(*self.starts)

    def box(self, corner: Corner) -> tuple[slice, ...]:
        """The patch at `corner` in an image (C, *S)."""
        sides = [slice(a, a + p) for a, p in zip(corner, self.patch_size, strict=True)]
        return (slice(None), *reversed(sides))

    def weights(self, axis: int, stride: int = 1) -> dict[int, Tensor]:
        """What the pixels of each patch weigh along an axis, by the patch's start.

        Args:
            axis: 0 is x.
            stride: Of the output, in image pixels.

        Returns:
            (patch / stride,) float64 each; at every output pixel of the image the patches' weights sum to 1.
        """
        starts = self.starts[axis]
        patch, image = (math.ceil(s[axis] / stride) for s in (self.patch_size, self.image_size))
        step = max((b - a for a, b in itertools.pairwise(starts)), default=0) // stride
        # No more than half of what neighbours share, so that one of them counts at every pixel.
        margin = min(math.ceil(self.margin[axis] / stride), (patch - step) // 2)
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


def stitch(patches: Iterable[tuple[Any, Sequence[Corner]]], windows: Windows) -> Any:
    """The maps of a whole image from those of its patches, as they come.

    Of a list of resolutions only the finest is stitched; of a tuple or a mapping, everything.
    """
    nest: Any = None
    canvases: list[Canvas] = []
    for outputs, corners in patches:
        nest = finest(outputs)
        parts = list(tensors_of(nest))
        canvases = canvases or [Canvas(windows, part) for part in parts]
        for canvas, part in zip(canvases, parts, strict=True):
            for one, corner in zip(part, corners, strict=True):
                canvas.add(one, corner)
    maps = iter(canvases)
    return map_tensors(nest, lambda part: next(maps).total)


class Canvas:
    """One output for the whole image, (1, K, *S) in `total`, from patches that are added one by one."""

    def __init__(self, windows: Windows, part: Tensor) -> None:
        size = tuple(reversed(part.shape[2:]))
        if len(size) != len(windows.patch_size):
            raise UserError(
                f"an output of shape {tuple(part.shape)} has no place in the image, so patches cannot be "
                "stitched; the plugin has to answer the stitching hook."
            )
        self.strides = [round(stride) for stride in level_scale(windows.patch_size, size)]
        self.weights = [
            {start: weight.to(part) for start, weight in windows.weights(axis, stride).items()}
            for axis, stride in enumerate(self.strides)
        ]
        full = [
            math.ceil(side / stride) for side, stride in zip(windows.image_size, self.strides, strict=True)
        ]
        self.total = part.new_zeros(1, part.shape[1], *reversed(full))

    def add(self, part: Tensor, corner: Corner) -> None:
        """Add the output (K, *P) of the patch at `corner`."""
        target = self.total[0]
        for axis, start in enumerate(corner):
            weight, first = self.weights[axis][start], start // self.strides[axis]
            part = part * weight.reshape(-1, *[1] * axis)
            inside = min(len(weight), target.shape[-1 - axis] - first)  # cut at the border
            target, part = target.narrow(-1 - axis, first, inside), part.narrow(-1 - axis, 0, inside)
        target += part
