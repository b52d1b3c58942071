"""TIFF: pages, sample layouts and bit depths. Pillow decodes plain pages; others are decoded here.

A file of several pages of one size is a volume; smaller copies of a page (thumbnails, pyramids) are left out.
"""

import io
import itertools
import json
import math
import re
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Stated, UserError
from lannunet_images.claims import RATIO, check_claim
from lannunet_images.pictures import ORIENTATION, filled, opened, upright, upright_size

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_BYTES, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, EXTRA, FORMAT = 322, 323, 324, 325, 338, 339
ONES = (BITS, COMPRESSION, SAMPLES, PLANAR, PREDICTOR, FORMAT, ORIENTATION)
DEFAULTS = {SUBFILE: 0, **dict.fromkeys(ONES, 1)}
WHITE_IS_0, BLACK_IS_0, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD = 1, 5, 7, 8, 32946, 32773, 34925, 50000
RATIOS = {NONE: 1, LZW: RATIO, DEFLATE: RATIO, OLD_DEFLATE: RATIO, PACKBITS: RATIO, JPEG: RATIO}
BY_BYTES = (NONE, LZW, DEFLATE, OLD_DEFLATE, PACKBITS, LZMA, ZSTD)  # compressions of arbitrary bytes
KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of a tag's numbers
MOST_PAGES = 1 << 16


class _Page(dict[int, tuple[int, ...]]):
    """A page's tags; `order` is the file's, "<" or ">"."""

    order = "<"
    number = 0  # in the file

    def one(self, tag: int) -> int:
        if not (found := self.get(tag)) and tag not in DEFAULTS:
            raise ValueError(f"it has no tag {tag}")
        return found[0] if found else DEFAULTS[tag]

    @property
    def size(self) -> tuple[int, int]:
        return self.one(WIDTH), self.one(HEIGHT)

    @property
    def orientation(self) -> int:
        found = self.one(ORIENTATION)
        return found if 1 <= found <= 8 else 1

    @property
    def has_alpha(self) -> bool:
        colours = {2: (WHITE_IS_0, BLACK_IS_0), 4: (RGB,)}.get(self.one(SAMPLES), ())
        extra = self.get(EXTRA, (2,) if self.one(SAMPLES) == 4 else ())
        return self.one(PHOTOMETRIC) in colours and extra in ((1,), (2,))

    @property
    def is_plain(self) -> bool:
        """Whether Pillow decodes the page."""
        photometric, samples = self.one(PHOTOMETRIC), self.one(SAMPLES)
        fits = photometric <= PALETTE if samples == 1 else samples == 3 and photometric in (RGB, YCBCR)
        return max(self.get(BITS, (1,))) <= 8 and self.one(FORMAT) == 1 and self.one(PLANAR) == 1 and fits

    @property
    def channels(self) -> int:
        if self.is_plain and self.one(PHOTOMETRIC) in (PALETTE, YCBCR):
            return 3
        return self.one(SAMPLES) - self.has_alpha


def stated(path: Path) -> Stated:
    with path.open("rb") as file:
        return _stated(path, _pages(file))


def pixels(path: Path) -> NDArray[Any]:
    """The pixels (C, y, x), or (C, z, y, x) of several pages; white is the largest number."""
    with path.open("rb") as file:
        pages = _pages(file)
        _stated(path, pages)
        if all(page.is_plain for page in pages):
            with opened(path) as picture:
                found = [_plain(picture, page) for page in pages]
        else:
            found = [upright(_samples(file, page), page.orientation) for page in pages]
    return found[0] if len(found) == 1 else np.stack(found, axis=1)


def _stated(path: Path, pages: list[_Page]) -> Stated:
    first = pages[0]
    looks = {(page.size, page.channels, page.one(BITS), page.one(FORMAT)) for page in pages}
    if len(looks) > 1:
        raise UserError(
            "its pages differ in size or type. Save each page as a file, or all with the same size and type."
        )
    samples, held, bits = first.one(SAMPLES), path.stat().st_size, float(first.one(BITS))
    size: tuple[int, ...] = first.size if len(pages) == 1 else (*first.size, len(pages))
    check_claim(size, max(samples, first.channels))
    if all(page.one(COMPRESSION) in RATIOS for page in pages):
        if first.one(PHOTOMETRIC) == YCBCR:
            bits /= 3  # colours may be halved along both axes
        check_claim(size, samples, held * max(RATIOS[page.one(COMPRESSION)] for page in pages), bits)
    size = upright_size(size, first.orientation)
    return Stated(size, first.channels, _spacing_beside(path) if len(pages) > 1 else ())


def _spacing_beside(path: Path) -> tuple[float, ...]:
    """mm per voxel (x, y, z) from the JSON of nnU-Net next to a volume; empty: there is no such file."""
    stem = path.name[: path.name.rindex(".")] if "." in path.name else path.name
    for name in dict.fromkeys((stem, re.sub(r"_\d{4}$", "", stem))):
        beside = path.with_name(f"{name}.json")
        try:
            content = json.loads(beside.read_bytes()) if beside.is_file() else None
        except ValueError:
            continue
        if isinstance(content, dict) and "spacing" in content:
            steps = content["spacing"]
            numbers = isinstance(steps, list) and all(type(step) in (int, float) for step in steps)
            if not (numbers and len(steps) == 3 and all(0 < abs(step) < math.inf for step in steps)):
                raise UserError(
                    f'its spacing in {beside} should be three lengths, as in "spacing": [z, y, x].'
                )
            return tuple(abs(float(step)) for step in reversed(steps))
    return ()


def _pages(file: BinaryIO) -> list[_Page]:
    """The tags of each page, without smaller copies of others."""
    end = file.seek(0, 2)

    def numbers(kinds: str, offset: int | None = None) -> tuple[int, ...]:
        if offset is not None:
            file.seek(offset)
        return struct.unpack(order + kinds, file.read(struct.calcsize(order + kinds)))

    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"
    large = numbers("H")[0] == 43
    number, offset_size = ("Q", 8) if large else ("I", 4)
    (place,) = numbers(number, 8 if large else 4)
    pages: list[_Page] = []
    seen: set[int] = set()
    while place and place not in seen and len(seen) < MOST_PAGES:
        seen.add(place)
        page = _Page()
        page.order, page.number = order, len(seen) - 1
        (count,) = numbers("Q" if large else "H", place)
        first = file.tell()
        each = 4 + 2 * offset_size
        for entry in range(min(count, end // each)):
            tag, kind, length = numbers("HH" + number, first + each * entry)
            if kind in INTEGERS:
                kinds = f"{length}{INTEGERS[kind]}"
                size = struct.calcsize(order + kinds)
                if size > end:
                    raise ValueError(f"tag {tag} claims {size} bytes")
                page[tag] = numbers(kinds, None if size <= offset_size else numbers(number)[0])
        pages.append(page)
        (place,) = numbers(number, first + each * count)
    kept = [page for page in pages if not page.one(SUBFILE) & 1]
    if not kept:
        raise ValueError("it has no page")
    return kept


def _plain(picture: Any, page: _Page) -> NDArray[Any]:
    picture.seek(page.number)
    return filled(picture)  # Pillow rotates it upright


def _samples(file: BinaryIO, page: _Page) -> NDArray[Any]:
    """A page's stored samples (C, y, x)."""
    bits, formats = set(page.get(BITS, (1,))), set(page.get(FORMAT, (1,)))
    compression, photometric = page.one(COMPRESSION), page.one(PHOTOMETRIC)
    kind = KINDS.get(min(formats), "")
    if (
        len(bits | {8, 16, 32, 64}) > 4
        or len(bits) > 1
        or len(formats) > 1
        or (kind == "f" and bits == {8})
        or photometric > (RGB if page.one(SAMPLES) > 1 else BLACK_IS_0)
        or (kind in ("", "f") and (photometric == WHITE_IS_0 or not kind))
        or compression not in BY_BYTES
    ):
        raise UserError(
            f"a TIFF of {page.one(SAMPLES)} samples of {'/'.join(map(str, sorted(bits)))} bits, format "
            f"{min(formats)}, photometric {photometric}, compression {compression} is not read. Save it "
            "without compression, as whole numbers or floats in which black is 0."
        )
    dtype = np.dtype(f"{page.order}{kind}{bits.pop() // 8}")
    (width, height), samples = page.size, page.one(SAMPLES)
    planes, together = (samples, 1) if page.one(PLANAR) == 2 else (1, samples)
    tiled = TILE_WIDTH in page
    if tiled:
        block_width, block_height = page.one(TILE_WIDTH), page.one(TILE_HEIGHT)
    else:
        block_width, block_height = width, min((*page.get(STRIP_ROWS, ()), height))
    if min(block_width, block_height) < 1 or block_width * block_height > 4 * (width + 64) * (height + 64):
        raise ValueError(f"its tiles are {block_width}×{block_height}")
    offsets = page.get(TILE_OFFSETS if tiled else STRIP_OFFSETS, ())
    sizes = page.get(TILE_BYTES if tiled else STRIP_BYTES, ())
    rows, columns = range(0, height, block_height), range(0, width, block_width)
    if not len(offsets) == len(sizes) == planes * len(rows) * len(columns):
        raise ValueError(f"it has {len(offsets)} strips or tiles of {planes * len(rows) * len(columns)}")
    native = dtype.newbyteorder("=")
    array = np.empty((planes, height, width, together), native)
    for (plane, top, left), offset, size in zip(
        itertools.product(range(planes), rows, columns), offsets, sizes, strict=True
    ):
        lines = block_height if tiled else min(block_height, height - top)
        file.seek(offset)
        block = _decoded(file.read(size), compression, block_width * together * dtype.itemsize, lines)
        values = _unpredicted(block, page.one(PREDICTOR), dtype, together)
        place = array[plane, top : top + block_height, left : left + block_width]
        place[:] = values.reshape(lines, block_width, together)[: place.shape[0], : place.shape[1]]
    array = np.moveaxis(array[0], -1, 0) if planes == 1 else array[..., 0]
    if photometric == WHITE_IS_0:
        np.invert(array, out=array)
    return array[: page.channels]


def _decoded(data: bytes, compression: int, line: int, lines: int) -> NDArray[np.uint8]:
    """The bytes (lines, line) of a strip or tile."""
    wanted = line * lines
    if compression in (DEFLATE, OLD_DEFLATE):
        data = zlib.decompressobj().decompress(data, wanted)
    elif compression != NONE:
        return _by_pillow(data, compression, line, lines)
    if len(data) < wanted:
        raise ValueError(f"a strip or tile has {len(data)} of {wanted} bytes")
    return np.frombuffer(data, np.uint8, wanted).reshape(lines, line)


def _by_pillow(data: bytes, compression: int, line: int, lines: int) -> NDArray[np.uint8]:
    """Decode the bytes with Pillow, as a grey picture of 8 bits regardless of their meaning."""
    tags = {WIDTH: line, HEIGHT: lines, BITS: 8, COMPRESSION: compression, PHOTOMETRIC: BLACK_IS_0}
    tags |= {STRIP_OFFSETS: 8, SAMPLES: 1, STRIP_ROWS: lines, STRIP_BYTES: len(data)}
    data += b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    content = head + data + struct.pack("<H", len(tags)) + entries + bytes(4)
    with opened(io.BytesIO(content)) as picture:
        return np.asarray(picture)


def _unpredicted(
    block: NDArray[np.uint8], predictor: int, dtype: np.dtype[Any], samples: int
) -> NDArray[Any]:
    """Undo the predictor: the numbers (lines, samples of a line) from differences along the line."""
    lines = len(block)
    if predictor == 1:
        return block.view(dtype)
    if predictor == 2:
        whole = np.dtype(f"u{dtype.itemsize}")
        steps = block.view(whole.newbyteorder(dtype.byteorder)).reshape(lines, -1, samples)
        return np.cumsum(steps, axis=1, dtype=whole).view(dtype.newbyteorder("=")).reshape(lines, -1)
    if predictor == 3:  # for floats: differences of bytes, the most significant bytes of all numbers first
        planes = np.cumsum(block.reshape(lines, -1, samples), axis=1, dtype=np.uint8)
        planes = planes.reshape(lines, dtype.itemsize, -1)
        return np.ascontiguousarray(np.moveaxis(planes, 1, -1)).view(f">f{dtype.itemsize}")[..., 0]
    raise ValueError(f"predictor {predictor}")
