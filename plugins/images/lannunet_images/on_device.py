"""Augmentation of whole batches in torch, on the device of the batch.

The geometry of a batch is one grid_sample. Call it outside of autocast: coordinates need float32 precision.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lannunet_core import Drawn, Elastic, Floats
from lannunet_images import intensity
from lannunet_images.queued import queued_copy


@torch.no_grad()
def augment(
    images: Tensor, drawn: Sequence[Drawn], centres: Tensor, output_size: Sequence[int], fill: float = 0.0
) -> Tensor:
    """Apply the drawn augmentation to each sample of a batch.

    Args:
        images: (B, C, *S) float32, z-scored.
        drawn: B draws of a scheme.
        centres: (B, D) source pixels (x, y[, z]) at the patches' centres; (S − 1) / 2 for a whole image. On
            the host, because reading them on a device would synchronise with it.
        output_size: (x, y[, z]).
        fill: The value outside of the source.

    Returns:
        (B, C, *output) float32. A point of the source is at `Drawn.spatial.to_output` in it.
    """
    moved = warp(images, drawn, centres, output_size, fill=fill)
    if not any(one.intensity for one in drawn):
        return moved
    finished = []
    for image, one in zip(moved, drawn, strict=True):
        for operation in one.intensity:
            image = intensity.apply_intensity(image, operation)
        finished.append(image)
    return torch.stack(finished)


def augment_one(
    image: NDArray[Any], drawn: Drawn, centre: Floats, output_size: Sequence[int]
) -> NDArray[np.float32]:
    """`augment` for one image (C, *S): an `Augmenter`, for a loader's worker."""
    one, places = torch.from_numpy(np.ascontiguousarray(image))[None], torch.from_numpy(centre)[None]
    result: NDArray[np.float32] = augment(one, [drawn], places, output_size)[0].numpy()
    return result


def augmented(batch: Mapping[str, Any], output_size: Sequence[int]) -> dict[str, Any]:
    """A collated batch whose image is augmented on its device, to `output_size` (x, y[, z]).

    A batch is augmented if it has the keys `drawn` and `centre` (B, D), on the host; both are removed.
    """
    rest = dict(batch)
    if "drawn" in rest:
        rest["image"] = augment(rest["image"], rest.pop("drawn"), rest.pop("centre"), output_size)
    return rest


@torch.no_grad()
def warp(
    maps: Tensor,
    drawn: Sequence[Drawn],
    centres: Tensor,
    output_size: Sequence[int],
    interpolation: Literal["linear", "nearest"] = "linear",
    fill: float = 0.0,
) -> Tensor:
    """Apply only the geometry of `augment`: to images, weights (linear), labels (nearest); same dtype."""
    shape = tuple(maps.shape[2:])
    whole = (centres.cpu() * 2 + 1 == torch.tensor(shape[::-1])).all() and tuple(output_size) == shape[::-1]
    if whole and all(one.spatial.is_identity for one in drawn):
        return maps
    grid = _sampling_grid(maps, drawn, centres, output_size)
    mode = "bilinear" if interpolation == "linear" else "nearest"
    # grid_sample fills with 0, so the fill value is subtracted before and added after.
    shifted = maps.float() - fill if fill else maps.float()
    sampled = functional.grid_sample(shifted, grid, mode=mode, padding_mode="zeros", align_corners=False)
    return (sampled.add_(fill) if fill else sampled).to(maps.dtype)


def _sampling_grid(
    maps: Tensor, drawn: Sequence[Drawn], centres: Tensor, output_size: Sequence[int]
) -> Tensor:
    """The sampling positions of output pixels for grid_sample: (B, *output, D), −1 … 1 from edge to edge."""
    dimensions, device = maps.ndim - 2, maps.device
    size = np.array(maps.shape[:1:-1])
    # A source pixel s is at (2 s + 1) / size − 1; folded into the transform here, in float64.
    linear = np.stack([one.spatial.linear for one in drawn]) * (2 / size)[:, None]
    middle = np.asarray(centres.cpu(), np.float64) + np.stack([one.spatial.offset for one in drawn])
    shift = (2 * middle + 1) / size - 1
    around = (-1, *[1] * dimensions)
    linear_t, shift_t = (queued_copy(values, device) for values in (linear, shift))  # (B, D, D), (B, D)
    # Per axis q' + u, (1 or B, *output) by broadcasting. Coordinates are not multiplied as matrices: on some
    # devices such products round to ten bits, which is half a pixel.
    places = []
    for axis, length in enumerate(output_size):
        line = torch.arange(length, dtype=torch.float32, device=device) - (length - 1) / 2
        places.append(line.reshape(1, *[-1 if a == axis else 1 for a in reversed(range(dimensions))]))
    if any(one.spatial.elastic for one in drawn):
        fields = [_dense(one.spatial.elastic, output_size, device) for one in drawn]
        field = torch.stack(fields)  # (B, D, *output)
        places = [place + field[:, axis] for axis, place in enumerate(places)]
    rows = []
    for row in range(dimensions):
        total = shift_t[:, row].reshape(around)
        for axis, place in enumerate(places):
            total = torch.addcmul(total, linear_t[:, row, axis].reshape(around), place)
        rows.append(total)
    return torch.stack(rows, -1)


def _dense(elastic: Elastic | None, output_size: Sequence[int], device: torch.device) -> Tensor:
    """The displacement of every output pixel, (D, *output)."""
    if elastic is None:
        return torch.zeros((len(output_size), *reversed(output_size)), device=device)
    field = queued_copy(elastic.control, device)
    # The last axis is expanded and rolled to the front D times: x, then y[, then z].
    for matrix in elastic.basis(output_size):
        field = (field @ queued_copy(matrix, device).T).movedim(-1, 1)  # (D, expanded, …, next axis)
    return field
