"""The processes of one run on one machine, one per device: started by `lannunet train --devices 2`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import IO

from lannunet_cluster.children import LOST, OURS, RUN_ID, TURN, children, command_words, cores_each
from lannunet_core import Processes, RunFailed, TrainerConfig, TrainRequest

GRACE = 30.0  # seconds until the first process, which saves, must end after a failure of another one
AFTER = 3.0  # seconds for the others after the first one has ended


class Devices:
    """The launcher `processes`, which starts the processes of a run and is also used in each of them."""

    @staticmethod
    def start(request: TrainRequest) -> int:
        """Start the processes, see `in_processes`; return the exit code."""
        return in_processes(request)

    @staticmethod
    def join(trainer: TrainerConfig) -> AbstractContextManager[Processes]:
        """See `joined`."""
        # Before torch is imported, to avoid its warning about the speed of an intended option.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from lannunet_cluster.joined import joined

        return joined(trainer)


def in_processes(request: TrainRequest) -> int:
    """Run the same command in one interpreter per device; they connect as the processes of torchrun do.

    The first one has the terminal; the errors of another process are printed if it is the one that failed.

    Returns:
        The exit code.

    Raises:
        RunFailed: A process was killed, or hangs.
    """
    count = request.loaded.run.trainer.devices_per_node
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **cores_each(count),
        RUN_ID: OURS,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GROUP_RANK": "0",
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(count)),
    }
    with ExitStack() as stack:
        started = stack.enter_context(children())
        nowhere = stack.enter_context(tempfile.TemporaryFile())
        complaints = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        words = command_words(request)
        for rank in range(count):
            quiet = (nowhere, complaints[rank]) if rank > 0 else ()
            started.start(words, shared | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)), *quiet)
        return outcome(exit_codes(started.started), complaints)


def exit_codes(started: Sequence[subprocess.Popen[bytes]]) -> list[int | None]:
    """Exit codes, with None for processes that did not end within `GRACE`, or `AFTER`, after a failure."""
    failed = None
    while True:
        codes = [process.poll() for process in started]
        limit = GRACE if codes[0] is None else AFTER
        if None not in codes or (failed is not None and time.monotonic() - failed > limit):
            return codes
        if failed is None and any(codes):
            failed = time.monotonic()
        time.sleep(TURN)


def outcome(codes: Sequence[int | None], complaints: Sequence[IO[bytes]]) -> int:
    """The exit code of the run: that of the process that failed by itself."""
    own = [(rank, code) for rank, code in enumerate(codes) if code not in (0, None, LOST)]
    if not own and not any(codes):
        return 0
    if not own:
        raise RunFailed("the processes lost their connection, or one hangs. Resume with --resume.")
    rank, code = own[0]
    if code is not None and code < 0:
        raise RunFailed(
            f"process {rank} of {len(codes)} was killed by {signal.Signals(-code).name}, perhaps because "
            "memory is short. Resume with --resume, on any number of devices."
        )
    complaints[rank].seek(0)
    print(complaints[rank].read().decode(errors="replace"), end="", file=sys.stderr)
    return code or 1
