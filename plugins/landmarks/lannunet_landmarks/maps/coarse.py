"""Decoding of maps that are coarser than the image, with a decoder for one grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lannunet_images import level_scale
from torch import Tensor

from lannunet_core import Coordinates, Decoder, EvaluationMode, levels, spatial_size


def decode_coarse(
    decoder: Decoder,
    heatmaps: Any,
    affine: Tensor,
    original_sizes: Tensor,
    evaluation_mode: EvaluationMode,
    image_size: tuple[int, ...],
) -> Coordinates:
    """The result of `decoder`, in pixels of the image that the network saw.

    A map's pixel m lies at (m + ½) k − ½ in an image of stride k. The decoder is given the affine from the
    map's own pixels to the original image, so that `scale_heatmap_first` decodes there, and its points are
    mapped back.

    Args:
        decoder: Decodes maps on the image's grid.
        heatmaps: (B, N, *S), or a list whose first item is.
        affine: (B, D + 1, D + 1) from pixels of the image to original pixels.
        original_sizes: (B, D).
        evaluation_mode: Mode as in `get_coords_from_heatmap`.
        image_size: Size of the image, (x, y[, z]).
    """
    strides = level_scale(image_size, spatial_size(levels(heatmaps)[0]))
    return decode_strided(decoder, heatmaps, affine, original_sizes, evaluation_mode, strides)


def decode_strided(
    decoder: Decoder,
    heatmaps: Any,
    affine: Tensor,
    original_sizes: Tensor,
    evaluation_mode: EvaluationMode,
    strides: Sequence[float],
) -> Coordinates:
    """As `decode_coarse`, for maps whose strides k (x, y[, z]) are known."""
    given = {"heatmaps": heatmaps, "original_sizes": original_sizes, "evaluation_mode": evaluation_mode}
    if all(stride == 1 for stride in strides):
        return decoder(affine=affine, **given)
    scale = torch.tensor([*strides, 1.0], dtype=affine.dtype, device=affine.device)
    to_image = torch.diag(scale)
    to_image[:-1, -1] = (scale[:-1] - 1) / 2
    found = decoder(affine=affine @ to_image, **given)
    stride = scale[:-1].to(found.points)
    covariance = found.covariance
    if covariance is not None:
        covariance = covariance * stride.to(covariance) * stride.to(covariance)[:, None]
    return replace(found, points=(found.points + 0.5) * stride - 0.5, covariance=covariance)
