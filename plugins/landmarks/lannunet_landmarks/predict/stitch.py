"""The maps of a whole image from those of overlapping patches, summed with the weights of `Windows`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lannunet_images import Windows, level_scale
from torch import Tensor

from lannunet_core import UserError, map_tensors


def stitch(patches: Iterable[tuple[Any, Sequence[tuple[int, ...]]]], windows: Windows) -> Any:
    """Stitch the maps of a whole image from those of its patches, one after the other.

    Only the finest of a list of resolutions is stitched; every item of a tuple or a mapping is.
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
                f"an output of shape {tuple(part.shape)} has no spatial axes of the image, so patches cannot "
                "be stitched; the plugin has to implement the stitching hook."
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

    def add(self, part: Tensor, corner: tuple[int, ...]) -> None:
        """Add the output (K, *P) of the patch at `corner`."""
        target = self.total[0]
        for axis, start in enumerate(corner):
            weight, first = self.weights[axis][start], start // self.strides[axis]
            part = part * weight.reshape(-1, *[1] * axis)
            inside = min(len(weight), target.shape[-1 - axis] - first)  # cut at the border
            target, part = target.narrow(-1 - axis, first, inside), part.narrow(-1 - axis, 0, inside)
        target += part


def finest(outputs: Any) -> Any:
    """Outputs with each list of resolutions, finest first, reduced to its first item."""
    if isinstance(outputs, list):
        return [finest(outputs[0])]
    if isinstance(outputs, tuple):
        return tuple(finest(output) for output in outputs)
    if isinstance(outputs, Mapping):
        return {name: finest(output) for name, output in outputs.items()}
    return outputs


def tensors_of(nest: Any) -> Iterator[Tensor]:
    """The tensors of a nest of lists, tuples and mappings, in order."""
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, (list, tuple, Mapping)):
        for inner in nest.values() if isinstance(nest, Mapping) else nest:
            yield from tensors_of(inner)
