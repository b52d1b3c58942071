"""Length of a run and number of loader workers: measured at the start, and adjusted to the clock."""

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from lannunet_core.config.schema import RunConfig
from lannunet_core.run.processes import now

MOST_WORKERS = 16
WARM_UP, MEASURED_BATCHES = 2, 6
TRIAL_BATCHES = WARM_UP + MEASURED_BATCHES
SHARE_FOR_TRAINING = 0.97  # of the budget; the rest is for checkpoints and unmeasured work
LEAST_EPOCHS = 5
SHARED_CORES = 1.7  # times as long: loading and training on the same cores (measured on two)
BEYOND = 1.1  # of the budget: a run that would take longer is shortened
FEW_BATCHES = 100  # with fewer, none of the default networks has learned anything


@dataclass(frozen=True)
class Sizing:
    """The length of a run, with every `auto` resolved."""

    max_epochs: int  # as planned
    mini_batch_size: int  # batches per epoch
    validate_every: int  # epochs; the last one is always validated
    budget: float | None = None  # seconds to keep; None: unlimited
    shortened: Sequence[Sequence[int]] = ()  # as `solver.shortened`

    @property
    def end(self) -> int:
        """The last epoch."""
        return self.shortened[-1][1] if self.shortened else self.max_epochs

    def planned(self, update: int, updates: int) -> int:
        """The position in the plan of `max_epochs` after an update, with `updates` per epoch.

        A shortened run goes through the rest of the plan faster, and reaches its end too.
        """
        start, place, speed = 0, 0.0, 1.0
        for epoch, end in self.shortened:
            if update <= epoch * updates:
                break
            place += (epoch * updates - start) * speed
            start = epoch * updates
            speed = (self.max_epochs * updates - place) / (end * updates - start)
        return round(place + (update - start) * speed)


def available_cores() -> int:
    """Those that this process may use, which a cluster's job may have fewer of than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seconds_per_batch(batches: Iterable[Any], use: Callable[[Any], None]) -> tuple[float, float]:
    """Seconds to load a batch and to use it, after a warm-up."""
    measured: list[tuple[float, float]] = []
    iterator = iter(batches)
    for _ in range(TRIAL_BATCHES):
        start = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            break
        loaded = time.perf_counter()
        use(batch)
        measured.append((loaded - start, time.perf_counter() - loaded))
    counted = measured[WARM_UP:] or measured[:1] or [(0.0, 0.0)]
    loading, using = (sum(seconds) / len(counted) for seconds in zip(*counted, strict=True))
    return loading, using


def workers_for(loading: float, using: float, on_cpu: bool = False) -> int:
    """The number of loader processes that keep up with the device; none if steps are not faster with them."""
    cores = max(available_cores() // now().local, 1)  # for this process
    shared = SHARED_CORES * (using + loading / cores) if on_cpu else using
    if loading < 0.05 * using or shared >= loading + using:
        return 0
    return min(math.ceil(loading / max(using, 1e-6)), max(cores - 1, 1), MOST_WORKERS)


def size_run(config: RunConfig, step: float, validation: float) -> Sizing:
    """Fit a run into `solver.budget_minutes`, by the seconds of a `step` (with loading) and a `validation`.

    Returns:
        The configured values, with `max_epochs: auto` resolved; an epoch is shortened if fewer than five
        would fit, and there are at least five validations per run.
    """
    solver = config.solver
    if solver.max_epochs != "auto":
        every = config.trainer.validate_every
        return Sizing(solver.max_epochs, solver.mini_batch_size, every, shortened=solver.shortened)
    seconds = solver.budget_minutes * 60 * SHARE_FOR_TRAINING
    # Five validations are guaranteed; more are added only if they take a small part of their epochs.
    steps = max(int((seconds - LEAST_EPOCHS * validation) / step), LEAST_EPOCHS)
    batches = min(solver.mini_batch_size, max(steps // LEAST_EPOCHS, 1))
    epochs = max(steps // batches, 1)
    every = min(config.trainer.validate_every, max(epochs // LEAST_EPOCHS, 1))
    planned = seconds / (batches * step + validation / every)
    return Sizing(max(int(planned), 1), batches, every, budget=solver.budget_minutes * 60)


def seconds_left(sizing: Sizing, history: Sequence[Mapping[str, Any]]) -> float:
    """The remaining seconds of a run, by the medians of its latest epochs: robust to short disturbances."""
    seconds = typical = 0.0
    window = max(3, sizing.end // 8)
    for validated in (False, True):

        def alike(epoch: int, validated: bool = validated) -> bool:
            return (epoch % sizing.validate_every == 0 or epoch == sizing.end) is validated

        counted = history[1:] or history  # the first one starts the workers
        latest = [row["seconds"] for row in counted if alike(row["epoch"])][-window:]
        typical = median(latest) if latest else typical
        seconds += typical * sum(map(alike, range(len(history) + 1, sizing.end + 1)))
    return seconds


def within_budget(sizing: Sizing, history: Sequence[Mapping[str, Any]]) -> Sizing:
    """The sizing, or one with an earlier end (at least one epoch more) if batches became too slow."""
    done, left = len(history), seconds_left(sizing, history)
    remaining = (sizing.budget or 0) - sum(row["seconds"] for row in history)
    late = left - remaining > (BEYOND - 1) * (sizing.budget or math.inf)
    if not late or not 2 <= done < sizing.end:
        return sizing
    end = done + max(int(remaining / left * (sizing.end - done)), 1)
    return sizing if end >= sizing.end else replace(sizing, shortened=(*sizing.shortened, (done, end)))


def too_short(config: RunConfig, sizing: Sizing) -> str | None:
    """A warning about a run that ends before a network has learned anything; None: it may be long enough."""
    batches, solver = sizing.max_epochs * sizing.mini_batch_size, config.solver
    if batches >= FEW_BATCHES or config.model.checkpoint is not None:  # fine-tuning may need few
        return None
    few = f"{'one batch is' if batches == 1 else f'{batches} batches are'} too few to learn much"
    if solver.max_epochs == "auto":
        return (
            f"solver.budget_minutes: {few}, and no more fit into {solver.budget_minutes:g} minutes. Give it "
            "more, or take smaller images, batches or networks; lannunet plan finds what fits."
        )
    return (
        f"solver.max_epochs: {few} ({solver.max_epochs} epochs of {solver.mini_batch_size}). Raise it, or "
        f"solver.mini_batch_size, until they are {FEW_BATCHES} at the very least."
    )
