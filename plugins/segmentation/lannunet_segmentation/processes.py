"""Work on many items in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TypeVar

from lannunet_core import RunFailed

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], jobs: int = 0) -> Iterator[Result]:
    """The results in the order in which they are done; in this process where one job is enough.

    What was begun is finished also where an item fails or the user interrupts.

    Args:
        work: Pickles.
        items: Pickle.
        jobs: Processes; 0: one a core.

    Raises:
        RunFailed: A process was killed.
    """
    jobs = min(jobs or os.cpu_count() or 1, len(items))
    if jobs <= 1:
        yield from map(work, items)
        return
    _start_tracker()
    # Not forked: a fork of a process with threads may hang.
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        for future in as_completed([pool.submit(work, item) for item in items]):
            yield future.result()
    except BrokenProcessPool:
        raise RunFailed(
            "a process was ended from outside; most likely several cases at once do not fit into memory. "
            "Free some and start again, with --jobs 1 where the command has it: what is done is kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _start_tracker() -> None:
    """Start what keeps account of the processes' semaphores so that SIGHUP to the group leaves it alone.

    It ignores SIGINT and SIGTERM by itself. Where it ends before the processes do, it is started again, and
    complains of semaphores that it does not know.
    """
    if not hasattr(signal, "SIGHUP"):
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # which it inherits
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, signal.SIG_IGN)  # they reach the whole group; the parent says when to end
    parent = multiprocessing.parent_process()

    def watch() -> None:  # a parent that is killed cannot end its processes
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
