"""Several passes over an image with one network: mirrored, and with dropout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from lannunet_core import (
    Coordinates,
    EvaluationMode,
    Floats,
    Scheme,
    UserError,
    call_accepting,
    make_scheme,
    seed_step,
    spatial_size,
)
from lannunet_landmarks.predict.evaluator import locate_with
from lannunet_landmarks.predict.predictor import Locate, Located, of_landmarks
from lannunet_landmarks.session import LandmarkSession

DRAWS = 256


def views(session: LandmarkSession) -> list[Locate]:
    """One pass over the image, then over mirrored ones (`inference.tta`), then with dropout
    (`inference.mc_dropout`)."""
    axes, layers = axes_and_layers(session)
    order, prior = swapped(session), session.shape
    plain = locate_with(session)

    def mirrored_view(axis: int) -> Locate:
        reflected = None if prior is None else prior.mirrored(axis, order.numpy())
        return mirrored(locate_with(replace(session, shape=reflected)), axis, order)

    passes = range(session.config.inference.mc_dropout)
    return [
        plain,
        *map(mirrored_view, axes),
        *(with_dropout(plain, layers, session.run.seed, number) for number in passes),
    ]


def corrections(session: LandmarkSession) -> list[Floats]:
    """What each of `views` subtracts from its points (N, D), in pixels of the image that is not mirrored."""
    axes, _ = axes_and_layers(session)
    own, order = session.correction, swapped(session).numpy()
    signs = [np.where(np.arange(own.shape[1]) == axis, -1.0, 1.0) for axis in axes]
    return [own, *((own * sign)[order] for sign in signs), *[own] * session.config.inference.mc_dropout]


def axes_and_layers(session: LandmarkSession) -> tuple[list[int], list[nn.Module]]:
    """The axes to mirror and the layers with dropout; raises a UserError if the network does not support
    them."""
    config = session.config
    axes: list[int] = []
    if config.inference.tta:
        scheme = make_scheme(config.sampler.data_aug, session.hooks.augmentations())
        axes = mirrored_axes(scheme, session.run.dimensions)
        if not axes:
            raise UserError(
                f"inference.tta: sampler.data_aug {config.sampler.data_aug} never mirrors, so the network "
                "has not learned mirrored images. Set it to false, or train with a scheme that mirrors."
            )
    layers = dropout_layers(session.learner.network)
    if config.inference.mc_dropout and not layers:
        raise UserError(
            f"inference.mc_dropout: the network of {session.loaded.architecture.installed.name} has no "
            "dropout. Set it to 0, or train a network with dropout (U-Net: model.unet.dropout)."
        )
    return axes, layers


def mirrored_axes(scheme: Scheme, dimensions: int) -> list[int]:
    """The axes (0 for x) that a scheme mirrors, one at a time, as in training."""
    rng = np.random.default_rng(0)
    given = {"rng": rng, "size": (64,) * dimensions, "sample": None, "epoch": 0}
    drawn = [call_accepting(scheme.draw, **given).spatial for _ in range(DRAWS)]
    negative = {tuple(np.diag(spatial.linear) < 0) for spatial in drawn if spatial.mirrored}
    alone = np.eye(dimensions, dtype=bool)
    return [axis for axis in range(dimensions) if tuple(alone[axis]) in negative]


def swapped(session: LandmarkSession) -> Tensor:
    """(N,) the landmark that replaces each one in a mirrored image."""
    dataset, count = session.config.dataset, len(session.run.outputs)
    selected = dataset.landmarks or list(range(count))
    order = torch.arange(count)
    for left, right in dataset.flip_pairs:
        if left in selected:  # then right is too
            pair = [selected.index(left), selected.index(right)]
            order[pair] = torch.tensor(pair[::-1])
    return order


def mirrored(locate: Locate, axis: int, swapped: Tensor) -> Locate:
    """`locate` on images that are mirrored along an axis (0 for x), with the result mirrored back."""

    def view(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
        image = batch["image"]
        last = spatial_size(image)[axis] - 1
        reflection = torch.eye(image.ndim - 1, dtype=batch["affine"].dtype, device=image.device)
        reflection[axis, axis], reflection[axis, -1] = -1, last
        changed = {"image": image.flip(-1 - axis), "affine": batch["affine"] @ reflection}
        if "centres" in batch:
            changed["centres"] = reflect(batch["centres"], axis, last)[:, swapped]
        located = locate({**batch, **changed}, mode)
        maps: Any = []
        if of_landmarks(located.maps, image, len(swapped)):
            maps = located.maps.flip(-1 - axis)[:, swapped]
        return replace(
            located,
            maps=maps,
            methods={
                name: mirrored_back(found, axis, last, swapped) for name, found in located.methods.items()
            },
            present=None if located.present is None else located.present[:, swapped],
            patches=None if located.patches is None else located.patches.flip(-1 - axis)[:, swapped],
        )

    return view


def mirrored_back(found: Coordinates, axis: int, last: int, swapped: Tensor) -> Coordinates:
    covariance = found.covariance
    if covariance is not None:
        sign = torch.ones(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        sign[axis] = -1
        covariance = (covariance * sign * sign[:, None])[:, swapped]
    points = reflect(found.points, axis, last)[:, swapped]
    presence = None if found.presence is None else found.presence[:, swapped]
    return Coordinates(points, found.confidence[:, swapped], covariance, presence)


def reflect(points: Tensor, axis: int, last: int) -> Tensor:
    points = points.clone()
    points[..., axis] = last - points[..., axis]
    return points


def dropout_layers(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, _DropoutNd) and layer.p > 0]


def with_dropout(locate: Locate, layers: Sequence[nn.Module], seed: int, number: int) -> Locate:
    """`locate` with dropout that is a function of the pass and the first sample of the batch."""

    def view(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
        device = batch["image"].device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            seed_step(seed, number, int(batch["index"][0]))
            for layer in layers:
                layer.train()
            try:
                return locate(batch, mode)
            finally:
                for layer in layers:
                    layer.eval()

    return view
