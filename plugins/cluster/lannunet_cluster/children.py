"""Commands in interpreters of their own, seen to their end. Nothing is forked: all systems do it alike."""

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
"""What torchrun gives its processes, and what it is in those that `lannunet train` started."""
LOST = 75
"""The exit code of those, where another process is the one that failed."""
TURN = 0.1  # seconds between two checks of them


class Children:
    """Those that were started; see `children`."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        said: IO[bytes] | None = None,
        complained: IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Run `lannunet` with these words.

        Args:
            words: Arguments.
            environment: What is set beside the variables that are there.
            said: Takes what it prints; None: the terminal does.
            complained: Takes its errors in the same way.
        """
        own: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
        process = subprocess.Popen(
            [sys.executable, "-m", "lannunet_core", *words],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            **own,  # the terminal's signals come through the parent alone
        )
        self.started.append(process)
        return process


@contextmanager
def children() -> Iterator[Children]:
    """Gives what starts commands. Signals to stop are passed on to them; none is left at the end."""
    found = Children()

    def forward(number: int, frame: FrameType | None) -> None:
        for process in found.started if os.name == "posix" else ():  # elsewhere the console reaches all
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
    """The command that asks for what a request does."""
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
    """Share the cores that there are, unless the user said how many threads there are."""
    threads = max(available_cores() // count, 1)
    return {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(threads)}
