"""Sessions and small batches of classes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lannunet_core import Session
from lannunet_core.testing import Kind, Subject, batch_of, build, draw_noise, draw_points, gaussians, isolated
from lannunet_segmentation.session import SegmentationSession

BALL = 4.0  # radius of the ball of a class, in pixels


def class_names(count: int) -> tuple[str, ...]:
    """The background and this many classes."""
    return ("background", *(f"class {n}" for n in range(1, count + 1)))


def start(subject: Subject, kind: Kind) -> SegmentationSession:
    """A session with two classes in addition to the background."""
    return cast(SegmentationSession, build(subject, kind))


def segmentation_batch(session: Session, count: int = 2, seed: int = 0) -> dict[str, Any]:
    """A collated batch: each class is a ball with its own brightness, on noise."""
    run = session.run
    size, classes, dimensions = run.input_size, len(run.outputs), run.dimensions
    label = torch.zeros(count, *reversed(size), dtype=torch.int16)
    middles = draw_points(size, count, classes - 1, seed)
    for value, near in enumerate(gaussians(middles, size, sigma=1.0).unbind(1), start=1):
        label[near > np.exp(-(BALL**2) / 2)] = value
    brightness = torch.tensor([0.0, *((-1) ** n * (3 + n) for n in range(classes - 1))])
    return {
        **batch_of(brightness[label.long()][:, None] + draw_noise(size, count, run.in_channels, seed)),
        "label": label,
        "spacing": torch.ones(count, dimensions, dtype=torch.float64),
    }


def segmented(session: Session, maps: Tensor) -> Tensor:
    """The labels (B, *S) of activated maps (B, K, *S)."""
    with isolated(), torch.no_grad():
        hooks = cast(SegmentationSession, session).hooks
        return torch.stack([hooks.get_segmentation(maps=one) for one in maps])
