"""The raw confidence of a point, computed from its map; calibration turns it into a probability.

If a loss makes the maps probabilities (`kl`), the raw confidence is the mass within `REACH` widths of the
labels around the point: the network's own probability that the landmark lies there. The total mass of a map
is the probability that the landmark is in the image, as the rest is the class "not here". The mass of other
losses' maps has no meaning; there the decoder's confidence is kept, the height of the peak.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from lannunet_images import level_scale
from torch import Tensor

from lannunet_core import Coordinates, spatial_size
from lannunet_landmarks.maps.peaks import finest, gather, last_pixel

REACH = 3.0  # widths of the labels' Gaussian


@runtime_checkable
class ProbabilityLoss(Protocol):
    """A loss whose activated maps are probabilities of the positions, up to a factor per landmark."""

    def perfect_mass(self, maps: Tensor) -> Tensor:
        """The factor for maps (B, N, *S), the sum of a perfect label's map whose peak is 1: () or (N,)."""


def with_masses(
    found: Coordinates, heatmaps: Any, image_size: tuple[int, ...], loss: ProbabilityLoss
) -> Coordinates:
    """The coordinates, with the probabilities that a landmark is there, and that it is in the image at all.

    Args:
        found: Coordinates in pixels of the image.
        heatmaps: (B, N, *S), or a list whose first item is.
        image_size: Size (x, y[, z]) of the image; the maps may be coarser.
        loss: Loss that the maps were trained with.
    """
    maps = finest(heatmaps)
    return with_masses_of(found, maps, level_scale(image_size, spatial_size(maps)), loss)


def with_masses_of(
    found: Coordinates,
    maps: Tensor,
    strides: Sequence[float],
    loss: ProbabilityLoss,
    halo: int | None = None,
) -> Coordinates:
    """As `with_masses`, for maps (B, N, *S) whose strides (x, y[, z]) are known; for `halo` see
    `mass_around`."""
    batch, landmarks = maps.shape[:2]
    of_label = loss.perfect_mass(maps).double().cpu().expand(landmarks)
    stride = torch.tensor(strides, dtype=torch.float64)
    points = (found.points.double().cpu() + 0.5) / stride - 0.5
    reach = reaches(of_label, len(strides)).repeat(batch)
    near = mass_around(maps.flatten(0, 1), points.flatten(0, 1), reach, halo)
    there = torch.where(found.confidence.cpu() > 0, near.view(batch, landmarks), 0)  # 0: a flat map
    return replace(
        found,
        confidence=(there / of_label).clamp(0, 1),
        presence=presence_in(maps, of_label),
    )


def presence_in(maps: Tensor, of_label: Tensor) -> Tensor:
    """(B, N) the probability that a landmark is in the image, the sum of its map (B, N, *S) divided by that
    of a perfect label, (N,) or ()."""
    return (maps.flatten(2).sum(-1).to(of_label).nan_to_num(0) / of_label).clamp(0, 1)


def reaches(of_label: Tensor, dimensions: int) -> Tensor:
    """`REACH` widths of the labels' Gaussians in pixels of a map, from `ProbabilityLoss.perfect_mass`."""
    return REACH * of_label ** (1 / dimensions) / math.sqrt(2 * math.pi)


def mass_around(maps: Tensor, points: Tensor, reach: Tensor, halo: int | None = None) -> Tensor:
    """(M,) the sum of maps (M, *S) within `reach` (M,) of points (M, D), in their pixels; 0 without a point.

    No `reach` exceeds `halo`; if it is None, the largest `reach` is used.
    """
    if not len(maps):
        return torch.zeros(0, dtype=torch.float64)
    known = torch.isfinite(points).all(1)
    points = torch.where(known[:, None], points, 0)
    if halo is None:
        halo = math.ceil(float(reach.max()))
    offsets = torch.arange(-halo, halo + 1)
    last = last_pixel(maps)
    axes, inside, away = [], [], []
    for axis, place in enumerate(points.unbind(1)):
        pixels = place.round().long()[:, None] + offsets  # (M, W)
        inside.append((pixels >= 0) & (pixels <= last[axis]))
        away.append((pixels - place[:, None]).square())
        axes.append(pixels.clamp(min=0).minimum(last[axis]))
    values = gather(maps, torch.arange(len(maps)), axes).double().cpu()  # (M, [Wz,] Wy, Wx)
    distance = torch.zeros_like(values)
    counted = known.view(-1, *[1] * len(axes)).expand_as(values)
    for axis, (line, within) in enumerate(zip(away, inside, strict=True)):
        shape = (len(maps), *[1] * (len(axes) - 1 - axis), -1, *[1] * axis)
        distance = distance + line.view(shape)
        counted = counted & within.view(shape)
    counted = counted & (distance <= reach.square().view(-1, *[1] * len(axes)))
    return torch.where(counted, values, 0).flatten(1).sum(1)
