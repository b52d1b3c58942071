"""One training step: what the hook `training_step` is given."""

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lannunet_core.plugins.hooks import Hooks
from lannunet_core.run.learner import Unrounded


class Run(Protocol):
    """What a step needs of the training that it belongs to; module and optimizers are set up by Fabric.

    `clip` is the greatest norm of an optimizer's gradients; None: any.
    """

    module: Any
    optimizers: list[Any]
    schedulers: list[LRScheduler]
    fabric: Fabric
    hooks: Hooks
    clip: float | None

    def fail(self, batch: Mapping[str, Any], values: Mapping[str, float]) -> NoReturn:
        """End the run, given a batch and the values of its terms, one of which is not a number."""


class Step:
    """See `hookspecs.TrainingStep`; `share` is what the batch counts of an update, `last`: it is its last."""

    planned = 1  # steps of the schedulers that an update stands for; more in a run that was shortened

    def __init__(
        self, run: Run, batch: Mapping[str, Any], epoch: int, number: int, share: float, last: bool
    ) -> None:
        self.run, self.batch, self.epoch, self.number = run, batch, epoch, number
        self.share, self.last = share, last
        self.module, self.fabric = run.module, run.fabric
        self.optimizers: Sequence[Any] = run.optimizers
        self._known: tuple[Any, dict[str, float]] = None, {}

    def losses(self, batch: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        batch = self.batch if batch is None else batch
        terms: dict[str, Tensor] = self.module(Unrounded(batch))
        self._known = terms, numbers(terms)
        if not math.isfinite(sum(self._known[1].values())):
            self.run.fail(batch, self._known[1])
        return terms

    def backward(self, total: Tensor) -> None:
        self.fabric.backward(total * self.share if self.share != 1 else total)

    def update(self, *optimizers: Any) -> None:
        if not self.last:
            return
        for optimizer in optimizers or self.optimizers:
            if (clip := self.run.clip) is not None:
                self.fabric.clip_gradients(self.module, optimizer, max_norm=clip, error_if_nonfinite=False)
            with self._telling():
                optimizer.step()
            optimizer.zero_grad()
        self._step_schedulers(optimizers or self.optimizers)

    def usual(self) -> dict[str, Tensor]:
        if any(needs_closure(plain(optimizer)) for optimizer in self.optimizers):
            return self._with_closure()
        terms = self.losses()
        self.backward(total(terms))
        self.update()
        return terms

    def values(self, terms: Mapping[str, Any]) -> dict[str, float]:
        """What the hook answered, as numbers; ends the run where one is none."""
        same, known = self._known
        values = known if terms is same else numbers(terms)
        if not math.isfinite(sum(values.values())):
            self.run.fail(self.batch, values)
        return values

    def _with_closure(self) -> dict[str, Tensor]:
        found: list[dict[str, Tensor]] = []

        def closure() -> Tensor:
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            found.append(self.losses())
            loss = total(found[-1])
            self.fabric.backward(loss)
            return loss

        for optimizer in self.optimizers:
            optimizer.step(closure)
        self._step_schedulers(self.optimizers)
        return found[0]

    def _step_schedulers(self, optimizers: Sequence[Any]) -> None:
        stepped = [plain(optimizer) for optimizer in optimizers]
        for scheduler in self.run.schedulers:
            if scheduler.optimizer in stepped and not isinstance(scheduler, ReduceLROnPlateau):
                with self._telling():
                    for _ in range(self.planned):
                        scheduler.step()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError) as error:
            hooks = self.run.hooks
            plugin = hooks.answering("optimizer_and_scheduler")
            raise hooks.refused_optimizer(error, "take a step", plugin) from error


def total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def numbers(terms: Mapping[str, Any]) -> dict[str, float]:
    """Terms as numbers, with one inspection of the device."""
    if all(isinstance(term, Tensor) for term in terms.values()) and terms:
        return dict(zip(terms, torch.stack([term.detach() for term in terms.values()]).tolist(), strict=True))
    return {name: float(term) for name, term in terms.items()}


def plain(optimizer: Any) -> Optimizer:
    """Without Fabric's wrapper."""
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether its step evaluates the loss again, as that of LBFGS does."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def several(answer: Any) -> list[Any]:
    """What a hook returns as one or several."""
    if answer is None:
        return []
    return list(answer) if isinstance(answer, list | tuple) else [answer]
