"""MetaImage files: a text header, and an array with x fastest, in the same file or in others.

SimpleITK is not used, because it returns noise for missing pixels, refuses a spacing of 0, and prints.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Stated
from lannunet_images.claims import RATIO, check_claim
from lannunet_images.placed import placed

SIZES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8}
TYPES = {f"MET_{name}": f"i{size}" for name, size in SIZES.items()}
TYPES |= {f"MET_U{name}": f"u{size}" for name, size in SIZES.items()}
TYPES |= {"MET_FLOAT": "f4", "MET_DOUBLE": "f8"}
ORIGIN = ("Offset", "Position", "Origin")
DIRECTION = ("TransformMatrix", "Rotation", "Orientation")
SPACING = ("ElementSpacing", "ElementSize")
BIG_ENDIAN = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")


class _File:
    """A MetaImage's header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, str] = {}
        with path.open("rb") as file:
            while "ElementDataFile" not in self.fields and (line := file.readline(1 << 16)):
                key, _, value = line.decode("latin-1").partition("=")
                self.fields[key.strip()] = value.strip()
            self.start = file.tell()
        self.size = tuple(int(side) for side in self.one("DimSize").split())
        if len(self.size) != int(self.one("NDims")):
            raise ValueError(f"NDims is {self.one('NDims')}, DimSize {self.one('DimSize')}")
        kind = self.one("ElementType").removesuffix("_ARRAY")
        if kind not in TYPES or self.says("BinaryData", "true") != "true":
            raise ValueError(f"ElementType {kind}, BinaryData {self.says('BinaryData', 'true')} is not read")
        big = any(self.says(key) == "true" for key in BIG_ENDIAN)
        self.dtype = np.dtype(TYPES[kind]).newbyteorder(">" if big else "<")
        self.channels = int(self.says("ElementNumberOfChannels", "1"))
        self.compressed = self.says("CompressedData") == "true"

    def one(self, key: str) -> str:
        if key not in self.fields:
            raise ValueError(f"it has no {key}")
        return self.fields[key]

    def says(self, key: str, default: str = "false") -> str:
        return self.fields.get(key, default).lower()

    def numbers(self, keys: tuple[str, ...], default: list[float]) -> list[float]:
        found = next((self.fields[key].split() for key in keys if key in self.fields), None)
        if found is not None and len(found) != len(default):
            raise ValueError(f"{keys[0]} has {len(found)} numbers, should have {len(default)}")
        return default if found is None else [float(number) for number in found]

    def parts(self) -> list[tuple[Path, int, int]]:
        """The files with the pixels: the start of the pixels in each, and the number of bytes."""
        source = self.one("ElementDataFile")
        skipped = int(self.says("HeaderSize", "0"))
        if source.upper() == "LOCAL":
            return [(self.path, self.start, self.path.stat().st_size - self.start)]
        if source.upper().startswith("LIST"):
            with self.path.open("rb") as file:
                file.seek(self.start)
                names = file.read(1 << 20).decode("latin-1").split("\n")
            names = [name.strip() for name in names if name.strip()]
        elif "%" in source:
            pattern, *numbers = source.split()
            first, last, step = (int(number) for number in (*numbers, "1", "1", "1")[:3])
            names = [pattern % number for number in range(first, last + 1, step)][:65536]
        else:
            names = [source]
        paths = [self.path.parent / name for name in names]
        if missing := next((path for path in paths if not path.is_file()), None):
            raise FileNotFoundError(f"its pixels are missing ({missing})")
        sizes = [path.stat().st_size for path in paths]
        if skipped < 0:  # the pixels are at the end of the file
            skipped = max(sizes[0] - self.wanted // len(paths), 0)
        return [(path, skipped, size - skipped) for path, size in zip(paths, sizes, strict=True)]

    @property
    def wanted(self) -> int:
        return int(np.prod(self.size, dtype=object)) * self.channels * self.dtype.itemsize


def stated(path: Path) -> Stated:
    return _stated(_File(path))


def _stated(file: _File) -> Stated:
    held = sum(size for _, _, size in file.parts()) * (RATIO if file.compressed else 1)
    check_claim(file.size, file.channels, held, 8 * file.dtype.itemsize)
    rank = len(file.size)
    steps = file.numbers(SPACING, [0.0] * rank)  # unknown
    columns = file.numbers(DIRECTION, np.eye(rank).ravel().tolist())
    origin = file.numbers(ORIGIN, [0.0] * rank)
    return placed(file.size, file.channels, steps, origin, np.reshape(columns, (rank, rank)).T)


def pixels(path: Path) -> NDArray[Any]:
    """The stored pixels (C, …, y, x)."""
    file = _File(path)
    _stated(file)
    found = []
    for part, start, size in file.parts():
        if file.compressed:
            with part.open("rb") as opened:
                opened.seek(start)
                found.append(np.frombuffer(_inflated(opened.read(size), file.wanted), np.uint8))
        else:
            found.append(np.fromfile(part, np.uint8, min(size, file.wanted), offset=start))
    whole = found[0] if len(found) == 1 else np.concatenate(found)
    if len(whole) < file.wanted:
        raise ValueError(f"it has {len(whole)} of {file.wanted} bytes")
    array = whole[: file.wanted].view(file.dtype)
    array = array.astype(file.dtype.newbyteorder("="), copy=False)
    return np.moveaxis(array.reshape(*file.size[::-1], file.channels), -1, 0)


def _inflated(data: bytes, wanted: int) -> bytes:
    stream = zlib.decompressobj(wbits=47)  # zlib's header or gzip's
    found = stream.decompress(data, wanted + 1)
    if not stream.eof:  # it is truncated or damaged, or has more
        raise ValueError("the number of its compressed pixels differs from its header")
    return found
