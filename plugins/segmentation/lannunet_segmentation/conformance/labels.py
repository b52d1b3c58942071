"""Checks of `generate_segmentation_labels`. Each docstring states the contract."""

from __future__ import annotations

from lannunet_core.testing import Broken, Subject, check_finite, isolated, outputs_of, tensors
from lannunet_segmentation.conformance.batches import segmentation_batch, start
from lannunet_segmentation.types import IGNORE


def voxel_labels(subject: Subject) -> None:
    """Labels are finite tensors: `segmentation` has integers (B, *S) per level, and no weight is below 0."""
    for kind in subject.kinds():
        session = start(subject, kind)
        batch = segmentation_batch(session)
        batch["label"][1] = IGNORE
        for name, weight in (("", {}), (" with weights", {"weight": 2.0 * (batch["label"] != 0)})):
            given = {**batch, **weight}
            with isolated():
                labels = session.learner.labels(given, outputs_of(session, given))
            check_finite(labels, kind, name)
            if any(bool((tensor < 0).any()) for tensor in tensors(labels.get("weight", []))):
                raise Broken(f"in {kind}{name} labels['weight'] has values below 0")
            if any(tensor.is_floating_point() for tensor in tensors(labels["segmentation"])):
                raise Broken(f"in {kind} labels['segmentation'] are floats, should be integers")
