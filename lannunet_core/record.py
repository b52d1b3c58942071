"""Folders that a run or a prediction writes: one process at a time, and only what a record lists is replaced.

A folder is locked before the first result is written. From then on every file that is written there is
listed in its record first, and a file that the record does not list is never overwritten.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lannunet_core.errors import UserError
from lannunet_core.run.processes import is_first

if TYPE_CHECKING:
    from filelock import SoftFileLock

RECORD = ".lannunet-files"  # a path a line, relative to the folder
LOCK = ".lannunet-lock"
TEMPORARY = ".lannunet-"  # how the names of half-written files begin


@dataclass(frozen=True)
class _Lock:
    lock: "SoftFileLock"
    listed: set[Path]
    made: list[Path]


_locked: dict[Path, _Lock] = {}


@contextmanager
def releasing() -> Iterator[None]:
    """Let go, at the end, of the folders that are locked inside; without it that is at the process's end."""
    before = set(_locked)
    try:
        yield
    finally:
        for folder in sorted(_locked.keys() - before, reverse=True):  # those inside others first
            held = _locked.pop(folder)
            held.lock.release()
            for made in held.made:
                with suppress(OSError):  # something was written there
                    made.rmdir()


def lock_folder(folder: Path) -> None:
    """Make a folder, keep other processes out of it, and remove what a dead one left half-written there.

    The lock is a file that is made exclusively, which works on a network share too. One that a dead process
    left behind does not count.

    Raises:
        UserError: Another process writes there.
    """
    from filelock import SoftFileLock, Timeout

    folder = _absolute(folder)
    if folder in _locked or not is_first():
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = SoftFileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder}: another process (number {lock.pid}) writes into this folder. Wait for it, or name "
            f"another folder. If it ran on another machine, and has ended there, remove {folder / LOCK}."
        ) from None
    _locked[folder] = _Lock(lock, set(earlier_results(folder)), made)
    sweep(folder)


def earlier_results(folder: Path) -> list[Path]:
    """The files that runs of ours wrote into a folder: those that its record lists, and that exist."""
    if not (folder / RECORD).is_file():
        return []
    lines = (folder / RECORD).read_text(encoding="utf-8", errors="replace").splitlines()
    paths = [folder / line for line in dict.fromkeys(lines) if _stays_inside(line)]
    root = folder.resolve()
    return [path for path in paths if os.path.lexists(path) and path.parent.resolve().is_relative_to(root)]


def remove_recorded(folder: Path) -> None:
    """Remove the recorded files, and the folders that are empty then."""
    for path in earlier_results(folder):
        path.unlink()
        for parent in path.parents:
            if parent == folder or any(parent.iterdir()):
                break
            parent.rmdir()
    (folder / RECORD).unlink(missing_ok=True)
    if held := _locked.get(_absolute(folder)):
        held.listed.clear()


def sweep(folder: Path) -> None:
    """Remove the half-written files that a dead process left in a locked folder."""
    for place in {folder, *(path.parent for path in earlier_results(folder))}:
        for half in place.glob(f"{TEMPORARY}[0-9]*-*"):
            half.unlink()


def note(target: Path) -> None:
    """List a file that is about to be written in the record of the locked folder that it lies in, if any.

    Raises:
        UserError: There is such a file already, and it is none of ours.
    """
    target = _absolute(target)
    folder = next((parent for parent in target.parents if parent in _locked), None)
    if folder is None or target in _locked[folder].listed:
        return
    if os.path.lexists(target):
        raise UserError(
            f"{target}: this file is none that lannunet wrote, so it is not replaced. Move it away, or name "
            "another folder."
        )
    with (folder / RECORD).open("a", encoding="utf-8") as record:
        record.write(target.relative_to(folder).as_posix() + "\n")
    _locked[folder].listed.add(target)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  (a symbolic link stays as the user wrote it)


def _stays_inside(line: str) -> bool:
    path = PurePosixPath(line)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in line
