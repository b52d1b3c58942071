"""Checks of the labels of a batch. Each docstring states the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lannunet_core.testing.outcomes import Broken
from lannunet_core.testing.randomness import isolated, untouched
from lannunet_core.testing.running import activate, build, make_batch, outputs_of, perfect_outputs, tensors
from lannunet_core.testing.subject import Kind, Subject, bench_of


def labels_decode_back(subject: Subject) -> None:
    """The outputs of a perfect network, activated and decoded, give the labels of the batch."""
    for kind in subject.kinds():
        bench, session = bench_of(kind.task), build(subject, kind)
        batch = make_batch(session)
        outputs = perfect_outputs(subject, session, bench.hidden(batch))
        maps = activate(session, outputs, batch)
        where = f"labels, loss, activation and reading together in {kind}"
        bench.check_found(subject, session, maps, bench.hidden(batch), where)


def labels_are_a_function_of_the_batch(subject: Subject) -> None:
    """The same batch gives the same labels, and no global random generator is used."""
    for kind in subject.kinds():
        session = build(subject, kind)
        batch = make_batch(session)
        outputs = outputs_of(session, batch)
        with isolated(), untouched("making labels"):
            first, second = (session.learner.labels(batch, outputs) for _ in range(2))
        if not equal_nests(first, second):
            raise Broken(f"in {kind} two calls with one batch give different labels")


def check_finite(labels: Mapping[str, Any], kind: Kind, when: str = "") -> None:
    """Raise `Broken` for labels that are NaN or infinite."""
    for key, value in labels.items():
        if not all(torch.isfinite(tensor).all() for tensor in tensors(value)):
            raise Broken(f"in {kind} labels['{key}'] has values that are NaN or infinite{when}")


def equal_nests(first: Any, second: Any) -> bool:
    """Whether all tensors of two nests are the same."""
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))
