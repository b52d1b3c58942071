"""Reading of HDF5 with h5py, which is an extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lannunet_core import UserError, terminal_text

MARK = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: Path, suffix: str) -> bool:
    if not path.is_file() or path.suffix.lower() != suffix:
        return False
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK


@contextmanager
def opened(path: Path, extra: str) -> Iterator[Any]:
    """An open `h5py.File`.

    Raises:
        UserError: h5py is not installed, or the file is damaged.
    """
    if find_spec("h5py") is None:
        raise UserError(
            f"{path}: reading {path.suffix} needs h5py. Install it with pip install "
            f"'lannunet-formats[{extra}]'."
        )
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: is a damaged HDF5 file ({terminal_text(error):.120}).") from None
    with file:
        yield file


def as_text(value: Any) -> str:
    """A text of an attribute or a dataset, which may be stored as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
