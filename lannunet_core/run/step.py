"""One training step: the argument of the hook `training_step`."""

from __future__ import annotations

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
from lannunet_core.run.processes import gathered, now, sum_over_processes

QUEUED = ("cuda",)  # devices on which a copy to the host can be queued


class Run(Protocol):
    """The training that a step belongs to; module and optimizers are set up by Fabric.

    `clip` is the largest norm of an optimizer's gradients; None: unlimited. `own_step`: it is a plugin's.
    """

    module: Any
    optimizers: list[Any]
    schedulers: list[LRScheduler]
    fabric: Fabric
    hooks: Hooks
    clip: float | None
    own_step: bool

    def fail(self, step: Step, batch: Mapping[str, Any], values: Mapping[str, float]) -> NoReturn:
        """End the run, given a step, its batch and the values of its terms, one of which is not a number."""


class Numbers:
    """The values of loss terms, copied to the host after the work that is queued on the device.

    The host waits for them only when they are read: nothing else between two training steps makes it wait.
    """

    def __init__(self, terms: Mapping[str, Any]) -> None:
        tensors = {name: term.detach() for name, term in terms.items() if isinstance(term, Tensor)}
        if now().world > 1:  # means over processes, so that all stop if one loss is not a number
            plain = {name: float(term) for name, term in terms.items() if name not in tensors}
            every = gathered([plain]) if plain else []
            terms = {**terms, **{name: sum(one[name] for one in every) / len(every) for name in plain}}
            means = sum_over_processes(torch.stack(list(tensors.values()))) / now().world if tensors else ()
            tensors = dict(zip(tensors, means, strict=True))
        queued = any(term.device.type in QUEUED for term in tensors.values())
        # Copies on the host too: a plugin may overwrite what it returned.
        copies = {name: term.to("cpu", non_blocking=queued, copy=True) for name, term in tensors.items()}
        self._terms = {**terms, **copies}
        self._copied = torch.cuda.Event() if queued else None  # type: ignore[no-untyped-call]
        if self._copied is not None:
            self._copied.record()

    def read(self) -> dict[str, float]:
        if self._copied is not None:
            self._copied.synchronize()
        return {name: float(term) for name, term in self._terms.items()}


class Step:
    """See `hookspecs.TrainingStep`; `share` is the weight of the batch in an update, `last`: it is its last.

    Its values are read during the next step, so that a device need not wait for the host.
    """

    stepped = False  # whether its optimizers have started their step
    planned = 1  # scheduler steps per update; more in a shortened run

    def __init__(
        self, run: Run, batch: Mapping[str, Any], epoch: int, number: int, share: float, last: bool
    ) -> None:
        self.run, self.batch, self.epoch, self.number = run, batch, epoch, number
        self.share, self.last = share, last
        self.module, self.fabric = run.module, run.fabric
        self.optimizers: Sequence[Any] = run.optimizers
        self._latest: Any = None
        self._copied: list[tuple[Mapping[str, Any], Numbers]] = []

    def losses(self, batch: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
        batch = self.batch if batch is None else batch
        terms: dict[str, Tensor] = self.module(Unrounded(batch))
        self._latest = terms
        self._copied.append((batch, Numbers(terms)))
        return terms

    def backward(self, total: Tensor) -> None:
        self.fabric.backward(total * self.share if self.share != 1 else total)

    def update(self, *optimizers: Any) -> None:
        if not self.last:
            return
        self._average(optimizers or self.optimizers)
        self.stepped = True
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

    def take(self) -> None:
        """Call the hook, and keep its result."""
        terms = self.run.hooks.training_step(step=self)
        if terms is not self._latest:
            self._copied.append((self.batch, Numbers(terms)))
        self._latest = None

    def values(self) -> dict[str, float]:
        """The hook's result as numbers; the run ends if any, or any loss of the step, is not finite."""
        values: dict[str, float] = {}
        for batch, copied in self._copied:
            values = copied.read()
            if not math.isfinite(sum(values.values())):
                self.run.fail(self, batch, values)
        return values

    def _with_closure(self) -> dict[str, Tensor]:
        found: list[dict[str, Tensor]] = []

        def closure() -> Tensor:
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            found.append(self.losses())
            loss = total(found[-1])
            self.fabric.backward(loss)
            self._average(self.optimizers)
            return sum_over_processes(loss.detach()) / now().world  # one that searches does the same in all

        self.stepped = True
        for optimizer in self.optimizers:
            optimizer.step(closure)
        self._step_schedulers(self.optimizers)
        return found[0]

    def _average(self, optimizers: Sequence[Any]) -> None:
        if now().world > 1 and self.run.own_step:
            now().average_gradients(list(map(plain, optimizers)))

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


def plain(optimizer: Any) -> Optimizer:
    """The optimizer without Fabric's wrapper."""
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether its step evaluates the loss again, as in LBFGS."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def several(answer: Any) -> list[Any]:
    """One or several values of a hook, as a list."""
    if answer is None:
        return []
    return list(answer) if isinstance(answer, list | tuple) else [answer]
