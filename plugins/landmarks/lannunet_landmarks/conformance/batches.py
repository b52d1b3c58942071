"""Sessions and small batches of landmarks."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from lannunet_core import Session, State
from lannunet_core.testing import Kind, Subject, batch_of, build, draw_noise, draw_points, gaussians
from lannunet_landmarks.session import LandmarkSession


def start(subject: Subject, kind: Kind, things: int = 2) -> LandmarkSession:
    """A session with this many landmarks."""
    return cast(LandmarkSession, build(subject, kind, things=things))


def landmark_batch(
    session: Session, count: int = 2, states: Tensor | None = None, seed: int = 0
) -> dict[str, Any]:
    """A collated batch: each visible landmark is a blob with its own brightness, on noise.

    Args:
        session: Session of the run.
        count: B.
        states: (B, N) of `State`; all visible by default.
        seed: Seed of points and noise.
    """
    run = session.run
    size, landmarks, dimensions = run.input_size, len(run.outputs), run.dimensions
    points = draw_points(size, count, landmarks, seed)
    states = torch.zeros(count, landmarks, dtype=torch.int64) if states is None else states
    brightness = torch.tensor([(-1) ** n * (3 + n) for n in range(landmarks)]).float()
    visible = brightness * (states == State.VISIBLE)
    blobs = (gaussians(points, size) * visible.reshape(*visible.shape, *[1] * dimensions)).sum(
        1, keepdim=True
    )
    moved_out = points + torch.tensor(size) * torch.where(points.mean((1, 2), keepdim=True) > 0, 1.0, -1.0)
    points = torch.where((states == State.OUTSIDE)[..., None], moved_out, points)
    unknown = (states == State.ABSENT) | (states == State.UNLABELLED)
    return {
        **batch_of(blobs + draw_noise(size, count, run.in_channels, seed)),
        "landmarks": torch.where(unknown[..., None], torch.nan, points),
        "states": states,
        "original_size": torch.tensor(size).expand(count, -1).clone(),
        "spacing": torch.full((count, dimensions), torch.nan, dtype=torch.float64),
    }
