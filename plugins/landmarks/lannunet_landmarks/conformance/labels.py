"""Checks of `generate_labels`. Each docstring states the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lannunet_core import State, level_sizes_of, spatial_size
from lannunet_core.testing import (
    Broken,
    Subject,
    check_finite,
    claimed,
    describe,
    draw_points,
    equal_nests,
    isolated,
    labels_of,
    outputs_of,
    shown,
    tensors,
)
from lannunet_landmarks.conformance.batches import landmark_batch, start
from lannunet_landmarks.session import LandmarkSession

MISSING = torch.tensor([[0, State.UNLABELLED], [State.ABSENT, 0]])


def labels_hold_states(subject: Subject) -> None:
    """Labels are a dict of finite tensors, with `state` (B, N) as given and, if any, `weight` not below 0."""
    for kind in subject.kinds():
        for landmarks in (1, 3):
            session = start(subject, kind, landmarks)
            batch = landmark_batch(session, states=torch.tensor([[0, 1, 2], [3, 0, 0]])[:, :landmarks])
            labels = made_labels(session, batch, outputs_of(session, batch))
            if not torch.equal(labels["state"].cpu(), batch["states"]):
                raise Broken(
                    f"labels['state'] is {labels['state'].tolist()}, should be {batch['states'].tolist()}"
                )
            check_finite(labels, kind)
            weight = labels.get("weight")
            if weight is not None and not (isinstance(weight, Tensor) and bool((weight >= 0).all())):
                raise Broken(f"labels['weight'] is {describe(weight)} with values below 0")


def missing_landmarks_leave_no_label(subject: Subject) -> None:
    """The label of an unlabelled or absent landmark does not depend on its coordinates, NaN included."""
    for kind in subject.kinds():
        session = start(subject, kind)
        batch = landmark_batch(session, states=MISSING)
        outputs = outputs_of(session, batch)
        missing = (MISSING != State.VISIBLE)[..., None]
        labels = {}
        for name, fill in (
            ("NaN", torch.nan),
            ("a place", draw_points(session.run.input_size, 2, 2, seed=5)),
        ):
            landmarks = torch.where(missing, fill, batch["landmarks"])
            labels[name] = made_labels(session, {**batch, "landmarks": landmarks}, outputs)
            check_finite(labels[name], kind, f" where landmarks without a point are given at {name}")
        if not equal_nests(labels["NaN"], labels["a place"]):
            raise Broken(
                f"in {kind} the label of an unlabelled or absent landmark depends on its coordinates: "
                "only `states` says whether there is a point"
            )


def labels_follow_subpixel_moves(subject: Subject) -> None:
    """A move by a fraction of a pixel along any axis changes the label: nothing is rounded."""
    for kind in subject.kinds():
        session = start(subject, kind)
        batch = landmark_batch(session)
        outputs = outputs_of(session, batch)
        before = made_labels(session, batch, outputs)
        for axis in range(kind.dimensions):
            move = torch.zeros(kind.dimensions)
            move[axis] = 0.125
            moved = made_labels(session, {**batch, "landmarks": batch["landmarks"] + move}, outputs)
            if equal_nests(before, moved):
                raise Broken(
                    f"in {kind} the labels are the same after a move by {shown(move)} px; is a "
                    "coordinate rounded? Landmarks are floats, pixel centres lie at integers"
                )


def gradients_reach_sigmas(subject: Subject) -> None:
    """A learned width of the labels gets its gradient through `sigmas`."""
    kind = next(iter(subject.kinds()))
    session = start(subject, kind)
    batch = landmark_batch(session)
    sizes = level_sizes_of(outputs_of(session, batch), kind.dimensions)
    sigmas = torch.full((len(sizes), 2), 2.0, requires_grad=True)
    with isolated():
        labels = session.hooks.generate_labels(
            landmarks=batch["landmarks"],
            states=batch["states"],
            corner=batch["corner"],
            image_size=spatial_size(batch["image"]),
            sigmas=sigmas,
            num_res_levels=len(sizes),
            level_sizes=sizes,
            lambda_scale=1.0,
            sample=batch,
        )
    connected = [tensor for tensor in tensors(labels) if tensor.requires_grad]
    works = False
    if connected:
        total = torch.stack([tensor.square().sum() for tensor in connected]).sum()
        (gradient,) = torch.autograd.grad(total, sigmas, allow_unused=True)
        works = gradient is not None and bool(torch.isfinite(gradient).all() and gradient.any(0).all())
    claimed(subject.supports_learned_sigma, works, "a learned sigma", "the labels are detached from `sigmas`")


def made_labels(session: LandmarkSession, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
    """The labels without the landmarks themselves, which some plugins return unchanged."""
    labels = labels_of(session, batch, outputs)
    return {key: value for key, value in labels.items() if key != "landmarks"}
