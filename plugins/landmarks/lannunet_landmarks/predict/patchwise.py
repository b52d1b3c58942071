"""Predict a whole image patch by patch, with any network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lannunet_images import Room, Windows, level_scale
from torch import Tensor
from torch.nn import functional

from lannunet_core import Coordinates, EvaluationMode, UserError, map_tensors, spatial_size
from lannunet_landmarks.hooks import LandmarkHooks
from lannunet_landmarks.learner import LandmarkLearner
from lannunet_landmarks.predict.predictor import of_landmarks
from lannunet_landmarks.predict.prior import CentrePrior
from lannunet_landmarks.predict.stitch import finest, tensors_of

CPU = torch.device("cpu")
Device = torch.device
PROBES = 2  # random images for measuring the receptive field


MapsOf = Callable[[Mapping[str, Any]], Any]


def whole_maps(
    learner: LandmarkLearner, hooks: LandmarkHooks, batch_size: int, channels: int, room: Room
) -> MapsOf:
    """`Learner.maps`, for as many images at a time as fit into memory; if none fits, in patches."""
    in_patches = patchwise(learner, hooks, batch_size, channels, room)

    def maps(batch: Mapping[str, Any]) -> Any:
        size, every = spatial_size(batch["image"]), range(len(batch["image"]))

        def seen(window: tuple[int, ...]) -> Any:
            if window != size:
                return joined([in_patches(part_of(batch, [index]), window) for index in every])
            found = room.in_batches(every, len(every), lambda chosen: learner.maps(part_of(batch, chosen)))
            return joined([maps for maps, _ in found])

        return room.in_windows(size, seen)

    return maps


def stitched_maps(
    learner: LandmarkLearner,
    hooks: LandmarkHooks,
    patch_size: tuple[int, ...],
    batch_size: int,
    channels: int,
    room: Room | None = None,
) -> MapsOf:
    """A function that computes the maps of a batch of one image, like `Learner.maps`, but in patches.

    Patches are smaller than `patch_size` if that does not fit into memory.
    """
    room = room or Room()
    in_patches = patchwise(learner, hooks, batch_size, channels, room)
    return lambda batch: room.in_windows(patch_size, lambda window: in_patches(batch, window))


def patchwise(
    learner: LandmarkLearner, hooks: LandmarkHooks, batch_size: int, channels: int, room: Room
) -> Callable[[Mapping[str, Any], tuple[int, ...]], Any]:
    """A function that computes the maps of a batch of one image in patches of a given size."""
    learner.network.eval()
    measured: dict[tuple[int, ...], tuple[tuple[int, ...], tuple[int, ...]]] = {}  # strides and margin

    def maps(batch: Mapping[str, Any], patch_size: tuple[int, ...]) -> Any:
        image = batch["image"]  # (1, C, *S)

        def network(patches: Tensor, corners: Sequence[tuple[int, ...]] | None = None) -> Any:
            first = torch.zeros(len(patches), len(patch_size)) if corners is None else torch.tensor(corners)
            return learner.outputs(patch_batch(batch, patches, first))

        if patch_size not in measured:
            strides = output_strides(network, channels, patch_size, image.device)
            radius = receptive_radius(network, channels, patch_size, image.device)
            measured[patch_size] = strides, radius
        strides, margin = measured[patch_size]
        windows = Windows.over(spatial_size(image), patch_size, margin, strides)
        patches = predicted_patches(network, image, windows, batch_size, room)
        return learner.activate(hooks.stitch_heatmap(patches=patches, windows=windows), spatial_size(image))

    return maps


def patch_batch(batch: Mapping[str, Any], patches: Tensor, corners: Tensor) -> dict[str, Any]:
    """The batch of an image, converted for patches (P, C, *S) with corners (P, D)."""
    count, dimensions = corners.shape
    shift = torch.eye(dimensions + 1, dtype=torch.float64).repeat(count, 1, 1)
    shift[:, :-1, -1] = corners
    affine = (batch["affine"].cpu().double() @ shift).to(batch["affine"])
    return {**repeated(batch, count), "image": patches, "affine": affine, "corner": corners}


def part_of(batch: Mapping[str, Any], chosen: Sequence[int]) -> Mapping[str, Any]:
    """The images of a batch with these consecutive indices."""
    if len(chosen) == len(batch["image"]):
        return batch
    some = slice(chosen[0], chosen[-1] + 1)
    return {
        key: {name: one[some] for name, one in value.items()} if isinstance(value, Mapping) else value[some]
        for key, value in batch.items()
    }


def joined(parts: Sequence[Any]) -> Any:
    """Join the maps of parts of a batch."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Mapping):
        return {name: joined([part[name] for part in parts]) for name in first}
    if isinstance(first, list | tuple):
        return type(first)(joined(of_one) for of_one in zip(*parts, strict=True))
    return torch.cat(list(parts))


def repeated(batch: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A batch of one image, repeated `count` times."""
    many: dict[str, Any] = {}
    for key, value in batch.items():
        if isinstance(value, Mapping):
            many[key] = repeated(value, count)
        else:
            many[key] = (
                value.expand(count, *value.shape[1:]) if isinstance(value, Tensor) else [*value] * count
            )
    return many


def coordinates_around(
    maps_of: Callable[[Mapping[str, Any], Tensor], Any],
    hooks: LandmarkHooks,
    patch_size: tuple[int, ...],
    batch_size: int,
    batch: Mapping[str, Any],
    mode: EvaluationMode,
    room: Room | None = None,
    prior: CentrePrior | None = None,
) -> tuple[Coordinates, Tensor | None]:
    """Each landmark of one image, from a patch around its entry in `centres`; NaN if that is unknown.

    Only the map of its own landmark is used from a patch's N maps.

    Args:
        maps_of: The activated maps of a batch of patches, given the indices of their landmarks.
        hooks: The run's hooks.
        patch_size: Size of a patch, (x, y[, z]).
        batch_size: Patches at a time.
        batch: Batch of one image; `centres` is (1, N, D) in its pixels.
        mode: Mode as in `get_coords_from_heatmap`.
        room: Number of patches that fit into memory at the same time.
        prior: Weights the maps of landmarks by the distance from the centre; other maps are left as they are.

    Returns:
        The coordinates in pixels of the image, and the landmarks' own maps as in `Located.patches`.
    """
    image, centres = batch["image"], batch["centres"][0].cpu().double()
    half = (torch.tensor(patch_size) - 1) / 2
    known = torch.isfinite(centres).all(1).nonzero()[:, 0]
    # Whole pixels, so that nothing is resampled; clipped to the image, so that a patch is not empty.
    last = torch.tensor(spatial_size(image)) - 1
    places = centres[known].clamp(min=torch.zeros(len(half)), max=last)
    # Halfway values are rounded towards the middle, so that a mirrored image has the same patches.
    towards_0, towards_end = (places - half - 0.5).ceil(), (places - half + 0.5).floor()
    corners = torch.where(places > last / 2, towards_0, towards_end)
    count, dimensions = centres.shape
    points = centres.new_full((count, dimensions), math.nan)
    confidence = centres.new_zeros(count)
    covariance: Tensor | None = None
    presence: Tensor | None = None
    own_maps: Tensor | None = None

    def look(at: Sequence[int]) -> tuple[Tensor, dict[str, Any], Any]:
        some = slice(at[0], at[-1] + 1)
        cut = torch.stack([cut_patch(image[0], corner, patch_size) for corner in corners[some].long()])
        patches = patch_batch(batch, cut, corners[some])
        maps = maps_of(patches, known[some])
        if prior is not None and of_landmarks(maps, cut, count):
            maps = prior(maps, centres[known[some]] - corners[some], patch_size)
        return cut, patches, maps

    for (cut, patches, maps), at in (room or Room()).in_batches(range(len(known)), batch_size, look):
        landmarks, chosen = known[at[0] : at[-1] + 1], corners[at[0] : at[-1] + 1]
        found = hooks.get_coords_from_heatmap(
            heatmaps=maps,
            affine=patches["affine"],
            original_sizes=patches["original_size"],
            evaluation_mode=mode,
            image_size=patch_size,
        )
        own = torch.arange(len(chosen)), landmarks
        points[landmarks] = found.points.cpu().double()[own] + chosen
        confidence[landmarks] = found.confidence.cpu().double()[own]
        if found.covariance is not None:
            if covariance is None:
                covariance = centres.new_full((count, dimensions, dimensions), math.nan)
            covariance[landmarks] = found.covariance.cpu().double()[own]
        if found.presence is not None:
            presence = centres.new_zeros(count) if presence is None else presence
            presence[landmarks] = found.presence.cpu().double()[own]
        if of_landmarks(maps, cut, count):
            if own_maps is None:
                own_maps = maps.new_zeros(1, count, *maps.shape[2:])
            own_maps[0, landmarks] = maps[own]
    further = (None if one is None else one[None] for one in (covariance, presence))
    return Coordinates(points[None], confidence[None], *further), own_maps


def cut_patch(image: Tensor, corner: Tensor, size: tuple[int, ...]) -> Tensor:
    """The patch of `size` at `corner` (x, y[, z]) of an image (C, *S), with zeros beyond its border."""
    pads = []
    for first, length, side in zip(corner.tolist(), size, image.shape[:0:-1], strict=True):
        pads += [-first, first + length - side]  # negative values crop
    return functional.pad(image, pads)


def predicted_patches(
    network: Callable[[Tensor, Sequence[tuple[int, ...]]], Any],
    image: Tensor,
    windows: Windows,
    batch_size: int,
    room: Room,
) -> Iterator[tuple[Any, Sequence[tuple[int, ...]]]]:
    """The network's outputs for batches of patches of an image (1, C, *S), and the patches' corners."""
    beyond = [a - b for a, b in zip(windows.covered_size, spatial_size(image), strict=True)]
    image = functional.pad(image, [pad for side in beyond for pad in (0, side)])

    def outputs(chosen: Sequence[tuple[int, ...]]) -> Any:
        patches = [image[0][windows.box(corner)] for corner in chosen]
        return map_tensors(network(torch.stack(patches), chosen), Tensor.float)

    return room.in_batches(list(windows.corners()), batch_size, outputs)


def output_strides(
    network: Callable[[Tensor], Any], channels: int, size: tuple[int, ...], device: Device = CPU
) -> tuple[int, ...]:
    """The least common multiple (x, y[, z]) of the strides of a network's outputs, for an input of `size`.

    Raises:
        UserError: An output has no whole stride: the network does not divide the size.
    """
    sizes = output_sizes(network, channels, size, device)
    common = [1] * len(size)
    doubled = None
    for number, output in enumerate(sizes):
        strides = level_scale(size, output)
        whole = all(stride == int(stride) for stride in strides)
        if whole and any(int(stride).bit_count() > 1 for stride in strides):
            # 36 pixels to 4 may be a stride of 9, or of 8 with a remainder: twice as many pixels distinguish
            # them.
            doubled = doubled or output_sizes(network, channels, tuple(2 * side for side in size), device)
            whole = doubled[number] == tuple(2 * side for side in output)
        if not whole:
            raise UserError(
                f"an output of {'×'.join(map(str, output))} is not a whole fraction of it. Choose another "
                "size, such as a multiple of 32."
            )
        common = [math.lcm(a, int(b)) for a, b in zip(common, strides, strict=True)]
    return tuple(common)


def output_sizes(
    network: Callable[[Tensor], Any], channels: int, size: tuple[int, ...], device: Device = CPU
) -> list[tuple[int, ...]]:
    """Sizes (x, y[, z]) of all outputs with spatial axes."""
    with torch.no_grad():
        outputs = network(blank(1, channels, size, device))
    return [spatial_size(output) for output in tensors_of(outputs) if output.ndim == 2 + len(size)]


def receptive_radius(
    network: Callable[[Tensor], Any], channels: int, size: tuple[int, ...], device: Device = CPU
) -> tuple[int, ...]:
    """The number of pixels (x, y[, z]) beyond its own that an output depends on, for an input of `size`.

    Measured as the footprint of the gradient of the finest outputs' middles; limited by the size.
    """
    generator = torch.Generator().manual_seed(0)
    radius = [0] * len(size)
    for _ in range(PROBES):  # one at a time, as a gradient needs more memory than a prediction
        with torch.inference_mode(False), torch.enable_grad():
            noise = torch.randn(1, channels, *reversed(size), generator=generator)
            image = noise.to(device).requires_grad_()
            spatial = [out for out in tensors_of(finest(network(image))) if out.ndim == 2 + len(size)]
            for output in spatial:
                strides = level_scale(size, spatial_size(output))
                middle = [side // 2 for side in spatial_size(output)]
                values = output.float()
                for position in reversed(middle):
                    values = values.select(2, position)  # in the end (B, K)
                # Random weights, so that no two paths cancel.
                weights = torch.randn(values.shape, generator=generator).to(values.device)
                (gradient,) = torch.autograd.grad((values * weights).sum(), image, retain_graph=True)
                seen = (gradient != 0).flatten(0, 1).any(0)
                for axis, (position, stride) in enumerate(zip(middle, strides, strict=True)):
                    others = [a for a in range(seen.ndim) if a != seen.ndim - 1 - axis]
                    touched = seen.any(dim=others).nonzero()
                    if len(touched):
                        before = position * stride - int(touched.min())
                        after = int(touched.max()) - (position * stride + stride - 1)
                        radius[axis] = max(radius[axis], math.ceil(before), math.ceil(after))
    return tuple(radius)


def blank(batch: int, channels: int, size: tuple[int, ...], device: Device) -> Tensor:
    """Zeros (B, C, *S)."""
    return torch.zeros(batch, channels, *reversed(size), device=device)
