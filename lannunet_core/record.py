"""Output folders: one process writes at a time, and only files in a record are replaced.

A folder is locked before the first result is written. From then on every file is added to the folder's
record before it is written, and a file that is not in the record is never overwritten.
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

RECORD = ".lannunet-files"  # one path per line, relative to the folder
LOCK = ".lannunet-lock"
TEMPORARY = ".lannunet-"  # prefix of unfinished files


@dataclass(frozen=True)
class _Lock:
    lock: "SoftFileLock"
    listed: set[Path]
    made: list[Path]


_locked: dict[Path, _Lock] = {}


@contextmanager
def releasing() -> Iterator[None]:
    """At the end, release the folders that are locked within; otherwise the process's end releases them."""
    before = set(_locked)
    try:
        yield
    finally:
        for folder in sorted(_locked.keys() - before, reverse=True):  # inner folders first
            held = _locked.pop(folder)
            held.lock.release()
            for made in held.made:
                with suppress(OSError):  # it is not empty
                    made.rmdir()


def lock_folder(folder: Path) -> None:
    """Create a folder, lock it for this process, and remove unfinished files of a dead process.

    The lock is an exclusively created file, which works on network shares. That of a dead process is ignored.

    Raises:
        UserError: Another process uses the folder.
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
    """The existing files in a folder's record."""
    if not (folder / RECORD).is_file():
        return []
    lines = (folder / RECORD).read_text(encoding="utf-8", errors="replace").splitlines()
    paths = [folder / line for line in dict.fromkeys(lines) if _stays_inside(line)]
    root = folder.resolve()
    return [path for path in paths if os.path.lexists(path) and path.parent.resolve().is_relative_to(root)]


def remove_recorded(folder: Path) -> None:
    """Remove the recorded files, and the folders that become empty."""
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
    """Remove unfinished files of a dead process from a locked folder."""
    for place in {folder, *(path.parent for path in earlier_results(folder))}:
        for half in place.glob(f"{TEMPORARY}[0-9]*-*"):
            half.unlink()


def note(target: Path) -> None:
    """Add a file that is about to be written to the record of its locked folder, if it is in one.

    Raises:
        UserError: The file exists, and is not in the record.
    """
    target = _absolute(target)
    folder = next((parent for parent in target.parents if parent in _locked), None)
    if folder is None or target in _locked[folder].listed:
        return
    if os.path.lexists(target):
        raise UserError(
            f"{target}: lannunet did not write this file, so it is not replaced. Move it away, or name "
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
