"""The class scores of a whole image, stitched from those of overlapping patches.

Patches are half of their size apart and have Gaussian weights around their middle (Isensee et al. 2021). They
are summed in half precision where they are stored: the weights sum to 1 at every voxel, so nothing overflows,
and each of the up to 3^D patches there rounds the sum by at most 2^-12. Except for the scores (in memory or
in a scratch file), nothing is as large as the image.
"""

from __future__ import annotations

import functools
import itertools
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lannunet_images import Room, Windows
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lannunet_core import RunFailed, levels, map_tensors
from lannunet_segmentation.data.cutting import cut_box

Inputs = Callable[[Tensor, Tensor], Mapping[str, Any]]
"""Additional inputs of the network, by name, for patches (B, C, *P) and the affines (B, D + 1, D + 1) from
their pixels to those of the image that they are cut from."""
PatchScores = Callable[[Tensor, Sequence[Sequence[int]]], Tensor]
"""The scores (B, K, *P) float32 of patches (B, C, *P), given their first pixels (x, y[, z]) in the image."""


def softmax(outputs: Any) -> Tensor:
    """Softmax over the classes of (B, K, *S), or of the finest of a list."""
    return levels(outputs)[0].softmax(1)


def predict_scores(
    network: Callable[..., Any],
    image: NDArray[np.float32],
    patch_size: Sequence[int],
    device: torch.device | str,
    *,
    classes: int,
    batch_size: int = 1,
    mirror: bool = False,
    scratch: Path | None = None,
    activation: Callable[[Any], Tensor] = softmax,
    progress: Callable[[int, int], None] | None = None,
    inputs: Inputs | None = None,
) -> Tensor:
    """Predict an image patch by patch with one network; for the other arguments see `stitched_scores`.

    Args:
        network: Maps (B, C, *P) to raw outputs (B, K, *P), or to a list of them with the finest first, or to
            another argument of `activation`; in evaluation mode.
        mirror: Average each patch over its mirror images along all axes: 2^D times the work.
        activation: Converts the raw outputs, all of them, into the scores (B, K, *P) that are averaged.
        inputs: Additional inputs of the network.
    """

    def of_patches(patches: Tensor, firsts: Sequence[Sequence[int]]) -> Tensor:
        return patch_scores(network, patches, activation, mirror, inputs, firsts)

    return stitched_scores(
        of_patches,
        image,
        patch_size,
        device,
        classes=classes,
        batch_size=batch_size,
        scratch=scratch,
        progress=progress,
    )


def stitched_scores(
    of_patches: PatchScores,
    image: NDArray[np.float32],
    patch_size: Sequence[int],
    device: torch.device | str,
    *,
    classes: int,
    batch_size: int = 1,
    scratch: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    room: Room | None = None,
) -> Tensor:
    """Predict an image patch by patch.

    Args:
        of_patches: Returns the scores of patches on the device.
        image: Prepared image, (C, *S); may be memory-mapped, only patches of it are read. A smaller image is
            centred in a patch, with its mirror images around.
        patch_size: Size (x, y[, z]) in pixels.
        device: Device of the networks.
        classes: K.
        batch_size: Patches at a time.
        scratch: Folder for a temporary file that holds the scores instead of memory; it is removed when
            the scores are released, or the process ends. None: in memory.
        progress: Called with the number of finished patches, and of all.
        room: Number of patches per batch that fit into memory.

    Returns:
        (K, *S) float16 on the CPU.

    Raises:
        RunFailed: There is not enough space for the temporary file.
    """
    size = image.shape[:0:-1]
    frame = [max(side, patch) for side, patch in zip(size, patch_size, strict=True)]
    before = [(outer - side) // 2 for outer, side in zip(frame, size, strict=True)]
    windows = Windows.over(frame, patch_size, [0] * len(frame))
    weights = [
        {start: weight.to(device, torch.float32) for start, weight in windows.weights(axis).items()}
        for axis in range(len(frame))
    ]
    scores = half_precision((classes, *reversed(frame)), scratch)

    @torch.no_grad()
    def maps_of(chosen: Sequence[tuple[int, ...]]) -> Tensor:
        firsts = [[at - margin for at, margin in zip(corner, before, strict=True)] for corner in chosen]
        cuts = [cut_box(image, first, patch_size).astype(np.float32, copy=False) for first in firsts]
        return of_patches(torch.from_numpy(np.stack(cuts)).to(device), firsts)

    corners, done = list(windows.corners()), 0
    for maps, chosen in (room or Room()).in_batches(corners, batch_size, maps_of):
        for one, corner in zip(maps, chosen, strict=True):
            weight = torch.ones((), device=device)
            for axis, start in enumerate(corner):
                weight = weight * weights[axis][start].reshape(-1, *[1] * axis)
            # Class by class, which fits into the processor's caches: five times as fast.
            for target, class_map in zip(scores[windows.box(corner)], one, strict=True):
                target += (class_map * weight).cpu()
        done += len(chosen)
        if progress:
            progress(done, len(corners))
    for axis, (margin, side) in enumerate(zip(before, size, strict=True)):
        scores = scores.narrow(-1 - axis, margin, side)
    return scores


def patch_scores(
    network: Callable[..., Any],
    patches: Tensor,
    activation: Callable[[Any], Tensor],
    mirror: bool,
    inputs: Inputs | None = None,
    firsts: Sequence[Sequence[int]] = (),
) -> Tensor:
    """(B, K, *P) float32 of patches (B, C, *P), averaged over mirror images if requested.

    For `inputs`, see `predict_scores`, there are the first pixels (x, y[, z]) of all patches in their image.
    """
    axes = range(2, patches.ndim)
    mirrors = [
        flipped
        for number in range(len(axes) + 1 if mirror else 1)
        for flipped in itertools.combinations(axes, number)
    ]

    def predicted(flipped: tuple[int, ...]) -> Tensor:
        seen = patches.flip(flipped)
        further = {} if inputs is None else inputs(seen, affines(firsts, seen.shape[:1:-1], flipped))
        maps = activation(map_tensors(network(seen, **further), Tensor.float))
        if maps.shape[2:] != patches.shape[2:]:
            mode = "bilinear" if patches.ndim == 4 else "trilinear"
            maps = functional.interpolate(maps, patches.shape[2:], mode=mode)
        return maps.flip(flipped)

    return functools.reduce(torch.add, map(predicted, mirrors)) / len(mirrors)


def affines(firsts: Sequence[Sequence[int]], size: Sequence[int], flipped: Sequence[int]) -> Tensor:
    """The affines from pixels of patches to the image that they are cut from, (B, D + 1, D + 1) float64.

    Args:
        firsts: The patches' first pixels (x, y[, z]).
        size: Size of a patch, (x, y[, z]).
        flipped: The axes of (B, C, *P) along which the patches were mirrored after cutting.
    """
    dimensions = len(size)
    matrices = torch.eye(dimensions + 1, dtype=torch.float64).repeat(len(firsts), 1, 1)
    matrices[:, :-1, -1] = torch.as_tensor(np.array(firsts), dtype=torch.float64)
    for axis in flipped:
        along = dimensions + 1 - axis  # x is the last axis
        matrices[:, along, -1] += size[along] - 1
        matrices[:, along, along] = -1
    return matrices


def half_precision(shape: Sequence[int], scratch: Path | None) -> Tensor:
    """Zeros in float16, in memory or mapped to a file without a name in `scratch`."""
    if scratch is None:
        return torch.zeros(*shape, dtype=torch.float16)
    count = math.prod(shape)
    try:
        with tempfile.TemporaryFile(dir=scratch) as file:
            # Space is allocated now: writing to a mapping on a full disk would kill the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, 2 * count)
            else:
                file.truncate(2 * count)
            mapping = mmap.mmap(file.fileno(), 2 * count)
    except OSError as error:
        raise RunFailed(
            f"{scratch}: no room for {2 * count / 1e9:.1f} GB of class scores ({error.strerror}). "
            "Free some space or choose another output folder."
        ) from error
    return torch.frombuffer(mapping, dtype=torch.float16, count=count).reshape(*shape)
