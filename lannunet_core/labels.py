"""Gaussian heatmaps, made for a whole batch on the device of its landmarks.

A Gaussian is separable: one exp a pixel of each axis, then an outer product. Pixel edges, not centres, are
what a level of the network shares with its input: p on the input is (p + ½) / k − ½ on a level of stride k.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lannunet_core.types import State


def level_scale(image_size: Sequence[int], level_size: Sequence[int]) -> tuple[float, ...]:
    """The stride k (x, y[, z]) of a level, in input pixels.

    The power of two with ceil(S / k) == S_l where there is one, since networks that pad to it and crop back
    keep the origin; else the ratio of the sizes.
    """

    def stride(full: int, level: int) -> float:
        powers = (2**n for n in range(max(full - 1, 1).bit_length() + 1))
        return next((k for k in powers if math.ceil(full / k) == level), full / level)

    return tuple(stride(full, level) for full, level in zip(image_size, level_size, strict=True))


def level_points(points: Tensor, scale: Sequence[float]) -> Tensor:
    """Points (…, D) of the input on the level with that stride (x, y[, z])."""
    return (points + 0.5) / points.new_tensor(scale) - 0.5


def level_sigmas(sigma: Tensor | float, strides: Sequence[float]) -> Tensor:
    """The width of each landmark's Gaussian on each level, max(sigma / stride, 1); differentiable.

    Args:
        sigma: (N,), or one number for all, in input pixels.
        strides: One a level, finest first: 1, 2, 4, … for a U-Net.

    Returns:
        (L, N) in pixels of each level; (L, 1) for one number.
    """
    widths = sigma if isinstance(sigma, Tensor) else torch.tensor(float(sigma))
    return (widths.reshape(-1) / widths.new_tensor(strides)[:, None]).clamp(min=1)


def gaussian_heatmaps(
    landmarks: Tensor,
    states: Tensor,
    sigmas: Tensor,
    image_size: Sequence[int],
    level_sizes: Sequence[Sequence[int]],
    peak: float,
) -> list[Tensor]:
    """One Gaussian a landmark and level; all zero where the landmark is not visible.

    Args:
        landmarks: (B, N, D) in input pixels; anything, NaN too, where not visible.
        states: (B, N) of `State`.
        sigmas: (L, N) or (L, 1), in pixels of each level.
        image_size: Size (x, y[, z]) of the input.
        level_sizes: Size (x, y[, z]) of each level.
        peak: The Gaussian's value at its centre.

    Returns:
        (B, N, *S_l) for each level, in the landmarks' dtype.
    """
    visible = states == State.VISIBLE
    landmarks = torch.where(visible[..., None], landmarks, 0)  # before any arithmetic: 0 · NaN is NaN
    amplitude = peak * visible.to(landmarks.dtype)  # (B, N)
    maps = []
    for level, size in enumerate(level_sizes):
        centres = level_points(landmarks, level_scale(image_size, size))
        precision = sigmas[level, :, None].to(landmarks.dtype) ** -2  # (N, 1)
        product = amplitude
        for axis in reversed(range(len(size))):  # [z,] y, x
            pixels = torch.arange(size[axis], dtype=landmarks.dtype, device=landmarks.device)
            gaussian = torch.exp(
                -0.5 * precision * (pixels - centres[..., axis, None]) ** 2
            )  # (B, N, S_axis)
            product = product[..., None] * gaussian.reshape(*visible.shape, *[1] * (product.ndim - 2), -1)
        maps.append(product)
    return maps


def generate_labels(
    landmarks: Tensor,
    states: Tensor,
    corner: Tensor,
    image_size: tuple[int, ...],
    sigmas: Tensor,
    num_res_levels: int,
    level_sizes: Sequence[tuple[int, ...]],
    lambda_scale: float,
    sample: Mapping[str, Any],
) -> dict[str, Any]:
    """The core's answer to the hook of the same name: `state` (B, N) and `heatmaps`, (B, N, *S_l) a level."""
    return {
        "state": states,
        "heatmaps": gaussian_heatmaps(landmarks, states, sigmas, image_size, level_sizes, lambda_scale),
    }
