"""Checks of `loss` and `losses`. Each docstring is the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.testing.architecture import check_maps
from lannunet_core.testing.running import (
    activate,
    build,
    decode,
    free_outputs,
    isolated,
    labels_of,
    make_batch,
    outputs_of,
    perfect_outputs,
    tensors,
    untouched,
)
from lannunet_core.testing.subject import Broken, Subject, claimed
from lannunet_core.training.learner import map_tensors
from lannunet_core.types import State


def terms_are_named_scalars(subject: Subject) -> None:
    """The loss answers a dict of names to scalar tensors, finite; their sum is minimised."""
    for dimensions in subject.dimensions():
        for count, landmarks in ((1, 1), (2, 3)):
            session = build(subject, dimensions, landmarks=landmarks)
            batch = make_batch(session, count)
            outputs = outputs_of(session, batch["image"])
            terms = _terms(session, outputs, labels_of(session, batch, outputs))
            if not (isinstance(terms, Mapping) and terms and all(isinstance(name, str) for name in terms)):
                raise Broken(f"the loss answers {terms!r:.200}, should be a dict of names to scalar tensors")
            for name, value in terms.items():
                if not (isinstance(value, Tensor) and value.ndim == 0):
                    raise Broken(f"the term '{name}' is {value!r:.100}, should be a scalar tensor")
                if not torch.isfinite(value):
                    raise Broken(f"the term '{name}' is {float(value.detach())} in {dimensions}D")


def loss_is_differentiable(subject: Subject) -> None:
    """The loss has a gradient with respect to the outputs, finite and not zero."""
    for dimensions in subject.dimensions():
        session, labels, outputs = _noise(subject, dimensions)
        gradient = _gradient(session, outputs, labels)
        if gradient is None:
            raise Broken(
                f"in {dimensions}D the terms do not depend on the outputs; is something detached or counted?"
            )
        values = torch.cat([tensor.flatten() for tensor in gradient])
        if not torch.isfinite(values).all():
            raise Broken(f"in {dimensions}D the gradient has values that are NaN or infinite")
        if not values.any():
            raise Broken(f"in {dimensions}D the gradient is 0 everywhere; is something rounded or compared?")


def unlabelled_contributes_nothing(subject: Subject) -> None:
    """Where nobody labelled anything, the outputs get no gradient."""
    for dimensions in subject.dimensions():
        states = torch.tensor([[0, State.UNLABELLED], [State.UNLABELLED, State.UNLABELLED]])
        session, labels, outputs = _noise(subject, dimensions, states)
        gradient = _gradient(session, outputs, labels)
        if gradient is None:
            raise Broken(f"in {dimensions}D the terms do not depend on the outputs")
        for tensor in gradient:
            if not torch.isfinite(tensor).all():
                raise Broken(
                    f"in {dimensions}D the gradient is NaN or infinite where a landmark is unlabelled"
                )
            if tensor[1].any():
                raise Broken(f"in {dimensions}D a sample without any label gets a gradient")
            if tensor.shape[1] == 2 and tensor[0, 1].any():
                raise Broken(f"in {dimensions}D the map of an unlabelled landmark gets a gradient")


def nothing_labelled_is_finite(subject: Subject) -> None:
    """A batch in which nothing is labelled, or nothing is visible, gives a finite loss and gradient."""
    for dimensions in subject.dimensions():
        for state in (State.UNLABELLED, State.ABSENT):
            session, labels, outputs = _noise(subject, dimensions, torch.full((2, 2), int(state)))
            where = f"in {dimensions}D with all landmarks {state.name.lower()}"
            terms = _terms(session, outputs, labels)
            for name, value in terms.items():
                if not torch.isfinite(value):
                    found = float(value.detach())
                    raise Broken(f"{where} the term '{name}' is {found}; an empty target must not make 0/0")
            for tensor in _gradient(session, outputs, labels) or []:
                if not torch.isfinite(tensor).all():
                    raise Broken(
                        f"{where} the gradient is NaN or infinite; an empty target must not make 0/0"
                    )


def known_negatives_are_learned(subject: Subject) -> None:
    """Absent and outside landmarks teach: a perfect network is less sure of them than of visible ones."""
    for dimensions in subject.dimensions():
        for state in (State.ABSENT, State.OUTSIDE):
            session, labels, outputs = _noise(subject, dimensions, torch.tensor([[0, 0], [state, state]]))
            if not any(bool(tensor[1].any()) for tensor in _gradient(session, outputs, labels) or []):
                raise Broken(
                    f"in {dimensions}D a sample with all landmarks {state.name.lower()} has no gradient"
                )
        session = build(subject, dimensions, landmarks=3)
        states = torch.tensor([[0, State.ABSENT, State.OUTSIDE], [State.OUTSIDE, 0, State.ABSENT]])
        batch = make_batch(session, states=states)
        maps = activate(session, perfect_outputs(subject, session, batch))
        confidence = decode(session, maps, batch).confidence.cpu()
        visible = states == State.VISIBLE
        if not confidence[~visible].max() < 0.5 * confidence[visible].min():
            raise Broken(
                f"in {dimensions}D the confidences are {confidence.tolist()} for the states "
                f"{states.tolist()} (0 visible, 1 outside, 2 absent); known negatives have to be taught"
            )


def weights_count(subject: Subject) -> None:
    """A landmark whose `labels["weight"]` is 0 is as good as unlabelled."""
    for dimensions in subject.dimensions():
        session, labels, outputs = _noise(subject, dimensions)
        labels = {**labels, "weight": torch.tensor([[1.0, 0.5], [0.0, 0.0]])}
        gradient = _gradient(session, outputs, labels) or []
        works = bool(gradient) and not any(bool(tensor[1].any()) for tensor in gradient)
        claimed(subject.supports_weights, works, "weights", "a sample of weight 0 gets a gradient")


def activation_is_a_map(subject: Subject) -> None:
    """The activation makes maps: 0 is background and 1 as certain as a perfect label's peak."""
    for dimensions in subject.dimensions():
        session = build(subject, dimensions)
        batch = make_batch(session)
        maps = activate(session, perfect_outputs(subject, session, batch))
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors(maps)):
            raise Broken(
                f"in {dimensions}D the activated maps of perfect outputs have values that are NaN or infinite"
            )
        if subject.has_own_decoder():
            continue  # what its own decoder makes of its maps is its own affair
        check_maps(maps, batch["image"], 2, f"in {dimensions}D")
        first = (maps if isinstance(maps, Tensor) else maps[0]).flatten(2)
        peak, background = first.amax(-1), first.median(-1).values
        if not ((peak > 0.7) & (peak < 1.3)).all():
            raise Broken(
                f"in {dimensions}D the activated maps of perfect outputs peak at {peak.tolist()}, should be 1"
            )
        if background.abs().max() > 0.1 or first.min() < -0.2:
            raise Broken(
                f"in {dimensions}D the background of the activated maps of perfect outputs is "
                f"{background.tolist()}, the lowest value {float(first.min()):.3g}; should be 0"
            )


def loss_is_a_function(subject: Subject) -> None:
    """The same outputs and labels give the same loss and maps, and no global generator is drawn from."""
    for dimensions in subject.dimensions():
        session, labels, outputs = _noise(subject, dimensions)
        with isolated(), untouched("the loss"):
            first, second = (session.learner.loss(outputs, labels) for _ in range(2))
            maps = [session.learner.loss.activation(map_tensors(outputs, Tensor.detach)) for _ in range(2)]
        if any(not torch.equal(first[name], second[name]) for name in first):
            raise Broken(f"in {dimensions}D two calls give {first} and {second}")
        if any(not torch.equal(a, b) for a, b in zip(tensors(maps[0]), tensors(maps[1]), strict=True)):
            raise Broken(f"in {dimensions}D two activations of the same outputs differ")


def learnable_loss_is_a_module(subject: Subject) -> None:
    """A loss with parameters or buffers is an nn.Module, so that they are trained, moved and saved."""
    loss: Any = build(subject, next(iter(subject.dimensions()))).learner.loss
    if isinstance(loss, nn.Module):
        return
    held = [
        name
        for name, value in getattr(loss, "__dict__", {}).items()
        if isinstance(value, (Tensor, nn.Module))
    ]
    if held:
        raise Broken(f"{type(loss).__name__} holds {', '.join(held)} and is no nn.Module")


def _noise(
    subject: Subject, dimensions: int, states: Tensor | None = None
) -> tuple[Any, dict[str, Any], Any]:
    """A session, the labels of a batch, and outputs of noise to differentiate by."""
    session = build(subject, dimensions)
    batch = make_batch(session, states=states)
    outputs = outputs_of(session, batch["image"])
    labels = map_tensors(labels_of(session, batch, outputs), Tensor.detach)
    return session, labels, free_outputs(outputs)


def _terms(session: Any, outputs: Any, labels: dict[str, Any]) -> Any:
    with isolated():
        return session.learner.loss(outputs, labels)


def _gradient(session: Any, outputs: Any, labels: dict[str, Any]) -> list[Tensor] | None:
    """With respect to each output, zeros where one is not used; None where the loss has no graph."""
    total = torch.stack(list(_terms(session, outputs, labels).values())).sum()
    if not total.requires_grad:
        return None
    leaves = [tensor for tensor in tensors(outputs) if tensor.requires_grad]
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]
