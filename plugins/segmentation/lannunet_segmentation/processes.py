"""Process many items in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TypeVar

from lannunet_core import RunFailed, available_cores

SIGNALS = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(work: Callable[[Item], Result], items: Sequence[Item], jobs: int = 0) -> Iterator[Result]:
    """The results in the order of completion; computed in this process if one job is enough.

    Started items are finished if an item fails, and stopped if the user interrupts.

    Args:
        work: Function that pickles.
        items: Items that pickle.
        jobs: Processes; 0: one per core.

    Raises:
        RunFailed: A process was killed.
    """
    jobs = min(jobs or available_cores(), len(items))
    if jobs <= 1:
        yield from map(work, items)
        return
    others = set(multiprocessing.active_children())
    with _kept_from_children():  # the pool's semaphores start the resource tracker
        # Not forked: a fork of a process with threads may hang.
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        with _kept_from_children():
            futures = [pool.submit(work, item) for item in items]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise RunFailed(
            "a process was ended from outside; most likely several cases at once do not fit into memory. "
            "Free some and start again, with --jobs 1 where the command has it: what is done is kept."
        ) from None
    except BaseException as error:
        if not isinstance(error, Exception):  # an interrupted pool may wait for its processes for ever
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _kept_from_children() -> Iterator[None]:
    """Shield processes that are started within from signals to the whole group.

    Before `_begin` they would end, and leave the pool broken. So would the resource tracker,
    which only ignores SIGINT and SIGTERM.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    resource_tracker.ensure_running()  # unblocks SIGINT and SIGTERM if it starts one
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # they reach the whole group; the parent ends the workers
    parent = multiprocessing.parent_process()

    def watch() -> None:  # a parent that is killed cannot end its processes
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
