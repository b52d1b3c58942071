"""Checks of `loss` and `losses`. Each docstring states the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.images.nests import map_tensors
from lannunet_core.run.session import Session
from lannunet_core.testing.bench import Partial
from lannunet_core.testing.outcomes import Broken, claimed
from lannunet_core.testing.randomness import isolated, untouched
from lannunet_core.testing.running import (
    activate,
    build,
    free_outputs,
    labels_of,
    make_batch,
    outputs_of,
    perfect_outputs,
    tensors,
)
from lannunet_core.testing.subject import Kind, Subject, bench_of


def terms_are_named_scalars(subject: Subject) -> None:
    """The loss returns a dict from names to finite scalar tensors; their sum is minimised."""
    for kind in subject.kinds():
        for count, things in ((1, 1), (2, 3)):
            session = build(subject, kind, things=things)
            batch = make_batch(session, count)
            outputs = outputs_of(session, batch)
            terms = _terms(session, outputs, labels_of(session, batch, outputs))
            if not (isinstance(terms, Mapping) and terms and all(isinstance(name, str) for name in terms)):
                raise Broken(f"the loss returns {terms!r:.200}, should be a dict of names to scalar tensors")
            for name, value in terms.items():
                if not (isinstance(value, Tensor) and value.ndim == 0):
                    raise Broken(f"the term '{name}' is {value!r:.100}, should be a scalar tensor")
                if not torch.isfinite(value):
                    raise Broken(f"the term '{name}' is {float(value.detach())} in {kind}")


def loss_is_differentiable(subject: Subject) -> None:
    """The loss has a gradient with respect to the outputs, finite and not zero."""
    for kind in subject.kinds():
        session, labels, outputs = _noise(subject, kind)
        gradient = gradient_of(session, outputs, labels)
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
    """Without any annotation, the outputs get no gradient."""
    for kind in subject.kinds():
        session = build(subject, kind)
        for partial in bench_of(kind.task).unlabelled(session):
            if found := _not_silent(session, partial, "a sample without any label"):
                raise Broken(f"in {kind} {found}")


def weights_count(subject: Subject) -> None:
    """Weight 0 is equivalent to no label."""
    for kind in subject.kinds():
        session = build(subject, kind)
        for partial in bench_of(kind.task).weightless(session):
            found = _not_silent(session, partial, "a sample of weight 0")
            claimed(subject.supports_weights, not found, "weights", f"in {kind} {found}")


def nothing_labelled_is_finite(subject: Subject) -> None:
    """A batch without labels, or without objects, gives a finite loss and gradient."""
    for kind in subject.kinds():
        session = build(subject, kind)
        for what, batch in bench_of(kind.task).empty(subject, session).items():
            labels, outputs = free_batch(session, batch)
            where = f"in {kind} with {what}"
            for name, value in _terms(session, outputs, labels).items():
                if not torch.isfinite(value):
                    found = float(value.detach())
                    raise Broken(f"{where} the term '{name}' is {found}; an empty target must not make 0/0")
            for tensor in gradient_of(session, outputs, labels) or []:
                if not torch.isfinite(tensor).all():
                    raise Broken(
                        f"{where} the gradient is NaN or infinite; an empty target must not make 0/0"
                    )


def activation_is_a_map(subject: Subject) -> None:
    """The activation gives maps: 0 is background and 1 is the peak of a perfect label."""
    for kind in subject.kinds():
        bench, session = bench_of(kind.task), build(subject, kind)
        batch = make_batch(session)
        maps = activate(session, perfect_outputs(subject, session, batch), batch)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors(maps)):
            raise Broken(
                f"in {kind} the activated maps of perfect outputs have values that are NaN or infinite"
            )
        bench.check_perfect_maps(subject, session, maps, batch, f"in {kind}")


def loss_is_a_function(subject: Subject) -> None:
    """The same outputs and labels give the same loss and maps, and no global random generator is used."""
    for kind in subject.kinds():
        session, labels, outputs = _noise(subject, kind)
        with isolated(), untouched("the loss"):
            first, second = (session.learner.loss(outputs, labels) for _ in range(2))
            kept, size = map_tensors(outputs, Tensor.detach), session.run.input_size
            maps = [session.learner.activate(kept, size) for _ in range(2)]
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
        raise Broken(f"{type(loss).__name__} holds {', '.join(held)} and is not an nn.Module")


def free_batch(session: Session, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Labels of a batch, and outputs of noise that gradients can be taken of."""
    outputs = outputs_of(session, batch)
    labels = map_tensors(labels_of(session, batch, outputs), Tensor.detach)
    return labels, free_outputs(outputs)


def gradient_of(session: Session, outputs: Any, labels: dict[str, Any]) -> list[Tensor] | None:
    """The gradient of each output, zeros for unused ones; None: the loss has no graph."""
    total = torch.stack(list(_terms(session, outputs, labels).values())).sum()
    if not total.requires_grad:
        return None
    leaves = [tensor for tensor in tensors(outputs) if tensor.requires_grad]
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)]


def _noise(subject: Subject, kind: Kind) -> tuple[Session, dict[str, Any], Any]:
    """A session, the labels of a batch, and outputs of noise that gradients can be taken of."""
    session = build(subject, kind)
    return session, *free_batch(session, make_batch(session))


def _terms(session: Session, outputs: Any, labels: dict[str, Any]) -> Any:
    with isolated():
        return session.learner.loss(outputs, labels)


def _not_silent(session: Session, partial: Partial, second: str) -> str:
    """The part of a batch that has a gradient although it should not; empty: none."""
    labels, outputs = free_batch(session, partial.batch)
    gradient = gradient_of(session, outputs, {**labels, **partial.labels})
    if gradient is None:
        return "the terms do not depend on the outputs"
    for tensor in gradient:
        if not torch.isfinite(tensor).all():
            return f"the gradient is NaN or infinite beside {partial.what}"
        if tensor[1].any():
            return f"{second} gets a gradient"
        silent = partial.silent(tensor)
        if silent is not None and silent.any():
            return f"{partial.what} gets a gradient"
    return ""
