"""Small synthetic images, from which benches build their batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOB = 2.0  # width of blobs, in pixels


def gaussians(points: Tensor, size: tuple[int, ...], sigma: float = BLOB) -> Tensor:
    """Gaussians of peak 1 at points (B, N, D) on a grid of `size` (x, y[, z]): (B, N, *S) float32."""
    axes = [torch.arange(side, dtype=torch.float64) for side in reversed(size)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)  # (*S, D)
    centres = points.double().reshape(*points.shape[:2], *[1] * len(size), len(size))
    return torch.exp(-((grid - centres) ** 2).sum(-1) / (2 * sigma**2)).float()


def draw_points(size: tuple[int, ...], count: int, points: int, seed: int = 0) -> Tensor:
    """Points (B, N, D) float32 away from the border, and from pixel centres, so that rounding is detected."""
    rng = np.random.default_rng([seed, *size])
    margin = np.minimum(8, np.array(size) // 4)
    pixel = rng.integers(margin, np.array(size) - margin, (count, points, len(size)))
    return torch.from_numpy(
        pixel + rng.uniform(0.25, 0.45, pixel.shape) * rng.choice([-1, 1], pixel.shape)
    ).float()


def draw_noise(size: tuple[int, ...], count: int, channels: int, seed: int = 0) -> Tensor:
    """The background of images: (B, C, *S)."""
    return 0.1 * torch.randn(count, channels, *reversed(size), generator=torch.Generator().manual_seed(seed))


def batch_of(image: Tensor) -> dict[str, Any]:
    """A batch with images (B, C, *S) and the keys that every task's batches have."""
    count, dimensions = len(image), image.ndim - 2
    return {
        "image": image,
        "affine": torch.eye(dimensions + 1, dtype=torch.float64).expand(count, -1, -1).clone(),
        "corner": torch.zeros(count, dimensions),
        "id": [f"sample {k}" for k in range(count)],
        "index": torch.arange(count),
        "extra": {},
    }
