"""The labels of every patch, computed for a whole batch on the device of its landmarks.

Patch i of an axis covers the pixels i · p … (i + 1) · p − 1 of the network's input; its centre is pixel
(i + ½) · p − ½. The last patch may extend beyond the image. The grid starts at the first pixel of the input,
so labels do not depend on its position in the image.

Shapes: B batch, N landmarks, D dimensions, P patches per axis ([z,] y, x).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from lannunet_landmarks import gaussian_heatmaps, volumes
from torch import Tensor

from lannunet_core import State

ClassLabels = Literal["gaussian", "binary", "binary_weighted"]


def generate_labels(
    landmarks: Tensor,
    states: Tensor,
    image_size: Sequence[int],
    sigma: Tensor,
    patch_size: int,
    class_labels: ClassLabels | None = "gaussian",
    with_displacement: bool = True,
    weight_by_distance: bool = True,
    log_displacement: bool = True,
    longest: float | None = None,
) -> dict[str, Any]:
    """Labels of every patch.

    Args:
        landmarks: (B, N, D) in pixels of the network's input; any values for landmarks that are not visible.
        states: (B, N) of `State`.
        image_size: Size of the input, (x, y[, z]).
        sigma: (N,) or (1,), width of the Gaussians in patches; or (N, D, D), as in `gaussian_heatmaps`.
        patch_size: Pixels per side.
        class_labels: Kind of the heatmap; None: there is none.
        with_displacement: Whether there are displacements.
        weight_by_distance: Whether displacements are weighted by a Gaussian around the landmark.
        log_displacement: Whether displacements are log-transformed.
        longest: Maximum length of displacements in pixels; longer ones are shortened in the same direction.

    Returns:
        `state`; `heatmap` (B, N, *P), 0 … 1; `heatmap_weight`, the weight of each patch's squared error, for
        which a missing peak has an error of 1; `displacement` (B, N · D, *P) from each patch's centre to the
        landmark in pixels, (x, y[, z]) of each landmark; and `displacement_weight` (B, N, *P), 0 … 1. For
        landmarks that are not visible, the heatmap and the displacement's weight are 0.
    """
    patches = patch_counts(image_size, patch_size)
    visible = (states == State.VISIBLE).reshape(*states.shape, *[1] * len(patches))
    landmarks = torch.where((states == State.VISIBLE)[..., None], landmarks, 0)  # 0 · NaN is NaN
    # The grid of patches is a level of the network; its image is the area that all patches cover.
    covered = [count * patch_size for count in patches]
    (gaussian,) = gaussian_heatmaps(landmarks, states, sigma[None], covered, [patches], 1.0)

    labels: dict[str, Any] = {"state": states}
    if class_labels == "gaussian":
        labels["heatmap"] = gaussian
        # The integral of a squared Gaussian.
        energy = math.pi ** (len(patches) / 2) * volumes(sigma.detach()[None], len(patches))[0]
        labels["heatmap_weight"] = (1 / energy).reshape(-1, *[1] * len(patches)).expand_as(gaussian)
    elif class_labels is not None:
        heatmap = one_patch(landmarks, patches, patch_size).to(gaussian.dtype) * visible
        labels["heatmap"] = heatmap
        labels["heatmap_weight"] = torch.ones_like(heatmap)
        if class_labels == "binary_weighted":
            others = max(math.prod(patches) - 1, 1)
            labels["heatmap_weight"] = torch.where(heatmap > 0, 1, 1 / others)
    if with_displacement:
        displacement = displacements(landmarks, patches, patch_size)  # (B, N, D, *P)
        if longest is not None:
            displacement = shorten(displacement, longest)
        if log_displacement:
            displacement = log_transform(displacement)
        labels["displacement"] = displacement.flatten(1, 2)
        labels["displacement_weight"] = (
            gaussian.detach() if weight_by_distance else visible.to(gaussian.dtype).expand_as(gaussian)
        )
    return labels


def patch_counts(image_size: Sequence[int], patch_size: int) -> tuple[int, ...]:
    """Patches along each axis (x, y[, z]); the last may extend beyond the image."""
    return tuple(-(-side // patch_size) for side in image_size)


def patch_centres(patches: int, patch_size: int, like: Tensor) -> Tensor:
    """The patches' centres (P,) in pixels along an axis, with the dtype and device of `like`."""
    return (torch.arange(patches, dtype=like.dtype, device=like.device) + 0.5) * patch_size - 0.5


def displacements(landmarks: Tensor, patches: Sequence[int], patch_size: int) -> Tensor:
    """Displacements (B, N, D, *P) from patches' centres to landmarks (B, N, D), pixels along (x, y[, z])."""
    dimensions = len(patches)
    components = []
    for axis, count in enumerate(patches):
        along = landmarks[..., axis, None] - patch_centres(count, patch_size, landmarks)  # (B, N, P_axis)
        # x is the last axis of a tensor, y the one before it.
        shape = [1] * dimensions
        shape[-1 - axis] = count
        components.append(along.reshape(*landmarks.shape[:2], *shape).expand(-1, -1, *patches[::-1]))
    return torch.stack(components, dim=2)


def one_patch(landmarks: Tensor, patches: Sequence[int], patch_size: int) -> Tensor:
    """A mask (B, N, *P) of the patch that contains each landmark (B, N, D)."""
    inside: Tensor | None = None
    for axis in reversed(range(len(patches))):  # [z,] y, x
        index = ((landmarks[..., axis] + 0.5) / patch_size).floor().clamp(0, patches[axis] - 1)
        along = torch.arange(patches[axis], device=landmarks.device) == index[..., None]
        along = along.reshape(*landmarks.shape[:2], *[1] * (0 if inside is None else inside.ndim - 2), -1)
        inside = along if inside is None else inside[..., None] & along
    assert inside is not None
    return inside


def shorten(displacement: Tensor, longest: float) -> Tensor:
    """Scale vectors (B, N, D, *P) longer than `longest` to that length."""
    length = displacement.square().sum(dim=2, keepdim=True).sqrt()
    return displacement * (longest / length.clamp(min=longest))


def log_transform(displacement: Tensor) -> Tensor:
    """sign(d) · log(1 + |d|), which emphasises near landmarks (Noothout et al. 2018); 0 stays 0."""
    return displacement.sign() * displacement.abs().log1p()


def undo_log_transform(transformed: Tensor) -> Tensor:
    """The inverse of `log_transform`."""
    return transformed.sign() * transformed.abs().expm1()
