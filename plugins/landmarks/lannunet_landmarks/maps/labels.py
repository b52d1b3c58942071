"""Gaussian heatmaps, computed for a whole batch on the device of its landmarks.

A Gaussian is separable: one exp per pixel of each axis, then an outer product. A level of the network shares
pixel edges, not centres, with its input: p on the input is (p + ½) / k − ½ on a level of stride k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from lannunet_images import level_scale, queued_copy
from torch import Tensor

from lannunet_core import State
from lannunet_landmarks.maps.symmetric import eigen


def level_points(points: Tensor, scale: Sequence[float]) -> Tensor:
    """Map points (…, D) of the input to the level with that stride (x, y[, z])."""
    return (points + 0.5) / queued_copy(scale, points.device, points.dtype) - 0.5


def level_sigmas(sigma: Tensor | float, strides: Sequence[float]) -> Tensor:
    """The width of each landmark's Gaussian on each level, max(sigma / stride, 1); differentiable.

    Args:
        sigma: (N,), or one number for all, in input pixels; or (N, D, D) symmetric matrices, the square roots
            of covariances: then the rule applies to the widths along their principal axes.
        strides: One per level, finest first: 1, 2, 4, … for a U-Net.

    Returns:
        (L, N) in pixels of each level; (L, 1) for one number; (L, N, D, D) for matrices.
    """
    widths = sigma if isinstance(sigma, Tensor) else torch.tensor(float(sigma))
    factors = queued_copy(strides, widths.device, widths.dtype)
    if widths.ndim == 3:
        matrices: Tensor = _AtLeastOne.apply(  # type: ignore[no-untyped-call]
            widths / factors[:, None, None, None]
        )
        return matrices
    return (widths.reshape(-1) / factors[:, None]).clamp(min=1)


class _AtLeastOne(torch.autograd.Function):
    """Sets eigenvalues below 1 of symmetric matrices (…, D, D) to 1.

    The gradient of an eigendecomposition divides by differences of eigenvalues, which are 0 for a round
    Gaussian; the gradient of a matrix function needs only divided differences of the function (Daleckii and
    Krein 1965).
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        values, axes = eigen(matrices)
        ctx.save_for_backward(values, axes)
        raised: Tensor = (axes * values.clamp(min=1)[..., None, :]) @ axes.mT
        return raised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        values, axes = ctx.saved_tensors
        kept = values >= 1
        rises = values.clamp(min=1)[..., :, None] - values.clamp(min=1)[..., None, :]
        differences = values[..., :, None] - values[..., None, :]
        both, one = kept[..., :, None] & kept[..., None, :], kept[..., :, None] ^ kept[..., None, :]
        slopes = torch.where(one, rises / torch.where(one, differences, 1), both.to(values.dtype))
        (gradient,) = gradients
        gradient = (gradient + gradient.mT) / 2
        moved: Tensor = axes @ (slopes * (axes.mT @ gradient @ axes)) @ axes.mT
        return moved


def gaussian_heatmaps(
    landmarks: Tensor,
    states: Tensor,
    sigmas: Tensor,
    image_size: Sequence[int],
    level_sizes: Sequence[Sequence[int]],
    peak: float,
) -> list[Tensor]:
    """One Gaussian per landmark and level; all zero if the landmark is not visible.

    Args:
        landmarks: (B, N, D) in input pixels; any value, also NaN, if not visible.
        states: (B, N) of `State`.
        sigmas: (L, N) or (L, 1), in pixels of each level; or (L, N, D, D), see `level_sigmas`.
        image_size: Size (x, y[, z]) of the input.
        level_sizes: Size (x, y[, z]) of each level.
        peak: The Gaussian's value at its centre.

    Returns:
        (B, N, *S_l) for each level, in the landmarks' dtype.
    """
    visible = states == State.VISIBLE
    landmarks = torch.where(visible[..., None], landmarks, 0)  # before any arithmetic: 0 · NaN is NaN
    amplitude = peak * visible.to(landmarks.dtype)  # (B, N)
    sizes = tuple(tuple(size) for size in level_sizes)
    lines = _level_lines(tuple(image_size), sizes, landmarks.dtype, landmarks.device)
    if sigmas.ndim == 4:
        return _tilted(landmarks, amplitude, sigmas.to(landmarks.dtype), lines, sizes)
    widths = sigmas.to(landmarks.dtype).T[:, lines.levels] * lines.strides  # (N, T), in input pixels
    offsets = lines.positions - landmarks[..., lines.axes]  # (B, N, T)
    gaussians = torch.split(torch.exp(-0.5 * (offsets / widths) ** 2), lines.lengths, -1)
    maps = []
    for level, size in enumerate(sizes):
        *others, x = reversed(range(len(size)))  # [z,] y, and x
        product = amplitude
        for axis in others:
            line = gaussians[level * len(size) + axis]
            product = product[..., None] * line.reshape(*visible.shape, *[1] * (product.ndim - 2), -1)
        line = gaussians[level * len(size) + x].reshape(*visible.shape, *[1] * len(others), -1)
        maps.append(product[..., None] * line)
    return maps


def _tilted(
    landmarks: Tensor, amplitude: Tensor, sigmas: Tensor, lines: _Lines, sizes: Sequence[tuple[int, ...]]
) -> list[Tensor]:
    """Gaussians that are not separable along the axes, with one exp per pixel."""
    dimensions = landmarks.shape[-1]
    offsets = torch.split((lines.positions - landmarks[..., lines.axes]) / lines.strides, lines.lengths, -1)
    maps = []
    for level in range(len(sizes)):
        precision = torch.linalg.inv_ex(
            sigmas[level] @ sigmas[level]
        ).inverse  # (N, D, D); without synchronising
        along = []  # (B, N, *1, S_axis, *1)
        for axis in range(dimensions):
            shape = [1] * dimensions
            shape[-1 - axis] = -1
            along.append(offsets[level * dimensions + axis].reshape(*amplitude.shape, *shape))
        square: Tensor | float = 0.0
        for i in range(dimensions):
            for j in range(i + 1):
                factor = precision[:, i, j] * (1 if i == j else 2)
                square = square + factor.reshape(-1, *[1] * dimensions) * along[i] * along[j]
        peaks = amplitude.reshape(*amplitude.shape, *[1] * dimensions)
        maps.append(peaks * torch.exp(-0.5 * torch.as_tensor(square)))
    return maps


class _Lines(NamedTuple):
    """The pixels along each axis (x, y[, z]) of each level, one line after the other: T in all."""

    positions: Tensor  # (T,) in input pixels
    strides: Tensor  # (T,)
    levels: Tensor  # (T,)
    axes: Tensor  # (T,)
    lengths: list[int]


@lru_cache(maxsize=16)
def _level_lines(
    image_size: tuple[int, ...],
    level_sizes: tuple[tuple[int, ...], ...],
    dtype: torch.dtype,
    device: torch.device,
) -> _Lines:
    """Cached, and all in one tensor, since many small operations take longer than filling the maps."""
    lengths = [length for size in level_sizes for length in size]
    with torch.inference_mode(False):  # the cached tensors are used in training too
        line = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        pixels = torch.cat([torch.arange(length) for length in lengths])
        scales = [stride for size in level_sizes for stride in level_scale(image_size, size)]
        strides = torch.tensor(scales, dtype=torch.float64)[line]
        return _Lines(
            positions=((pixels + 0.5) * strides - 0.5).to(device, dtype),
            strides=strides.to(device, dtype),
            levels=(line // len(image_size)).to(device),
            axes=(line % len(image_size)).to(device),
            lengths=lengths,
        )


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
    """The task's default implementation of the hook of this name.

    Returns:
        `state` (B, N), `landmarks` (B, N, D) in input pixels, and `heatmaps`, one (B, N, *S_l) per level.
    """
    maps = []
    if level_sizes:  # a network may return coordinates only
        maps = gaussian_heatmaps(landmarks, states, sigmas, image_size, level_sizes, lambda_scale)
    return {"state": states, "landmarks": landmarks, "heatmaps": maps}
