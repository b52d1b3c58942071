"""Checks of a network in the runs of every task: its outputs and their shapes. Each docstring states the
contract.

Labels, loss and reading are those of the run: the task's, or the plugin's own. Shapes: B batch, C channels,
N outputs, S spatial sizes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lannunet_core.images.nests import level_sizes_of
from lannunet_core.testing.drawing import batch_of
from lannunet_core.testing.outcomes import Broken, NotClaimed, claimed
from lannunet_core.testing.package import hooks_are_those_of_the_core
from lannunet_core.testing.randomness import isolated
from lannunet_core.testing.running import (
    build,
    describe,
    first_line,
    make_batch,
    maps_of,
    outputs_of,
    tensors,
)
from lannunet_core.testing.subject import Kind, Subject, bench_of, refuses

VARIATIONS = ((1, 1, 1), (2, 3, 2), (3, 1, 5))
"""Batch size, channels, and number of outputs."""


def two_dimensions(subject: Subject) -> None:
    """It works in 2D, or raises a UserError."""
    _dimensions(subject, 2, subject.supports_2d)


def three_dimensions(subject: Subject) -> None:
    """It works in 3D, or raises a UserError."""
    _dimensions(subject, 3, subject.supports_3d)


def _dimensions(subject: Subject, dimensions: int, claim: bool | None) -> None:
    hooks_are_those_of_the_core(subject)
    for task in subject.served_tasks():
        kind = Kind(task, dimensions)
        failure = subject.failure(kind)
        if failure is not None and not refuses(failure):
            remedy = "make it work, or let the hook raise lannunet_core.errors.UserError and do not claim it"
            raise Broken(
                f"in {kind} it raises {type(failure).__name__}: {first_line(failure)}; {remedy}"
            ) from failure
        claimed(claim, failure is None, f"{dimensions}D", f"in {kind} it refuses: {failure}")


def shapes_and_dtypes(subject: Subject) -> None:
    """Any batch size, number of channels and outputs give finite float32 outputs that the task accepts."""
    for kind in subject.kinds():
        bench = bench_of(kind.task)
        for count, channels, things in VARIATIONS:
            session = build(subject, kind, channels=channels, things=things)
            batch = make_batch(session, count)
            where = f"for an image {tuple(batch['image'].shape)} and {len(session.run.outputs)} output(s)"
            outputs = outputs_of(session, batch)
            _check_tensors(outputs, count, where)
            if not subject.has_own_outputs(kind.task):
                bench.check_outputs(session, outputs, batch, where)
            bench.check_maps(subject, session, maps_of(session, batch), batch, where)


def _check_tensors(outputs: Any, count: int, where: str) -> None:
    found = tensors(outputs)
    if not found:
        raise Broken(f"{where}, the network's output holds no tensor: {describe(outputs)}")
    for tensor in found:
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise Broken(f"{where}, an output is {describe(tensor)}; float32 in, float32 out")
        if tensor.shape[:1] != (count,):
            raise Broken(
                f"{where}, an output is {describe(tensor)}; its first axis should be the batch, {count}"
            )
        if not torch.isfinite(tensor).all():
            raise Broken(f"{where}, an output has values that are NaN or infinite")


def check_levels(outputs: Any, image: Tensor, wanted: int, each: str, where: str) -> None:
    """Check that outputs are one tensor (B, N, *S), or a list of them with the finest first.

    Args:
        outputs: Outputs of a network.
        image: (B, C, *S).
        wanted: N.
        each: What one map is for, such as "class".
        where: Start of the message.

    Raises:
        Broken: They are not.
    """
    levels = [outputs] if isinstance(outputs, Tensor) else outputs
    if not (isinstance(levels, (list, tuple)) and all(isinstance(level, Tensor) for level in levels)):
        raise Broken(
            f"{where}, the outputs are {describe(outputs)}; the task's labels and losses need one tensor, or "
            "a list of tensors with the finest resolution first"
        )
    for level in levels:
        if level.ndim != image.ndim or level.shape[1] != wanted:
            raise Broken(f"{where}, an output is {describe(level)}; there is one map per {each}")
    sizes = [tuple(level.shape[2:]) for level in levels]
    if any(a < b for fine, coarse in pairwise(sizes) for a, b in zip(fine, coarse, strict=True)):
        raise Broken(f"{where}, the outputs' sizes are {sizes}; the finest comes first")
    if not is_whole_part(sizes[0], tuple(image.shape[2:])):
        raise Broken(
            f"{where}, the first output has the spatial size {sizes[0]}; the finest is as large as the "
            f"image, {tuple(image.shape[2:])}, or a half, a third … of it"
        )


def is_whole_part(size: tuple[int, ...], image_size: tuple[int, ...]) -> bool:
    """Whether maps of `size` have 1/n of an image's pixels along each axis, with one n."""
    return all(
        0 < side <= full and side in (full // round(full / side), -(-full // round(full / side)))
        for side, full in zip(size, image_size, strict=True)
    )


def mixed_precision(subject: Subject) -> None:
    """The network runs under autocast, as on a GPU."""
    for kind in subject.kinds():
        session = build(subject, kind)
        batch = make_batch(session)
        with isolated(), torch.autocast("cpu", torch.bfloat16):
            try:
                terms = session.learner(batch)
            except (RuntimeError, TypeError) as error:
                raise Broken(
                    f"under torch.autocast(bfloat16) it raises {type(error).__name__}: {first_line(error)}; "
                    "make tensors in the dtype of those they meet"
                ) from error
        if not torch.isfinite(torch.stack(list(terms.values()))).all():
            values = {name: float(value) for name, value in terms.items()}
            raise Broken(f"under torch.autocast(bfloat16) the loss is {values}")


def deep_supervision(subject: Subject) -> None:
    """With several supervised resolutions the network returns several, finest first; with one it returns
    one."""
    own_outputs = subject.supports_deep_supervision is None and any(
        subject.has_own_outputs(task) for task in subject.served_tasks()
    )
    if subject.supports_deep_supervision is False or own_outputs:
        raise NotClaimed("deep supervision is not claimed")
    for kind in subject.kinds():
        counts = {}
        for supervised in (1, 3):
            session = build(subject, kind, supervised=supervised)
            counts[supervised] = len(
                level_sizes_of(outputs_of(session, make_batch(session)), kind.dimensions)
            )
        claimed(
            subject.supports_deep_supervision,
            counts[3] > 1,
            "deep supervision",
            f"with run.supervised_resolutions = 3 there is {counts[3]} output",
        )
        if counts[1] != 1:
            raise Broken(f"with run.supervised_resolutions = 1 there are {counts[1]} outputs")


def other_sizes(subject: Subject) -> None:
    """A network built for one size accepts others: it is trained on patches and used on whole images."""
    if subject.supports_patches is False:
        raise NotClaimed("other image sizes are not claimed")
    for kind in subject.kinds():
        session = build(subject, kind)
        size = session.run.input_size
        image = torch.zeros(1, 1, *(side + side // 2 for side in reversed(size)))
        reason, outputs = "", None
        usual = outputs_of(session, batch_of(torch.zeros(1, 1, *reversed(size))))
        try:
            outputs = outputs_of(session, batch_of(image))
        except Exception as error:
            reason = (
                f"made for {size}, it raises {type(error).__name__} for {tuple(image.shape[:1:-1])}: "
                f"{first_line(error)}"
            )
        else:
            larger, before = (level_sizes_of(found, kind.dimensions)[:1] for found in (outputs, usual))
            if any(
                new <= old for a, b in zip(larger, before, strict=True) for new, old in zip(a, b, strict=True)
            ):
                reason = (
                    f"its output for {tuple(image.shape[:1:-1])} is {larger[0]}, no larger than for {size}"
                )
        claimed(subject.supports_patches, not reason, "other image sizes", reason)
