"""Several passes over an image combined: of several networks, mirrored, with dropout.

Three methods combine them; two are those of Schobs et al. (2022, Uncertainty estimation for
heatmap-based landmark localization), whose S-MHA is a single network:

- E-CPV (coordinate prediction variance), the main one: the mean of the members' coordinates, with the
  covariance of a member's coordinates around it (divisor M − 1).
- E-MHA (maximum heatmap activation): the decoded mean of the members' maps. Only if all members have maps
  of one size, one per landmark (PHD-Net does not). In a second stage they are maps of patches, which have the
  same centres for all members.
- `most-confident`: each landmark from the member that is most confident of it.

The confidence of a point is the mean of the members' confidences. A member's confidence is reduced with the
distance of its own point, to 0 at the radius that confidence refers to: two members that are further apart
never give more than ½.

A landmark is in the image if at least half of the members find it; the others are left out of E-CPV
and `most-confident`, and count with confidence 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lannunet_core import Coordinates, EvaluationMode
from lannunet_landmarks.predict.confident import radius_in_input
from lannunet_landmarks.predict.evaluator import decode_with
from lannunet_landmarks.predict.offsets import without
from lannunet_landmarks.predict.predictor import Locate, Located, of_landmarks
from lannunet_landmarks.predict.views import corrections, views
from lannunet_landmarks.session import LandmarkSession

MAIN = "E-CPV"


def together(sessions: Sequence[LandmarkSession]) -> Locate:
    """Predict with all passes of all sessions; a single pass is returned unchanged."""
    members = [view for session in sessions for view in views(session)]
    if len(members) == 1:
        return members[0]
    offsets = np.mean([one for session in sessions for one in corrections(session)], axis=0)
    decode = decode_with(sessions[0])
    return combined(members, lambda *given: without(decode(*given), offsets), radius_in_input(sessions[0]))


def combined(
    members: Sequence[Locate],
    decode: Callable[[Tensor, Mapping[str, Any], EvaluationMode], Coordinates],
    radius_of: Callable[[Mapping[str, Any]], Tensor],
) -> Locate:
    """Combine members by E-CPV, E-MHA and the most confident one.

    Args:
        members: One pass each.
        decode: Decodes the mean of their maps.
        radius_of: (B,) distance, in pixels of a batch's images, at which members disagree.
    """

    def locate(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
        found: list[Coordinates] = []
        votes: list[Tensor] = []
        within: list[tuple[float, str] | None] = []
        total: Any = []
        for member in members:
            located = member(batch, mode)
            found.append(located.main)
            within.append(located.within)
            if located.present is not None:
                votes.append(located.present)
            maps, count = located.maps, located.main.points.shape[1]
            if not of_landmarks(maps, batch["image"], count):
                maps = [] if located.patches is None else located.patches
            total = maps if not found[1:] else added(total, maps, in_place=len(found) > 2)
            del located, maps  # so that the next member can reuse the memory
        points = torch.stack([one.points.double().cpu() for one in found])  # (M, B, N, D)
        confidence = torch.stack([one.confidence.double().cpu() for one in found])  # (M, B, N)
        present = None
        if votes:
            said = torch.stack(votes)
            present = said.double().mean(0) >= 0.5
            points = points.masked_fill(~said[..., None], torch.nan)
        methods = {MAIN: mean_coordinates(points, confidence)}
        mean: Any = []
        if isinstance(total, Tensor):
            mean = total / len(members)
            methods["E-MHA"] = decode(mean, batch, mode)
        methods["most-confident"] = most_confident(points, confidence)
        told = [one.presence for one in found]
        presence = (
            None if None in told else torch.stack([p.double().cpu() for p in told if p is not None]).mean(0)
        )
        methods = {
            name: replace(
                one,
                confidence=agreed(one.points.double().cpu(), points, confidence, radius_of(batch)),
                presence=presence,
            )
            for name, one in methods.items()
        }
        alike = within[0] if len(set(within)) == 1 else None
        return Located(mean, methods, present, alike)

    return locate


def agreed(answer: Tensor, points: Tensor, confidence: Tensor, radius: Tensor) -> Tensor:
    """(B, N) the combined confidence of the members in a point.

    Args:
        answer: (B, N, D), the point; its confidence is 0 where it is NaN.
        points: (M, B, N, D) of the members; a member without a point has confidence 0.
        confidence: (M, B, N).
        radius: (B,).
    """
    share = (1 - (points - answer).norm(dim=-1) / radius[:, None]).clamp(min=0)
    mean: Tensor = (confidence * share).nan_to_num(0).mean(0)
    return mean


def added(total: Any, maps: Any, in_place: bool) -> Any:
    """The sum of maps of one shape, in the memory of `total` if allowed; an empty list if shapes differ."""
    if not (isinstance(total, Tensor) and isinstance(maps, Tensor) and total.shape == maps.shape):
        return []
    return total.add_(maps) if in_place else total + maps


def mean_coordinates(points: Tensor, confidence: Tensor) -> Coordinates:
    """The mean of points (M, B, N, D), without NaN, and their covariance; NaN for a single point."""
    known = torch.isfinite(points).all(-1)  # (M, B, N)
    mean = points.nanmean(0)
    away = torch.where(known[..., None], points - mean, 0)
    freedom = known.sum(0).sub(1).double()
    freedom = torch.where(freedom > 0, freedom, torch.nan)
    covariance = torch.einsum("mbni,mbnj->bnij", away, away) / freedom[..., None, None]
    return Coordinates(mean, confidence.mean(0), covariance)


def most_confident(points: Tensor, confidence: Tensor) -> Coordinates:
    """The points with the highest confidence (M, B, N) among (M, B, N, D), for each landmark."""
    known = torch.isfinite(points).all(-1)
    best = torch.where(known, confidence, -1).argmax(0)  # (B, N)
    chosen = best[None, ..., None].expand(1, *points.shape[1:])
    return Coordinates(points.gather(0, chosen)[0], confidence.gather(0, best[None])[0])
