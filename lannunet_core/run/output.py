"""A run's folder: checked early, claimed once the input is valid, described by run.json and config.yaml."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import yaml

from lannunet_core.config.loaded import SECOND_STAGE_FOLDER, LoadedConfig
from lannunet_core.errors import UserError
from lannunet_core.files import write_text
from lannunet_core.names import without_places
from lannunet_core.plugins import discovery
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.tasks import asked_of
from lannunet_core.record import RECORD, earlier_results, lock_folder, remove_recorded, sweep
from lannunet_core.run.checkpoint import plugin_versions
from lannunet_core.run.processes import is_first
from lannunet_core.version import version

CENTRES_FILE = "centres.csv"  # predictions of the first of two stages in all splits
NEXT_STAGE_FOLDER = "next_stage"  # label maps of the first of two stages, for the second
RUN_FILES = (
    *("run.json", "config.yaml", "metrics.jsonl", "predictions.csv", "predictions.xlsx"),
    *("cases.csv", "summary.json", "report.html", CENTRES_FILE),
)
METHODS_FOLDER = "methods"
RUN_FOLDERS: tuple[str, ...] = ("checkpoints", "debug", "failure", "predictions", METHODS_FOLDER)
RUN_FOLDERS += (NEXT_STAGE_FOLDER, SECOND_STAGE_FOLDER)


def refuse_folder(folder: Path, key: str, ways_out: str | None) -> None:
    """Lock a folder for this process's output; existing results are not changed.

    Messages name the setting `key`, and the `ways_out` if the folder has a run; None: it may have one.

    Raises:
        UserError: It cannot be written, another process uses it, or it holds a run, or third-party
            files with names that a run uses.
    """
    if not is_first():
        return
    try:
        lock_folder(folder)
    except OSError as error:
        raise UserError(
            f"{key}: {folder} cannot be written ({error.strerror}); name another folder."
        ) from error
    ours = earlier_results(folder)
    if ways_out is not None and ours:
        raise UserError(f"{key}: {folder} already holds a run; {ways_out} or name another folder.")
    for path in (folder / name for name in (*RUN_FILES, *RUN_FOLDERS)):
        held = any(path in (one, *one.parents) for one in ours) or (path / RECORD).exists()
        there = any(path.iterdir()) if path.is_dir() else path.exists()
        if there and not held and path.name not in ("debug", "failure"):  # plugins write freely there
            raise UserError(
                f"{key}: lannunet did not write {path}, and a run would write there; move it away, or "
                "name another folder."
            )


def refuse_to_empty(folder: Path, key: str, models: Iterable[Path]) -> None:
    """Raise a UserError if a folder to be emptied contains models that are to be read."""
    removed = {
        path.resolve() for place in (folder, folder / SECOND_STAGE_FOLDER) for path in earlier_results(place)
    }
    for model in models:
        file = model / "checkpoints" if model.is_dir() else model
        if any(path.is_relative_to(file.resolve()) for path in removed):
            raise UserError(f"{key}: {model} is in {folder}, which --overwrite empties; name another folder.")


def claim_folder(folder: Path, *, resume: bool = False) -> None:
    """Create a run's folder; remove an earlier run that is not resumed.

    Only files in a run's record are removed: all other files are kept.
    """
    lock_folder(folder)
    for place in (folder / SECOND_STAGE_FOLDER, folder) if is_first() else ():
        if place.is_dir():
            sweep(place)
            if not resume:
                remove_recorded(place)
                for name in RUN_FOLDERS:  # created, and still empty
                    with suppress(OSError):
                        (place / name).rmdir()


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it has changes; None: it is not a repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def provenance(loaded: LoadedConfig, run: RunInfo, device: torch.device, **more: Any) -> dict[str, Any]:
    """The origin of a result, in the detail that `output.provenance` sets."""
    full = loaded.run.output.provenance == "full"
    libraries = ("lannunet-core", "torch", "numpy", "scipy", "lightning-fabric")
    readers = [one.distribution for of_kind in discovery.scan().formats.values() for one in of_kind]
    found = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **({"command": sys.argv} if full else {}),
        "config": str(loaded.path),
        "seed": run.seed,
        "run": asdict(run),
        "plugins": plugin_versions(loaded),
        "hooks": [[hook, [list(who) for who in asked]] for hook, asked in asked_of(loaded)],
        "libraries": {name: version(name) for name in (*libraries, *readers)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cores": os.cpu_count(),
        "git": git_state(),
        **more,
    }
    return found if full else without_places(found)


def write_run(folder: Path, resolved: dict[str, Any], description: dict[str, Any]) -> None:
    if not is_first():
        return
    write_text(folder / "config.yaml", yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))
    write_text(folder / "run.json", json.dumps(description, indent=1))


def write_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    if is_first():
        write_text(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in history))
