"""Run commands in separate interpreters and wait for them.

Nothing is forked, so the behaviour is the same on all systems.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

from lannunet_core import TrainRequest, available_cores

RUN_ID, OURS = "TORCHELASTIC_RUN_ID", "lannunet"
"""The run id that torchrun sets in its processes, and its value in those of `lannunet train`."""
LOST = 75
"""The exit code of a process that ended because another one failed."""
TURN = 0.1  # seconds between two checks of the processes


class Children:
    """The started processes; see `children`."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        said: IO[bytes] | None = None,
        complained: IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Run `lannunet` with these arguments.

        Args:
            words: Arguments.
            environment: Additional environment variables.
            said: File for the standard output; None: the terminal.
            complained: File for the standard error; None: the terminal.
        """
        own: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
        process = subprocess.Popen(
            [sys.executable, "-m", "lannunet_core", *words],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            **own,  # signals of the terminal come only through the parent
        )
        self.started.append(process)
        return process


@contextmanager
def children() -> Iterator[Children]:
    """Yield an object that starts commands. Stop signals are forwarded; no process is left at the end."""
    found = Children()

    def forward(number: int, frame: FrameType | None) -> None:
        for process in found.started if os.name == "posix" else ():  # elsewhere the console sends them to all
            if process.poll() is None:
                process.send_signal(number)

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, forward) for number in (getattr(signal, name) for name in names)}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in found.started:
            process.kill()
            process.wait()


def command_words(request: TrainRequest) -> list[str]:
    """The command line for a request."""
    return [
        *(["--debug"] if request.debug else []),
        "train",
        str(request.config),
        *(word for setting in request.overrides for word in ("--set", setting)),
        *(word for plugin in request.plugins for word in ("--plugin", str(plugin))),
        *([] if request.folds is None else ["--folds", request.folds]),
        *(f"--{name}" for name in ("resume", "overwrite") if getattr(request, name)),
    ]


def cores_each(count: int) -> dict[str, str]:
    """Divide the cores between the processes, unless the user set the number of threads."""
    threads = max(available_cores() // count, 1)
    return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
