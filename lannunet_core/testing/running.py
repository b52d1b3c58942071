"""Small batches, a few training steps, and the outputs of a perfect network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor

from lannunet_core.images.nests import map_tensors, spatial_size
from lannunet_core.run.step import Step, several
from lannunet_core.testing.outcomes import Broken
from lannunet_core.testing.randomness import isolated
from lannunet_core.testing.subject import Kind, Subject, bench_of
from lannunet_core.types import Floats

if TYPE_CHECKING:
    from lannunet_core.run.session import Session

BASE_LR = 2e-3  # value of `solver.base_lr: auto` for AdamW
FINE_STEPS = 300


def make_batch(session: Session, count: int = 2, seed: int = 0) -> dict[str, Any]:
    """A collated batch of the run's task, everything labelled.

    Args:
        session: Session of the run.
        count: B.
        seed: Seed of the samples.
    """
    return bench_of(session.run.task).make_batch(session, count, seed)


def build(subject: Subject, kind: Kind, **options: Any) -> Session:
    """Build a session, and restore the global generators."""
    with isolated():
        return subject.session(kind.dimensions, task=kind.task, **options)


class Training:
    """A training on one batch, with the same steps as a run.

    Args:
        session: Session of the run.
        batch: The batch.
        total_steps: Number of steps.
    """

    own_step = True  # only used with several processes

    def __init__(self, session: Session, batch: Mapping[str, Any], total_steps: int) -> None:
        solver = session.config.solver
        optimizers, schedulers = session.hooks.optimizer_and_scheduler(
            module=session.learner, solver=solver, base_lr=BASE_LR, total_steps=total_steps
        )
        self.session, self.hooks, self.batch, self.taken = session, session.hooks, batch, 0
        self.module, self.fabric, self.clip = session.learner, session.fabric, solver.clip_gradient_norm
        self.optimizers, self.schedulers = several(optimizers), several(schedulers)

    def fail(self, step: Step, batch: Mapping[str, Any], values: Mapping[str, float]) -> NoReturn:
        raise Broken(f"the loss is {dict(values)} in step {self.taken}")

    def step(self) -> None:
        self.module.train()
        step = Step(self, self.batch, epoch=0, number=self.taken, share=1.0, last=True)
        self.taken += 1
        step.take()
        step.values()


def train(session: Session, batch: Mapping[str, Any], steps: int) -> Iterator[int]:
    """Take training steps on one batch; yields their numbers, from 1, which also seed the random numbers."""
    training = Training(session, batch, steps)
    for number in range(1, steps + 1):
        with isolated(number):
            training.step()
        yield number


def outputs_of(session: Session, batch: Mapping[str, Any]) -> Any:
    """The network's outputs for a batch, in evaluation mode."""
    session.learner.eval()
    with isolated(), torch.no_grad():
        return session.learner.outputs(batch)


def tensors(nest: Any) -> list[Tensor]:
    """All tensors of a nest, in order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(nest, keep)
    return found


def labels_of(session: Session, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
    """The labels that the loss compares outputs with."""
    with isolated():
        return session.learner.loss_labels(batch, outputs)


def free_outputs(outputs: Any, fill: float | None = None) -> Any:
    """Outputs of the same shapes that gradients can be taken of; noise if there is no `fill`."""
    generator = torch.Generator().manual_seed(0)

    def free(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        values = (
            torch.randn(tensor.shape, generator=generator) if fill is None else torch.full_like(tensor, fill)
        )
        return values.requires_grad_()

    return map_tensors(outputs, free)


def perfect_outputs(subject: Subject, session: Session, batch: Mapping[str, Any]) -> Any:
    """The outputs of a perfect network: given by the author, or those that minimise the loss."""
    outputs = outputs_of(session, batch)
    labels = map_tensors(labels_of(session, batch, outputs), Tensor.detach)
    given = subject.perfect_outputs(labels, outputs)
    if given is not None:
        return given
    free = free_outputs(outputs, fill=0.0)
    with isolated():
        minimise(
            lambda: torch.stack(list(session.learner.loss(free, labels).values())).sum(),
            [tensor for tensor in tensors(free) if tensor.requires_grad],
        )
    return map_tensors(free, Tensor.detach)


def minimise(loss: Callable[[], Tensor], leaves: list[Tensor]) -> None:
    """Move `leaves` to the minimum of `loss`, for any scale and for small weights of some of them."""

    def gradient() -> float:
        coarse.zero_grad()
        total = loss()
        if not total.requires_grad:
            raise Broken("the loss is not differentiable: its terms do not depend on the outputs")
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    # The first optimizer finds the scale; Adam then gives each number its own step size.
    coarse = torch.optim.LBFGS(leaves, max_iter=20, line_search_fn="strong_wolfe")
    coarse.step(gradient)  # type: ignore[no-untyped-call]
    fine = torch.optim.Adam(leaves, lr=0.5, betas=(0.9, 0.99), eps=1e-12)
    decay = torch.optim.lr_scheduler.LambdaLR(fine, lambda step: (1 - step / FINE_STEPS) ** 2)
    for _ in range(FINE_STEPS):
        gradient()
        fine.step()
        decay.step()


def activate(session: Session, outputs: Any, batch: Mapping[str, Any]) -> Any:
    """The activated maps of outputs for a batch."""
    with isolated(), torch.no_grad():
        return session.learner.activate(outputs, spatial_size(batch["image"]))


def maps_of(session: Session, batch: Mapping[str, Any]) -> Any:
    """The activated maps of a batch in prediction."""
    session.learner.eval()
    with isolated(), torch.no_grad():
        return bench_of(session.run.task).maps(session, batch)


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def shown(point: Floats | Tensor) -> str:
    return "(" + ", ".join(f"{float(value):.2f}" for value in point) + ")"


def describe(nest: Any) -> str:
    """A description of a nest: its shapes."""
    if isinstance(nest, Tensor):
        return f"{tuple(nest.shape)} {str(nest.dtype).removeprefix('torch.')}"
    if isinstance(nest, Mapping):
        return "{" + ", ".join(f"{key}: {describe(value)}" for key, value in nest.items()) + "}"
    if isinstance(nest, (list, tuple)):
        return "[" + ", ".join(map(describe, nest)) + "]"
    return type(nest).__name__
