"""NumPy files: third-party ones, read without trusting their headers, and our own.

A header is parsed as the text that NumPy writes, never evaluated, and its type and shape must account for
every byte of the file. Nothing in it can run, and nothing can use more memory than the file, or its zip
archive, can contain.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lannunet_core import UserError, atomic_path

MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000
HEADER = re.compile(
    r"\{'descr': '([<>|=]?(?:b1|[iu][1248]|f[248]))', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,12},? ?)*)\),? *\}\s*"
)
MOST_DEFLATED = 1100
"""Largest compression ratio of a zip archive, with a small margin."""
AT_ONCE = 1 << 26


@dataclass(frozen=True)
class Layout:
    """The content of a header.

    Attributes:
        dtype: Dtype of numbers, or truth values.
        shape: Shape of the array.
        columns_first: Whether the first axis is the fastest.
        start: Length of the header in bytes.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    columns_first: bool
    start: int

    @property
    def bytes(self) -> int:
        """Length of the whole file."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def layout(path: Path, wanted: str = "data") -> Layout:
    """Read the header of a `.npy`, or of one array in a `.npz`.

    Args:
        path: The file.
        wanted: Name of the array in a `.npz`; the first one is used if there is none with this name.

    Raises:
        UserError: It is damaged, missing, or contains no numbers.
    """
    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return _layout(file, path.stat().st_size)
        with zipfile.ZipFile(path) as archive:
            entry = _entry(archive, wanted)
            with archive.open(entry) as packed:
                return _layout(packed, entry.file_size)
    except _DAMAGED as error:
        raise _damaged(path, error) from None


def read_array(path: Path, wanted: str = "data") -> NDArray[Any]:
    """The array of a `.npy`, memory-mapped, or one of a `.npz`; see `layout`."""
    try:
        if path.suffix == ".npy":
            found = layout(path)
            return _mapped(path, found)
        with zipfile.ZipFile(path) as archive:
            entry = _entry(archive, wanted)
            with archive.open(entry) as packed:
                found = _layout(packed, entry.file_size)
                content = bytearray(found.bytes - found.start)
                view, at = memoryview(content), 0
                while part := packed.read(min(AT_ONCE, len(content) - at)):
                    view[at : at + len(part)] = part
                    at += len(part)
                if at < len(content) or packed.read(1):
                    raise _Damaged("it has another length than it says")
        flat = np.frombuffer(content, found.dtype) if content else np.empty(0, found.dtype)
        return flat.reshape(found.shape, order="F" if found.columns_first else "C")
    except _DAMAGED as error:
        raise _damaged(path, error) from None


def own_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array that `save_array` wrote, of a known type and shape, memory-mapped.

    Raises:
        UserError: It is missing, or has another type or shape.
    """
    found = layout(path)
    if found.dtype != np.dtype(dtype) or found.shape != shape or found.columns_first:
        raise UserError(
            f"{path}: holds {found.dtype} of shape {found.shape} where {np.dtype(dtype)} of shape {shape} "
            "were prepared. Start again: what is damaged is prepared again."
        )
    return _mapped(path, found)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write a `.npy` to a temporary file, and rename it once it is on the disk."""
    array, numpy = np.ascontiguousarray(array), cast(Any, np.lib.format)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        # Through a Python file: NumPy's own way does not report a full disk.
        numpy.write_array_header_1_0(file, numpy.header_data_from_array_1_0(array))
        file.write(array.reshape(-1).view(np.uint8).data)


def _mapped(path: Path, found: Layout) -> NDArray[Any]:
    order: Any = "F" if found.columns_first else "C"
    if not math.prod(found.shape):  # an empty array cannot be mapped
        return np.empty(found.shape, found.dtype)
    return np.memmap(path, found.dtype, "r", found.start, found.shape, order)


class _Damaged(Exception):
    pass


_DAMAGED = (
    *(_Damaged, OSError, EOFError, ValueError, LookupError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),  # exceptions of `zipfile`
)


def _damaged(path: Path, error: Exception) -> UserError:
    cause = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return UserError(
        f"{path}: damaged, or not an array of numbers ({cause.splitlines()[0][:200]}). Make or copy it again."
    )


def _entry(archive: zipfile.ZipFile, wanted: str) -> zipfile.ZipInfo:
    entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
    if not entries:
        raise _Damaged("the archive holds no array")
    entry = next((each for each in entries if each.filename == f"{wanted}.npy"), entries[0])
    if entry.file_size > MOST_DEFLATED * (entry.compress_size + 1):
        raise _Damaged("it claims to unpack to more than it can hold")
    return entry


def _layout(file: IO[bytes], size: int) -> Layout:
    start = file.read(len(MAGIC) + 2)
    if not start.startswith(MAGIC) or len(start) != len(MAGIC) + 2:
        raise _Damaged("it is not a NumPy file")
    digits = 2 if start[-2] == 1 else 4
    length = int.from_bytes(file.read(digits), "little")
    if length > LONGEST_HEADER:
        raise _Damaged("its header is too long")
    text = file.read(length).decode("latin1")
    match = HEADER.fullmatch(text)
    if match is None:
        raise _Damaged("its header is none of an array of numbers")
    shape = tuple(int(side) for side in re.findall(r"\d+", match[3]))
    found = Layout(np.dtype(match[1]), shape, match[2] == "True", len(start) + digits + length)
    if len(shape) > 8 or found.bytes != size:
        raise _Damaged(f"its header says {found.bytes} bytes, and it has {size}")
    return found
