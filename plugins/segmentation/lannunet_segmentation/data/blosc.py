"""Read arrays in Blosc2 frames (`.b2nd`), without executing anything in the file.

`blosc2.open` also opens files with expressions and functions, which it runs, and trusts the offsets in a
damaged file. Here the frame is parsed by hand (its format and that of the b2nd metalayer are documented in
the C library's README_CFRAME_FORMAT and README_B2ND_METALAYER), and the library decompresses one chunk after
the other.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lannunet_images import check_claim
from numpy.typing import NDArray

from lannunet_core import UserError

MOST_HEADER = 1 << 16
TYPES = re.compile(r"[<|][fiu][1248]")
PLACE_OF_LAYERS = re.compile(rb"\xde\x00\x01\xa4b2nd\xd2(....)\xdc\x00\x01", re.DOTALL)  # one metalayer: b2nd
MOST_CODEC, MOST_FILTER = 4, 4  # the library's own: no plugins are loaded
CHUNK_HEADER = 32
ZEROS = 0x81 << 56
"""The offset of a chunk of zeros, which is not stored."""


class Frame(NamedTuple):
    """The array's properties in the header of a file.

    Attributes:
        shape: Shape of the array.
        dtype: Dtype of the array.
        chunks: Shape of a chunk.
        blocks: Shape of a block, into which chunks are divided.
        header: Length of the header.
        compressed: Length of all chunks.
        length: Length of the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    blocks: tuple[int, ...]
    header: int
    compressed: int
    length: int


def b2nd_header(path: Path) -> Frame:
    """The shape and type of an array, without its values.

    Raises:
        UserError: It is not such a file, or contains more than an array of numbers.
    """
    try:
        with path.open("rb") as file:
            frame = _frame(file.read(MOST_HEADER))
        check_claim(frame.shape, 1)
        if path.stat().st_size != frame.length:
            raise ValueError(f"it has {path.stat().st_size} of {frame.length} bytes")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    except (ValueError, struct.error, IndexError) as error:
        raise UserError(
            f"{path}: is not a plain array in a Blosc2 frame ({error}). Copy it or preprocess it again."
        ) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return frame


def read_b2nd(path: Path) -> NDArray[Any]:
    """Read an array.

    Raises:
        UserError: See `b2nd_header`; or blosc2 is not installed.
    """
    frame = b2nd_header(path)
    if find_spec("blosc2") is None:
        raise UserError(
            f"{path}: needs blosc2 to be read. Install it with pip install 'lannunet-segmentation[blosc2]'."
        )
    try:
        return _values(path.read_bytes(), frame)
    except MemoryError:
        raise UserError(f"{path}: does not fit into memory.") from None
    except Exception as error:  # the library raises any exception on damaged files
        cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{path}: is damaged ({cause}). Copy it or preprocess it again.") from None


def _frame(head: bytes) -> Frame:
    """The header, which is in MessagePack; its only metalayer, `b2nd`, describes the array."""
    if head[2:10] != b"b2frame\0":
        raise ValueError("it does not begin as one")
    (header,), (length,) = struct.unpack(">i", head[11:15]), struct.unpack(">q", head[16:24])
    (compressed,) = struct.unpack(">q", head[39:47])
    head = head[: max(header, 0)]
    found = PLACE_OF_LAYERS.search(head)
    if found is None:
        raise ValueError("it holds more than that")
    (at,) = struct.unpack(">i", found[1])
    if head[at] != 0xC6 or head[at + 5] != 0x97:
        raise ValueError("its header is damaged")
    rank, at = head[at + 7], at + 8
    if not 1 <= rank <= 8:
        raise ValueError("its header is damaged")
    shapes = []
    for size, kind in ((8, ">q"), (4, ">i"), (4, ">i")):
        if head[at] != 0x90 | rank:
            raise ValueError("its header is damaged")
        starts = (at + 2 + n * (size + 1) for n in range(rank))
        shapes.append(tuple(struct.unpack(kind, head[start : start + size])[0] for start in starts))
        at += 1 + rank * (size + 1)
    (size,) = struct.unpack(">i", head[at + 2 : at + 6])
    name = head[at + 6 : at + 6 + min(max(size, 0), 8)].decode("ascii", "replace")
    if head[at + 1] != 0xDB or not TYPES.fullmatch(name):
        raise ValueError(f"it holds values of type {name!r}")
    shape, chunks, blocks = shapes
    if min((*shape, *chunks, *blocks)) < 1 or math.prod(shape) >= 2**62:
        raise ValueError(f"its shape is {shape}")
    if not 0 < header <= header + compressed < length:
        raise ValueError("its header is damaged")
    return Frame(shape, np.dtype(name), chunks, blocks, header, compressed, length)


def _values(content: bytes, frame: Frame) -> NDArray[Any]:
    grid = [range(-(-side // chunk)) for side, chunk in zip(frame.shape, frame.chunks, strict=True)]
    divided = [-(-chunk // block) for chunk, block in zip(frame.chunks, frame.blocks, strict=True)]
    padded = [parts * block for parts, block in zip(divided, frame.blocks, strict=True)]
    size, rank = math.prod(padded) * frame.dtype.itemsize, len(frame.shape)
    places = _decompressed(content, frame.header + frame.compressed, 8 * math.prod(map(len, grid)))
    values = np.zeros(frame.shape, frame.dtype)
    for number, place in zip(itertools.product(*grid), np.frombuffer(places, "<i8").tolist(), strict=True):
        if place % 2**64 == ZEROS:
            continue
        chunk = np.frombuffer(_decompressed(content, frame.header + place, size), frame.dtype)
        whole = chunk.reshape(*divided, *frame.blocks)  # block after block
        order = [axis for one in range(rank) for axis in (one, rank + one)]
        whole = whole.transpose(order).reshape(padded)
        starts = [n * chunk for n, chunk in zip(number, frame.chunks, strict=True)]
        target = values[
            tuple(slice(start, start + chunk) for start, chunk in zip(starts, frame.chunks, strict=True))
        ]
        target[...] = whole[tuple(slice(side) for side in target.shape)]
    return values


def _decompressed(content: bytes, start: int, size: int) -> bytes:
    """The `size` bytes of the chunk that starts there.

    Raises:
        ValueError: There is no such chunk.
    """
    import blosc2

    head = content[start : start + CHUNK_HEADER] if start >= 0 else b""
    if len(head) < CHUNK_HEADER:
        raise ValueError("a chunk lies outside of it")
    held, _, length = struct.unpack("<iii", head[4:16])
    if held != size or not CHUNK_HEADER <= length <= len(content) - start:
        raise ValueError("a chunk is of another size")
    if head[2] >> 5 > MOST_CODEC or max(head[16:22]) > MOST_FILTER:
        raise ValueError("a chunk is compressed in a way that is not known")
    found: bytes = blosc2.decompress2(content[start : start + length])
    if len(found) != size:
        raise ValueError("a chunk is of another size")
    return found
