"""What a run decides by a short measurement: the number of loader workers, and of epochs for a budget."""

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from lannunet_core.config.schema import RunConfig

MOST_WORKERS = 16
MEASURED_BATCHES = 6
WARM_UP = 2
TRIAL_BATCHES = WARM_UP + MEASURED_BATCHES
SHARE_FOR_TRAINING = 0.97  # of the budget; the rest is checkpoints and what the clock does not see
LEAST_EPOCHS = 5
FEW_BATCHES = 100  # in fewer, none of the recipes here has learned anything


@dataclass(frozen=True)
class Sizing:
    """How long a run trains, with every `auto` resolved."""

    max_epochs: int
    mini_batch_size: int  # batches an epoch
    validate_every: int  # epochs; the last one is always validated


def available_cores() -> int:
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


def workers_for(loading: float, using: float) -> int:
    """Loader processes that keep up with the device; none where loading costs next to nothing."""
    if loading < 0.05 * using:
        return 0
    return min(math.ceil(loading / max(using, 1e-6)), max(available_cores() - 1, 1), MOST_WORKERS)


def size_run(config: RunConfig, step: float, validation: float) -> Sizing:
    """Fit a run into `solver.budget_minutes`, by the seconds of a `step` (with loading) and a `validation`.

    Returns:
        As configured, except that `max_epochs: auto` is resolved; an epoch is shortened where fewer than five
        would fit, and validations come at least five times a run.
    """
    solver = config.solver
    if solver.max_epochs != "auto":
        return Sizing(solver.max_epochs, solver.mini_batch_size, config.trainer.validate_every)
    seconds = solver.budget_minutes * 60 * SHARE_FOR_TRAINING
    # Five validations are certain; more come only where validations are a small part of their epochs.
    steps = max(int((seconds - LEAST_EPOCHS * validation) / step), LEAST_EPOCHS)
    batches = min(solver.mini_batch_size, max(steps // LEAST_EPOCHS, 1))
    epochs = max(steps // batches, 1)
    every = min(config.trainer.validate_every, max(epochs // LEAST_EPOCHS, 1))
    planned = seconds / (batches * step + validation / every)
    return Sizing(max(int(planned), 1), batches, every)


def too_short(config: RunConfig, sizing: Sizing) -> str | None:
    """What to tell of a run that ends before a network has learned anything; None: it may be long enough."""
    batches, solver = sizing.max_epochs * sizing.mini_batch_size, config.solver
    if batches >= FEW_BATCHES or config.model.checkpoint is not None:  # what was trained before may need few
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
