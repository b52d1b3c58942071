"""Write files atomically: a crash leaves the old file or the new one; check names that become paths."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath

from lannunet_core.errors import UserError
from lannunet_core.record import TEMPORARY, note

LONGEST_NAME = 200  # bytes; file systems allow 255, and suffixes are added


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success flush it to disk and rename it to `target`.

    On an exception the temporary file is removed and `target` is unchanged. In a locked folder, a file
    that LannU-Net did not write is not replaced (see `record`).
    """
    note(target)
    # Beside the target, as a rename is atomic only within a file system; libraries depend on the suffix.
    temporary = target.with_name(f"{TEMPORARY}{os.getpid()}-{target.name}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # an error of a full disk names no file
            error.filename, error.filename2 = str(target), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")  # a path may contain any byte


def refuse_existing(target: Path, option: str = "-o") -> None:
    """Raise a UserError for an output file that exists already or has no folder.

    Raises:
        UserError: It exists, or has no folder.
    """
    if os.path.lexists(target):
        raise UserError(f"{target}: the file exists already. Choose another name ({option}), or remove it.")
    if not target.parent.is_dir():
        raise UserError(
            f"{target}: there is no folder {target.parent}. Create it, or choose another name ({option})."
        )


def inside(folder: Path, name: str, where: str) -> Path:
    """The path of `name` in `folder`.

    Ids and names come from third-party data sets and models: every writer and remover gets its paths here.

    Args:
        folder: The folder that the path must stay in.
        name: One component of a path.
        where: The file or key that gives the name, for messages.

    Raises:
        UserError: The name leads out of the folder, or is not a valid file name.
    """
    if not names_a_file(name):
        raise UserError(f"{where}: {name[:80]!r} cannot name a file in {folder}; choose another name.")
    return folder / name


def names_a_file(name: str) -> bool:
    """Whether a string is one component of a path, on every system."""
    leads_away = name in ("", ".", "..") or "/" in name or "\\" in name or PureWindowsPath(name).drive != ""
    return not leads_away and name.isprintable() and len(name.encode("utf-8")) <= LONGEST_NAME
