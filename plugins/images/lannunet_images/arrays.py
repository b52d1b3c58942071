"""NumPy files: `.npy`, which is memory-mapped, and `.npz`. No code in them is executed."""

import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Stated, UserError
from lannunet_images.claims import RATIO, check_claim

NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
FORMAT: Any = np.lib.format  # untyped


def stated(path: Path, dimensions: int | None) -> Stated:
    """The size and channels, without a spacing; see `pixels` for the order of axes."""
    shape = _shape(path)
    if dimensions is None:
        return Stated(shape[::-1], 1)
    channels, *size = _layout(shape, dimensions)
    return Stated(tuple(size[::-1]), channels)


def pixels(path: Path, dimensions: int) -> NDArray[Any]:
    """The pixels (C, [z,] y, x). Of D + 1 axes, channels are first; or last, if only that has 4 or fewer."""
    shape = _shape(path)
    _layout(shape, dimensions)
    if _starts_with(path, ZIP):
        with zipfile.ZipFile(path) as archive, archive.open(_member(archive)) as file:
            array: NDArray[Any] = FORMAT.read_array(file, allow_pickle=False)
    else:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return channels_first(array, dimensions)


def channels_first(array: NDArray[Any], dimensions: int) -> NDArray[Any]:
    """An array with or without channels, which may be last, as (C, [z,] y, x).

    Raises:
        UserError: The array has too few or too many axes.
    """
    _layout(array.shape, dimensions)
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    if array.ndim == dimensions:
        return array[None]
    return np.moveaxis(array, -1, 0) if _channels_last(array.shape) else array


def _layout(shape: tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    """The shape (C, [z,] y, x) for an array of this shape."""
    if len(shape) == dimensions:
        return (1, *shape)
    if len(shape) != dimensions + 1:
        raise UserError(f"an array of shape {shape} where {dimensions}D is needed.")
    return (shape[-1], *shape[:-1]) if _channels_last(shape) else shape


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[-1] <= 4 < shape[0]


def _starts_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _shape(path: Path) -> tuple[int, ...]:
    if not _starts_with(path, ZIP):
        with path.open("rb") as file:
            return _checked(file, path.stat().st_size)
    with zipfile.ZipFile(path) as archive:
        member = _member(archive)
        held = member.file_size
        if member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            held = min(held, member.compress_size * RATIO)
        with archive.open(member) as opened:
            return _checked(cast(BinaryIO, opened), held)


def _member(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The entry of the image: the only one, or `image` or `data`."""
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    names = list(members)
    chosen = names[0] if len(names) == 1 else next((n for n in ("image", "data") if n in names), None)
    if chosen is None:
        raise UserError(f"has the arrays {', '.join(names) or '(none)'}. Name the image `image`.")
    return members[chosen]


def _checked(file: BinaryIO, held: int) -> tuple[int, ...]:
    """The shape in an array's header, after a comparison with the number of bytes."""
    try:
        version = FORMAT.read_magic(file)
        read = FORMAT.read_array_header_1_0 if version == (1, 0) else FORMAT.read_array_header_2_0
        shape, _, dtype = read(file)
    except ValueError as error:  # NumPy's message advises to trust the file
        raise ValueError("its NumPy header is truncated, damaged or unusually long") from error
    if dtype.kind not in "biuf":
        raise UserError(f"has {dtype} entries, not grey values. Save the image as an array of numbers.")
    check_claim(shape, 1, held - file.tell(), 8 * dtype.itemsize)
    return tuple(shape)
