"""Several looks at an image together: of several networks, mirrored, with dropout.

Three methods make one answer of them:

- E-CPV, the main one: the mean of the members' coordinates, with the covariance of a member's coordinates
  around it (divisor M − 1). Its confidence is the members' mean.
- S-MHA: each landmark from the member that is most confident of it.
- E-MHA: what the mean of the members' maps decodes to. Only where all make maps of one size, one a landmark
  (PHD-Net does not).

A landmark is in the image where at least half of the members say so; those that do not have no part in E-CPV
and S-MHA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lannunet_core import Coordinates, EvaluationMode
from lannunet_landmarks.hooks import LandmarkHooks
from lannunet_landmarks.predict.predictor import Locate, Located, decode
from lannunet_landmarks.predict.views import of_landmarks, views
from lannunet_landmarks.session import LandmarkSession


def together(sessions: Sequence[LandmarkSession]) -> Locate:
    """By all looks of all sessions; a single one answers as it is."""
    members = [view for session in sessions for view in views(session)]
    return combined(members, sessions[0].hooks) if len(members) > 1 else members[0]


def combined(members: Sequence[Locate], hooks: LandmarkHooks) -> Locate:
    """By E-CPV, S-MHA and E-MHA; `hooks` decode the mean map."""

    def locate(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
        found: list[Coordinates] = []
        votes: list[Tensor] = []
        total: Any = None
        for member in members:
            located = member(batch, mode)
            found.append(located.main)
            if located.present is not None:
                votes.append(located.present)
            maps, count = located.maps, located.main.points.shape[1]
            maps = maps if of_landmarks(maps, batch["image"], count) else []
            total = maps if total is None else added(total, maps)
        points = torch.stack([one.points.double().cpu() for one in found])  # (M, B, N, D)
        confidence = torch.stack([one.confidence.double().cpu() for one in found])  # (M, B, N)
        present = None
        if votes:
            said = torch.stack(votes)
            present = said.double().mean(0) >= 0.5
            points = points.masked_fill(~said[..., None], torch.nan)
        methods = {"E-CPV": mean_coordinates(points, confidence), "S-MHA": most_confident(points, confidence)}
        mean: Any = []
        if isinstance(total, Tensor):
            mean = total / len(members)
            methods["E-MHA"] = decode(hooks, mean, batch, mode)
        return Located(mean, methods, present)

    return locate


def added(total: Any, maps: Any) -> Any:
    """The sum of maps of one shape; an empty list where there is none."""
    both = isinstance(total, Tensor) and isinstance(maps, Tensor) and total.shape == maps.shape
    return total + maps if both else []


def mean_coordinates(points: Tensor, confidence: Tensor) -> Coordinates:
    """The mean of points (M, B, N, D), NaN ones left out, and their covariance; NaN from a single one."""
    known = torch.isfinite(points).all(-1)  # (M, B, N)
    mean = points.nanmean(0)
    away = torch.where(known[..., None], points - mean, 0)
    freedom = known.sum(0).sub(1).double()
    freedom = torch.where(freedom > 0, freedom, torch.nan)
    covariance = torch.einsum("mbni,mbnj->bnij", away, away) / freedom[..., None, None]
    return Coordinates(mean, confidence.mean(0), covariance)


def most_confident(points: Tensor, confidence: Tensor) -> Coordinates:
    """Of points (M, B, N, D), each landmark's with the highest confidence (M, B, N)."""
    known = torch.isfinite(points).all(-1)
    best = torch.where(known, confidence, -1).argmax(0)  # (B, N)
    chosen = best[None, ..., None].expand(1, *points.shape[1:])
    return Coordinates(points.gather(0, chosen)[0], confidence.gather(0, best[None])[0])
