"""Train folds of a cross-validation in parallel on one machine: `lannunet train --folds 0-4 --submit
local:2`."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path

from lannunet_cluster.children import TURN, children, command_words, cores_each
from lannunet_core import RunFailed, TrainRequest, UserError, echo, fold_numbers


def side_by_side(request: TrainRequest) -> int:
    """Train each fold in a separate process, N at a time, each on one device.

    The output of a process is appended to a file beside the output folder.

    Returns:
        0; if one fold fails, the others are still trained.

    Raises:
        UserError: The number of parallel folds, or the folds, are missing.
        RunFailed: Folds failed; their log files have the reasons.
    """
    if not (request.argument.isdecimal() and int(request.argument)):
        raise UserError(
            f"--submit local: '{request.argument}' is not a number of folds at a time. Give one: local:2"
        )
    if request.folds is None:
        raise UserError("--submit local: trains folds in parallel. Name the folds, as in --folds 0-4.")
    if request.loaded.run.trainer.processes > 1:
        raise UserError("--submit local: trains each fold on one device. Remove trainer.devices.")
    slots, trainer = int(request.argument), request.loaded.run.trainer
    names = devices(trainer.device)
    waiting, failed = deque(fold_numbers(request.folds)), []
    with ExitStack() as stack:
        started = stack.enter_context(children())
        running: dict[int, tuple[int, subprocess.Popen[bytes], Path]] = {}  # by slot
        while waiting or running:
            for slot in range(slots):
                if slot not in running and waiting:
                    fold = waiting.popleft()
                    device = names[slot % len(names)]
                    log = log_of(request, fold)
                    log.parent.mkdir(parents=True, exist_ok=True)
                    file = stack.enter_context(log.open("ab"))  # append to the output of an earlier call
                    echo(f"fold {fold} on {device}: {log}")
                    settings = [*request.overrides, f"trainer.device={device}"]
                    words = command_words(request._replace(folds=str(fold), overrides=settings))
                    running[slot] = fold, started.start(words, cores_each(slots), file, file), log
            for slot, (fold, process, log) in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[slot]
                    echo(f"fold {fold} {'is done' if code == 0 else f'failed ({code}): {log}'}")
                    if code > 128 or code < 0:  # stopped: the waiting folds are dropped
                        waiting.clear()
                    failed += [fold] if code else []
            time.sleep(TURN)
    if failed:
        raise RunFailed(
            f"folds {', '.join(map(str, failed))} are not done: the files above have the reasons. The same "
            f"command{', without --overwrite,' if request.overwrite else ''} continues with the rest."
        )
    with children() as started:  # all folds are finished: this call reports them, and prints the next command
        return started.start(command_words(request._replace(overwrite=False)), {}).wait()


def devices(wanted: str) -> list[str]:
    """The devices to which folds are assigned cyclically."""
    import torch

    count = torch.cuda.device_count() if wanted in ("auto", "cuda") and torch.cuda.is_available() else 0
    return [f"cuda:{number}" for number in range(count)] or [wanted]


def log_of(request: TrainRequest, fold: int) -> Path:
    base = request.loaded.run.output.output_dir
    return base.with_name(f"{base.name}-fold{fold}.log")
