"""Checks of `generate_labels`. Each docstring is the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lannunet_segmentation.types import IGNORE
from torch import Tensor

from lannunet_core.hookspecs import State
from lannunet_core.images.nests import level_sizes_of, spatial_size
from lannunet_core.testing.running import (
    activate,
    build,
    compare_points,
    decode,
    describe,
    draw_points,
    isolated,
    labels_of,
    make_batch,
    outputs_of,
    perfect_outputs,
    shown,
    tensors,
    untouched,
)
from lannunet_core.testing.subject import Broken, Kind, Subject, claimed

MISSING = torch.tensor([[0, State.UNLABELLED], [State.ABSENT, 0]])


def labels_hold_states(subject: Subject) -> None:
    """Labels are a dict of finite tensors, with `state` (B, N) as given and, if any, `weight` not below 0."""
    for kind in subject.kinds("landmarks"):
        for landmarks in (1, 3):
            session = build(subject, kind, landmarks=landmarks)
            batch = make_batch(session, states=torch.tensor([[0, 1, 2], [3, 0, 0]])[:, :landmarks])
            labels = labels_of(session, batch, outputs_of(session, batch["image"]))
            if not torch.equal(labels["state"].cpu(), batch["states"]):
                raise Broken(
                    f"labels['state'] is {labels['state'].tolist()}, should be {batch['states'].tolist()}"
                )
            _check_finite(labels, kind)
            weight = labels.get("weight")
            if weight is not None and not (isinstance(weight, Tensor) and bool((weight >= 0).all())):
                raise Broken(f"labels['weight'] is {describe(weight)} with values below 0")


def missing_landmarks_leave_no_label(subject: Subject) -> None:
    """The label of an unlabelled or absent landmark is the same whatever its coordinates, NaN included."""
    for kind in subject.kinds("landmarks"):
        session = build(subject, kind)
        batch = make_batch(session, states=MISSING)
        outputs = outputs_of(session, batch["image"])
        missing = (MISSING != State.VISIBLE)[..., None]
        labels = {}
        for name, fill in (
            ("NaN", torch.nan),
            ("a place", draw_points(session.run.input_size, 2, 2, seed=5)),
        ):
            landmarks = torch.where(missing, fill, batch["landmarks"])
            labels[name] = labels_of(session, {**batch, "landmarks": landmarks}, outputs)
            _check_finite(labels[name], kind, f" where landmarks without a point are given at {name}")
        if not _equal(labels["NaN"], labels["a place"]):
            raise Broken(
                f"in {kind} the label of an unlabelled or absent landmark depends on its coordinates: "
                "only `states` says whether there is a point"
            )


def labels_follow_subpixel_moves(subject: Subject) -> None:
    """A landmark that moves by a fraction of a pixel along any axis changes its label: nothing is rounded."""
    for kind in subject.kinds("landmarks"):
        session = build(subject, kind)
        batch = make_batch(session)
        outputs = outputs_of(session, batch["image"])
        start = labels_of(session, batch, outputs)
        for axis in range(kind.dimensions):
            move = torch.zeros(kind.dimensions)
            move[axis] = 0.125
            moved = labels_of(session, {**batch, "landmarks": batch["landmarks"] + move}, outputs)
            if _equal(start, moved):
                raise Broken(
                    f"in {kind} the labels are the same after a move by {shown(move)} px; is a "
                    "coordinate rounded? Landmarks are floats, pixel centres lie at integers"
                )


def labels_decode_back(subject: Subject) -> None:
    """What a perfect network would answer decodes to the landmarks, to a fraction of a pixel."""
    for kind in subject.kinds("landmarks"):
        session = build(subject, kind)
        batch = make_batch(session)
        maps = activate(session, perfect_outputs(subject, session, batch))
        found = decode(session, maps, batch).points
        what = f"labels, loss, activation and decoder together in {kind}"
        compare_points(found, batch["landmarks"], subject.decoding_error, what)


def labels_are_a_function_of_the_batch(subject: Subject) -> None:
    """The same batch gives the same labels, and no global generator is drawn from."""
    for kind in subject.kinds():
        session = build(subject, kind)
        batch = make_batch(session)
        outputs = outputs_of(session, batch["image"])
        with isolated(), untouched("generate_labels"):
            first, second = (session.learner.labels(batch, outputs) for _ in range(2))
        if not _equal(first, second):
            raise Broken(f"in {kind} two calls with one batch give different labels")


def gradients_reach_sigmas(subject: Subject) -> None:
    """A learned width of the labels gets its gradient through `sigmas`."""
    kind = next(iter(subject.kinds("landmarks")))
    session = build(subject, kind)
    batch = make_batch(session)
    sizes = level_sizes_of(outputs_of(session, batch["image"]))
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


def voxel_labels(subject: Subject) -> None:
    """With `task: segmentation`, labels are finite tensors with `state` (B, 0), and no weight is below 0."""
    for kind in subject.kinds("segmentation"):
        session = build(subject, kind)
        batch = make_batch(session)
        batch["label"][1] = IGNORE
        for name, weight in (("", {}), (" with weights", {"weight": 2.0 * (batch["label"] != 0)})):
            given = {**batch, **weight}
            labels = labels_of(session, given, outputs_of(session, batch["image"]))
            _check_finite(labels, kind, name)
            if any(bool((tensor < 0).any()) for tensor in tensors(labels.get("weight", []))):
                raise Broken(f"in {kind}{name} labels['weight'] has values below 0")


def _check_finite(labels: Mapping[str, Any], kind: Kind, when: str = "") -> None:
    for key, value in labels.items():
        if not all(torch.isfinite(tensor).all() for tensor in tensors(value)):
            raise Broken(f"in {kind} labels['{key}'] has values that are NaN or infinite{when}")


def _equal(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))
