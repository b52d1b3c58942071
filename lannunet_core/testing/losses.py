"""Checks of `loss` and `losses`. Each docstring is the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lannunet_segmentation.types import IGNORE
from torch import Tensor, nn

from lannunet_core.hookspecs import State
from lannunet_core.images.nests import map_tensors
from lannunet_core.testing.architecture import check_maps
from lannunet_core.testing.running import (
    activate,
    build,
    check_class_maps,
    decode,
    free_outputs,
    isolated,
    labels_of,
    make_batch,
    outputs_of,
    perfect_outputs,
    segmented,
    tensors,
    untouched,
)
from lannunet_core.testing.subject import Broken, Kind, Subject, claimed


def terms_are_named_scalars(subject: Subject) -> None:
    """The loss answers a dict of names to scalar tensors, finite; their sum is minimised."""
    for kind in subject.kinds():
        for count, landmarks in ((1, 1), (2, 3)):  # or classes beside the background
            session = build(subject, kind, landmarks=landmarks)
            batch = make_batch(session, count)
            outputs = outputs_of(session, batch["image"])
            terms = _terms(session, outputs, labels_of(session, batch, outputs))
            if not (isinstance(terms, Mapping) and terms and all(isinstance(name, str) for name in terms)):
                raise Broken(f"the loss answers {terms!r:.200}, should be a dict of names to scalar tensors")
            for name, value in terms.items():
                if not (isinstance(value, Tensor) and value.ndim == 0):
                    raise Broken(f"the term '{name}' is {value!r:.100}, should be a scalar tensor")
                if not torch.isfinite(value):
                    raise Broken(f"the term '{name}' is {float(value.detach())} in {kind}")


def loss_is_differentiable(subject: Subject) -> None:
    """The loss has a gradient with respect to the outputs, finite and not zero."""
    for kind in subject.kinds():
        session, labels, outputs = _noise(subject, kind)
        gradient = _gradient(session, outputs, labels)
        if gradient is None:
            raise Broken(
                f"in {kind} the terms do not depend on the outputs; is something detached or counted?"
            )
        values = torch.cat([tensor.flatten() for tensor in gradient])
        if not torch.isfinite(values).all():
            raise Broken(f"in {kind} the gradient has values that are NaN or infinite")
        if not values.any():
            raise Broken(f"in {kind} the gradient is 0 everywhere; is something rounded or compared?")


def unlabelled_contributes_nothing(subject: Subject) -> None:
    """Where nobody labelled anything, the outputs get no gradient."""
    for kind in subject.kinds("landmarks"):
        states = torch.tensor([[0, State.UNLABELLED], [State.UNLABELLED, State.UNLABELLED]])
        session, labels, outputs = _noise(subject, kind, states)
        gradient = _gradient(session, outputs, labels)
        if gradient is None:
            raise Broken(f"in {kind} the terms do not depend on the outputs")
        for tensor in gradient:
            if not torch.isfinite(tensor).all():
                raise Broken(f"in {kind} the gradient is NaN or infinite where a landmark is unlabelled")
            if tensor[1].any():
                raise Broken(f"in {kind} a sample without any label gets a gradient")
            if tensor.shape[1] == 2 and tensor[0, 1].any():
                raise Broken(f"in {kind} the map of an unlabelled landmark gets a gradient")


def nothing_labelled_is_finite(subject: Subject) -> None:
    """A batch in which nothing is labelled, or nothing is visible, gives a finite loss and gradient."""
    for kind in subject.kinds("landmarks"):
        for state in (State.UNLABELLED, State.ABSENT):
            session, labels, outputs = _noise(subject, kind, torch.full((2, 2), int(state)))
            where = f"in {kind} with all landmarks {state.name.lower()}"
            _check_finite(session, outputs, labels, where)


def known_negatives_are_learned(subject: Subject) -> None:
    """Absent and outside landmarks teach: a perfect network is less sure of them than of visible ones."""
    for kind in subject.kinds("landmarks"):
        for state in (State.ABSENT, State.OUTSIDE):
            session, labels, outputs = _noise(subject, kind, torch.tensor([[0, 0], [state, state]]))
            if not any(bool(tensor[1].any()) for tensor in _gradient(session, outputs, labels) or []):
                raise Broken(f"in {kind} a sample with all landmarks {state.name.lower()} has no gradient")
        session = build(subject, kind, landmarks=3)
        states = torch.tensor([[0, State.ABSENT, State.OUTSIDE], [State.OUTSIDE, 0, State.ABSENT]])
        batch = make_batch(session, states=states)
        maps = activate(session, perfect_outputs(subject, session, batch))
        confidence = decode(session, maps, batch).confidence.cpu()
        visible = states == State.VISIBLE
        if not confidence[~visible].max() < 0.5 * confidence[visible].min():
            raise Broken(
                f"in {kind} the confidences are {confidence.tolist()} for the states "
                f"{states.tolist()} (0 visible, 1 outside, 2 absent); known negatives have to be taught"
            )


def weights_count(subject: Subject) -> None:
    """A landmark whose `labels["weight"]` is 0 is as good as unlabelled."""
    for kind in subject.kinds("landmarks"):
        session, labels, outputs = _noise(subject, kind)
        labels = {**labels, "weight": torch.tensor([[1.0, 0.5], [0.0, 0.0]])}
        gradient = _gradient(session, outputs, labels) or []
        works = bool(gradient) and not any(bool(tensor[1].any()) for tensor in gradient)
        claimed(subject.supports_weights, works, "weights", "a sample of weight 0 gets a gradient")


def activation_is_a_map(subject: Subject) -> None:
    """The activation makes maps: 0 is background and 1 as certain as a perfect label's peak."""
    for kind in subject.kinds("landmarks"):
        session = build(subject, kind)
        batch = make_batch(session)
        maps = activate(session, perfect_outputs(subject, session, batch))
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors(maps)):
            raise Broken(
                f"in {kind} the activated maps of perfect outputs have values that are NaN or infinite"
            )
        if subject.has_own_decoder():
            continue  # what its own decoder makes of its maps is its own affair
        check_maps(maps, batch["image"], 2, f"in {kind}")
        first = (maps if isinstance(maps, Tensor) else maps[0]).flatten(2)
        peak, background = first.amax(-1), first.median(-1).values
        if not ((peak > 0.7) & (peak < 1.3)).all():
            raise Broken(
                f"in {kind} the activated maps of perfect outputs peak at {peak.tolist()}, should be 1"
            )
        if background.abs().max() > 0.1 or first.min() < -0.2:
            raise Broken(
                f"in {kind} the background of the activated maps of perfect outputs is "
                f"{background.tolist()}, the lowest value {float(first.min()):.3g}; should be 0"
            )


def loss_is_a_function(subject: Subject) -> None:
    """The same outputs and labels give the same loss and maps, and no global generator is drawn from."""
    for kind in subject.kinds():
        session, labels, outputs = _noise(subject, kind)
        with isolated(), untouched("the loss"):
            first, second = (session.learner.loss(outputs, labels) for _ in range(2))
            maps = [session.learner.loss.activation(map_tensors(outputs, Tensor.detach)) for _ in range(2)]
        if any(not torch.equal(first[name], second[name]) for name in first):
            raise Broken(f"in {kind} two calls give {first} and {second}")
        if any(not torch.equal(a, b) for a, b in zip(tensors(maps[0]), tensors(maps[1]), strict=True)):
            raise Broken(f"in {kind} two activations of the same outputs differ")


def learnable_loss_is_a_module(subject: Subject) -> None:
    """A loss with parameters or buffers is an nn.Module, so that they are trained, moved and saved."""
    loss: Any = build(subject, next(iter(subject.kinds()))).learner.loss
    if isinstance(loss, nn.Module):
        return
    held = [
        name
        for name, value in getattr(loss, "__dict__", {}).items()
        if isinstance(value, (Tensor, nn.Module))
    ]
    if held:
        raise Broken(f"{type(loss).__name__} holds {', '.join(held)} and is no nn.Module")


def ignored_voxels_contribute_nothing(subject: Subject) -> None:
    """With `task: segmentation`, voxels that nobody annotated (label -1) give the outputs no gradient."""
    for kind in subject.kinds("segmentation"):
        session = build(subject, kind)
        batch = make_batch(session)
        batch["label"][_unknown(batch["label"])] = IGNORE
        _check_unknown_voxels(session, batch, f"in {kind}", "that nobody annotated")


def voxel_weights_count(subject: Subject) -> None:
    """A voxel to which an extension's weight or mask gives 0 is as good as not annotated."""
    for kind in subject.kinds("segmentation"):
        session = build(subject, kind)
        batch = make_batch(session)
        batch["weight"] = torch.where(_unknown(batch["label"]), 0.0, 1.0)
        try:
            _check_unknown_voxels(session, batch, f"in {kind}", "of weight 0")
        except Broken as broken:
            claimed(subject.supports_weights, False, "weights", str(broken))


def nothing_annotated_is_finite(subject: Subject) -> None:
    """Where no voxel of a batch is annotated, or of any weight, loss and gradient are finite."""
    for kind in subject.kinds("segmentation"):
        session = build(subject, kind)
        batch = make_batch(session)
        empty = {"annotated": {"label": torch.full_like(batch["label"], IGNORE)}}
        if subject.supports_weights is not False:
            empty["of any weight"] = {"weight": torch.zeros(batch["label"].shape)}
        for what, changed in empty.items():
            labels, outputs = _free(session, {**batch, **changed})
            where = f"in {kind} with no voxel {what}"
            _check_finite(session, outputs, labels, where)


def perfect_outputs_give_the_labels(subject: Subject) -> None:
    """With `task: segmentation`, what minimises the loss becomes, activated, maps in 0 … 1 of the labels."""
    for kind in subject.kinds("segmentation"):
        session = build(subject, kind)
        batch = make_batch(session)
        label = batch["label"].clone()
        batch["label"][:, ..., : label.shape[-1] // 4] = IGNORE
        outputs = perfect_outputs(subject, session, batch)
        maps = activate(session, outputs)
        if not isinstance(maps, Tensor) or maps.shape[2:] != label.shape[1:]:
            continue  # coarser outputs do not have the labels of single voxels
        check_class_maps(maps, batch["image"], len(session.run.outputs), f"in {kind} of perfect outputs")
        known = batch["label"] != IGNORE
        wrong = float((segmented(session, maps) != label)[known].float().mean())
        if wrong > 0.01:
            raise Broken(
                f"in {kind} perfect outputs give {wrong:.0%} of the annotated voxels another label; do loss, "
                "activation and get_segmentation count the classes alike?"
            )


def _unknown(label: Tensor) -> Tensor:
    """The second image of (B, *S), and the right half of the others."""
    unknown = torch.zeros(label.shape, dtype=torch.bool)
    unknown[..., label.shape[-1] // 2 :] = True
    unknown[1] = True
    return unknown


def _check_unknown_voxels(session: Any, batch: dict[str, Any], where: str, what: str) -> None:
    labels, outputs = _free(session, batch)
    gradient = _gradient(session, outputs, labels)
    if gradient is None:
        raise Broken(f"{where} the terms do not depend on the outputs")
    width = batch["label"].shape[-1]
    for tensor in gradient:
        if not torch.isfinite(tensor).all():
            raise Broken(f"{where} the gradient is NaN or infinite beside voxels {what}")
        if tensor[1].any():
            raise Broken(f"{where} an image of voxels {what} gets a gradient")
        if tensor.ndim != batch["image"].ndim:
            continue
        first = -(-(width // 2) * tensor.shape[-1] // width)  # shows no other voxels
        if tensor[..., first:].any():
            raise Broken(f"{where} voxels {what} get a gradient")


def _noise(subject: Subject, kind: Kind, states: Tensor | None = None) -> tuple[Any, dict[str, Any], Any]:
    """A session, the labels of a batch, and outputs of noise to differentiate by."""
    session = build(subject, kind)
    return session, *_free(session, make_batch(session, states=states))


def _free(session: Any, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Labels, and outputs of noise."""
    outputs = outputs_of(session, batch["image"])
    labels = map_tensors(labels_of(session, batch, outputs), Tensor.detach)
    return labels, free_outputs(outputs)


def _terms(session: Any, outputs: Any, labels: dict[str, Any]) -> Any:
    with isolated():
        return session.learner.loss(outputs, labels)


def _check_finite(session: Any, outputs: Any, labels: dict[str, Any], where: str) -> None:
    for name, value in _terms(session, outputs, labels).items():
        if not torch.isfinite(value):
            found = float(value.detach())
            raise Broken(f"{where} the term '{name}' is {found}; an empty target must not make 0/0")
    for tensor in _gradient(session, outputs, labels) or []:
        if not torch.isfinite(tensor).all():
            raise Broken(f"{where} the gradient is NaN or infinite; an empty target must not make 0/0")


def _gradient(session: Any, outputs: Any, labels: dict[str, Any]) -> list[Tensor] | None:
    """With respect to each output, zeros where one is not used; None where the loss has no graph."""
    total = torch.stack(list(_terms(session, outputs, labels).values())).sum()
    if not total.requires_grad:
        return None
    leaves = [tensor for tensor in tensors(outputs) if tensor.requires_grad]
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]
