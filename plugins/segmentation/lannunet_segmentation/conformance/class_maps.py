"""Checks of `get_segmentation`. Each docstring states the contract."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lannunet_core import Session
from lannunet_core.testing import Broken, Subject, describe, isolated, untouched
from lannunet_segmentation.conformance.batches import start


def labels_are_classes(subject: Subject) -> None:
    """For maps (K, *S) the result is (*S) whole numbers, each the label of one of the K classes."""
    for kind in subject.kinds():
        session = start(subject, kind)
        maps = _maps(session)
        with isolated():
            labels = session.hooks.get_segmentation(maps=maps)
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.shape != maps.shape[1:]:
            raise Broken(
                f"in {kind} of maps {tuple(maps.shape)} the labels are {describe(labels)}, should be whole "
                f"numbers of shape {tuple(maps.shape[1:])}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(maps):
            raise Broken(f"in {kind} of {len(maps)} classes the labels are {low} … {high}, not 0 … K - 1")


def slabs_are_labelled_alone(subject: Subject) -> None:
    """Labelling slab by slab equals labelling at once; it is deterministic, and uses no global generator."""
    for kind in subject.kinds():
        session = start(subject, kind)
        maps = _maps(session)
        half = maps.shape[1] // 2
        with isolated(), untouched("get_segmentation"):
            whole, again, first, second = (
                session.hooks.get_segmentation(maps=part.clone())
                for part in (maps, maps, maps[:, :half], maps[:, half:])
            )
        if not torch.equal(whole, again):
            raise Broken(f"in {kind} the same maps give other labels the second time")
        if not torch.equal(whole, torch.cat([first, second])):
            wrong = float((whole != torch.cat([first, second])).float().mean())
            raise Broken(
                f"in {kind} {wrong:.1%} of the labels differ where the maps are given in two slabs; a case "
                "is labelled slab after slab, so a voxel's label follows from its own K values"
            )


def _maps(session: Session) -> Tensor:
    """Random maps (K, *S) that sum to 1."""
    shape = (len(session.run.outputs), *reversed(session.run.input_size))
    noise = np.random.default_rng(0).normal(size=shape)
    return torch.from_numpy(3 * noise).float().softmax(0)
