"""Loader processes: their start and end, and waiting for their batches."""

import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from lannunet_core.errors import RunFailed, UserError
from lannunet_core.telling import echo

SHARED_MEMORY = Path("/dev/shm")
TURN = 1.0  # seconds between checks of workers and signals
LIMIT = 600.0  # seconds for one batch
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class WorkersLost(RunFailed):
    """Workers cannot be started, ended, or hang; the message states a remedy."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: memory, or shared memory ({SHARED_MEMORY}), may be short. Set sampler.num_workers "
            "lower (0 needs neither), or give the container more (docker run --shm-size 2g). Then continue "
            "with --resume."
        )


def start_worker(number: int = 0) -> None:
    """Called first in every worker. Signals reach the whole group; the main process ends the workers."""
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:
            os._exit(1)  # the parent ended before the signal was registered


def end_workers(loader: DataLoader[Any]) -> None:
    """End persistent workers now, and kill those that hang; torch would wait ten seconds for each."""
    iterator: Any = loader._iterator
    if iterator is not None and loader.num_workers > 0:
        late = threading.Timer(TURN, lambda: [worker.kill() for worker in iterator._workers])
        late.start()
        iterator._shutdown_workers()  # there is no public method
        late.cancel()
    loader._iterator = None


def loaded_batches(
    loader: Iterable[dict[str, Any]], stopping: Callable[[], bool] = lambda: False
) -> Iterator[dict[str, Any]]:
    """The batches of a loader; a `UserError` in a worker is raised without the worker's traceback.

    Ends early when `stopping` is true and no batch is ready.

    Raises:
        WorkersLost: One died, or no batch came for ten minutes.
    """
    on_death = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    try:
        batches = iter(loader)
    except OSError as error:
        raise WorkersLost(f"Loader workers cannot be started ({error.strerror})") from error
    if on_death is not None and signal.getsignal(signal.SIGCHLD) is not on_death:
        # torch's own handler would raise anywhere in the main process, also in the middle of a step.
        signal.signal(signal.SIGCHLD, on_death)
    waited, told = 0.0, False
    while not (waited and stopping()):
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None
        except (RuntimeError, EOFError, OSError) as error:  # memory of a dead worker may be lost with it
            if "DataLoader timed out" in str(error) and waited < LIMIT:
                waited += TURN
                continue
            others = isinstance(error, RuntimeError) and "DataLoader" not in str(error).partition("\n")[0]
            if others or "Caught" in str(error):
                raise
            raise WorkersLost("Loader workers ended, or hang") from error
        waited = 0.0
        if not told and any(isinstance(value, np.ndarray) for value in batch.values()):
            told = True
            echo(f"{SHARED_MEMORY} is short: batches come through pipes, which is slower.")
        yield unpacked(batch)


def packed(batch: dict[str, Any]) -> dict[str, Any]:
    """In a worker with little shared memory: convert tensors to arrays, which go through a pipe."""
    worker = get_worker_info()
    if worker is None or not SHARED_MEMORY.exists():
        return batch
    size = sum(value.nbytes for value in batch.values() if isinstance(value, Tensor))
    waiting = 2 * worker.num_workers + 2  # batches at the same time, including prefetched ones
    if shutil.disk_usage(SHARED_MEMORY).free > waiting * size:
        return batch
    return _each(batch, lambda value: value.numpy() if isinstance(value, Tensor) else value)


def unpacked(batch: dict[str, Any]) -> dict[str, Any]:
    return _each(batch, lambda value: torch.from_numpy(value) if isinstance(value, np.ndarray) else value)


def _each(batch: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        key: _each(value, change) if isinstance(value, Mapping) else change(value)
        for key, value in batch.items()
    }
