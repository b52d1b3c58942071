"""Checks of `get_coords_from_heatmap` and `decoders`. Each docstring states the contract.

Where labels and loss are the task's, a decoder gets Gaussians of peak 1; otherwise the maps that the plugin's
own loss computes from perfect outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from lannunet_images import resize_affine
from torch import Tensor

from lannunet_core import Coordinates, EvaluationMode, map_tensors, spatial_size
from lannunet_core.testing import (
    Broken,
    Kind,
    Subject,
    activate,
    gaussians,
    isolated,
    perfect_outputs,
    untouched,
)
from lannunet_landmarks.conformance.batches import landmark_batch, start
from lannunet_landmarks.conformance.points import compare_points, decode
from lannunet_landmarks.session import LandmarkSession

MODES: tuple[EvaluationMode, ...] = ("use_input_size", "scale_pred_coords", "scale_heatmap_first")


def decodes_to_the_point(subject: Subject) -> None:
    """A perfect map decodes to its point (x, y[, z]) in input pixels, unrounded, in every evaluation mode."""
    for kind, session, batch, maps in _perfect(subject):
        size = session.run.input_size
        original = tuple(3 * side + 1 for side in size)
        resized = {
            **batch,
            "affine": torch.from_numpy(resize_affine(original, size)).expand(2, -1, -1).clone(),
            "original_size": torch.tensor(original).expand(2, -1).clone(),
        }
        for mode in MODES:
            found = decode(session, maps, batch if mode == "use_input_size" else resized, mode)
            what = f"decoding in {kind} ({mode})"
            compare_points(found.points, batch["landmarks"], subject.decoding_error, what)


def decoded_shapes(subject: Subject) -> None:
    """Points are (B, N, D), confidence (B, N), covariance (B, N, D, D) with positive variances, or None."""
    for kind, session, batch, maps in _perfect(subject):
        found = decode(session, maps, batch)
        wanted = tuple(batch["landmarks"].shape)
        if not isinstance(found, Coordinates):
            raise Broken(f"in {kind} the hook returns {found!r:.200}, should be lannunet_core.Coordinates")
        if tuple(found.points.shape) != wanted or tuple(found.confidence.shape) != wanted[:2]:
            raise Broken(
                f"in {kind} points are {tuple(found.points.shape)} and confidence "
                f"{tuple(found.confidence.shape)}, should be {wanted} and {wanted[:2]}"
            )
        if not (found.points.is_floating_point() and found.confidence.is_floating_point()):
            raise Broken(
                f"points are {found.points.dtype} and confidence {found.confidence.dtype}, should be floats"
            )
        covariance = found.covariance
        if covariance is None:
            continue
        if tuple(covariance.shape) != (*wanted, kind.dimensions):
            raise Broken(
                f"in {kind} covariance is {tuple(covariance.shape)}, should be {(*wanted, kind.dimensions)}"
            )
        covariance = covariance.double()
        if (
            not torch.allclose(covariance, covariance.mT, atol=1e-6)
            or torch.linalg.eigvalsh(covariance).min() < -1e-6
        ):
            raise Broken(
                f"in {kind} a covariance is not symmetric with positive variances: {covariance[0, 0]}"
            )


def flat_maps_have_no_point(subject: Subject) -> None:
    """A map that is 0 everywhere has no point: the result is NaN with confidence 0, not a coordinate."""
    for kind, session, batch, maps in _perfect(subject):
        found = decode(session, map_tensors(maps, torch.zeros_like), batch)
        if not found.points.isnan().all():
            raise Broken(f"in {kind} a map of zeros decodes to {found.points[0, 0].tolist()}, should be NaN")
        if not (found.confidence == 0).all():
            raise Broken(f"in {kind} the confidence in maps of zeros is {found.confidence.tolist()}, not 0")


def confidence_is_a_share(subject: Subject) -> None:
    """Confidence lies in 0 … 1, and a higher peak of a map never lowers it."""
    for kind, session, batch, maps in _perfect(subject):
        confidences = []
        for height in (0.2, 1.0, 3.0):
            confidence = decode(session, map_tensors(maps, partial(torch.mul, height)), batch).confidence
            if not ((confidence >= 0) & (confidence <= 1)).all():
                raise Broken(
                    f"in {kind} confidence is {confidence.tolist()} in perfect maps times {height}; "
                    "it should lie in 0 … 1"
                )
            confidences.append(confidence)
        if confidences[1].min() < 0.5:
            raise Broken(f"in {kind} perfect maps have the low confidence {confidences[1].tolist()}")
        if (confidences[0] > confidences[1] + 1e-6).any():
            raise Broken(
                f"in {kind} the confidence is {confidences[0].tolist()} in maps of a fifth of the "
                f"height and {confidences[1].tolist()} in perfect ones; higher is more certain"
            )


def samples_are_decoded_alone(subject: Subject) -> None:
    """The points of a sample depend neither on the other samples of its batch nor on chance."""
    for kind, session, batch, maps in _perfect(subject):
        with isolated(), untouched("decoding"):
            first, again = (
                session.hooks.get_coords_from_heatmap(
                    heatmaps=maps,
                    affine=batch["affine"],
                    original_sizes=batch["original_size"],
                    evaluation_mode="use_input_size",
                    image_size=spatial_size(batch["image"]),
                )
                for _ in range(2)
            )
        swapped = decode(session, map_tensors(maps, lambda tensor: tensor.flip(0)), batch)
        for other, what in ((again, "twice"), (Coordinates(*_flipped(swapped)), "in another order")):
            if not torch.allclose(first.points, other.points, atol=1e-4, equal_nan=True):
                raise Broken(f"in {kind} a batch decoded {what} gives other points")


def _flipped(found: Coordinates) -> tuple[Tensor, Tensor]:
    return found.points.flip(0), found.confidence.flip(0)


def _perfect(subject: Subject) -> Iterator[tuple[Kind, LandmarkSession, dict[str, Any], Any]]:
    """For each number of dimensions a session, a batch, and activated maps of its landmarks."""
    for kind in subject.kinds():
        session = start(subject, kind)
        batch = landmark_batch(session)
        if subject.has_own_outputs(kind.task):
            maps = activate(session, perfect_outputs(subject, session, batch), batch)
        else:
            maps = gaussians(batch["landmarks"], session.run.input_size)
        yield kind, session, batch, maps
