"""What a run decides by a short measurement: the number of loader workers, and of epochs for a budget."""

from __future__ import annotations

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
SHARE_FOR_TRAINING = 0.97  # of the budget; the rest is checkpoints and what the clock does not see
LEAST_EPOCHS = 5


@dataclass(frozen=True)
class Sizing:
    """How long a run trains, with every `auto` resolved.

    Attributes:
        max_epochs: Epochs.
        mini_batch_size: Batches an epoch.
        validate_every: Epochs between validations; the last epoch is always validated.
    """

    max_epochs: int
    mini_batch_size: int
    validate_every: int


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seconds_per_batch(batches: Iterable[Any], use: Callable[[Any], None]) -> tuple[float, float]:
    """Seconds to load a batch and to use it, after a warm-up."""
    loading = using = 0.0
    counted = 0
    iterator = iter(batches)
    for number in range(WARM_UP + MEASURED_BATCHES):
        start = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            break
        loaded = time.perf_counter()
        use(batch)
        if number >= WARM_UP or counted == 0:
            if number == WARM_UP:
                loading = using = 0.0
                counted = 0
            loading += loaded - start
            using += time.perf_counter() - loaded
            counted += 1
    return loading / max(counted, 1), using / max(counted, 1)


def workers_for(loading: float, using: float) -> int:
    """Loader processes that keep up with the device; none where loading costs next to nothing."""
    if loading < 0.05 * using:
        return 0
    return min(math.ceil(loading / max(using, 1e-6)), max(available_cores() - 1, 1), MOST_WORKERS)


def size_run(config: RunConfig, step: float, validation: float) -> Sizing:
    """Fit a run into `solver.budget_minutes`.

    Args:
        config: The run's configuration.
        step: Seconds a training step takes, loading included.
        validation: Seconds a validation takes.

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
