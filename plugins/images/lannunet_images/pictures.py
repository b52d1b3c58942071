"""PNG, JPEG, BMP and plain pages of TIFF, read with Pillow; upright, as viewers show them."""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Stated
from lannunet_images.claims import RATIO, check_claim

ORIENTATION = 274  # the tag of EXIF and of TIFF
STRIPE = 1 << 24  # pixels that are converted at a time


def opened(file: Path | BinaryIO) -> Any:
    from PIL import Image as pillow

    pillow.MAX_IMAGE_PIXELS = None  # see claims
    return pillow.open(file)


def stated(path: Path, name: str) -> Stated:
    with opened(path) as picture:
        return _stated(path, name, picture, _orientation(path, name, picture))


def pixels(path: Path, name: str) -> NDArray[Any]:
    """The pixels (C, y, x): grey, or red, green and blue; 0 and 1 for images of one bit."""
    with opened(path) as picture:
        orientation = _orientation(path, name, picture)
        _stated(path, name, picture, orientation)
        return upright(filled(picture), orientation)


def _stated(path: Path, name: str, picture: Any, orientation: int) -> Stated:
    with path.open("rb") as file:
        head = file.read(34)
    bits, ratio = 8, RATIO
    if name == "PNG":
        bits = head[24]
    elif name == "BMP":
        bits, compression = struct.unpack_from("<HI", head, 28)
        bits, ratio = bits // len(picture.getbands()), RATIO if compression in (1, 2) else 1
    check_claim(picture.size, len(picture.getbands()), path.stat().st_size * ratio, bits)
    channels = 3 if _mode(picture) == "RGB" else 1
    check_claim(picture.size, channels)
    return Stated(upright_size(picture.size, orientation), channels)


def _mode(picture: Any) -> str:
    if picture.mode == "1":
        return "1"
    return "L" if picture.mode in ("L", "LA", "La") else "RGB"


def filled(picture: Any) -> NDArray[Any]:
    """A picture's pixels (C, y, x), converted by stripes, because each step copies its input."""
    picture.load()  # before its size is read: a TIFF is rotated here
    mode, (width, height) = _mode(picture), picture.size
    array = np.empty((height, width, 3) if mode == "RGB" else (height, width), np.uint8)
    step = max(STRIPE // width, 1)
    for top in range(0, height, step):
        stripe = picture.crop((0, top, width, min(top + step, height)))
        array[top : top + step] = np.asarray(stripe if stripe.mode == mode else stripe.convert(mode))
    return np.moveaxis(array, -1, 0) if mode == "RGB" else array[None]


def _orientation(path: Path, name: str, picture: Any) -> int:
    """The orientation of the stored picture, 1 … 8 as in EXIF; 1 (upright) if the file states none."""
    if name == "PNG":
        return png_orientation(path)
    return _stated_orientation(picture.getexif) if name == "JPEG" else 1


def png_orientation(path: Path) -> int:
    """See `_orientation`."""
    from PIL import Image as pillow

    def exif() -> Any:
        found = pillow.Exif()
        found.load(_png_exif(path))
        return found

    return _stated_orientation(exif)


def _stated_orientation(exif: Callable[[], Any]) -> int:
    try:
        found = exif().get(ORIENTATION, 1)
    except (SyntaxError, ValueError, struct.error):
        return 1  # viewers show a picture with damaged EXIF as it is stored, too
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _png_exif(path: Path) -> bytes:
    """The eXIf chunk, which may follow the pixels."""
    found = (content for kind, content in png_chunks(path, b"eXIf") if kind == b"eXIf")
    return b"Exif\0\0" + next(found, b"")


def png_chunks(path: Path, wanted: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """The kind and content of each chunk; if `wanted` is given, other chunks are skipped unchecked.

    Raises:
        ValueError: A chunk is damaged, or longer than the file: libpng would allocate the memory.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if length > size - file.tell() - 4:
                raise ValueError(f"its chunk {kind!r} claims {length} bytes")
            if wanted and kind != wanted:
                file.seek(length + 4, 1)
                continue
            content, check = file.read(length), file.read(4)
            if zlib.crc32(kind + content) != int.from_bytes(check, "big"):
                raise ValueError(f"its chunk {kind!r} is damaged")
            yield kind, content


def upright_size(size: tuple[int, ...], orientation: int) -> tuple[int, ...]:
    """The size (x, y) of the upright image."""
    return (size[1], size[0], *size[2:]) if orientation >= 5 else tuple(size)


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The pixels (…, y, x) of the upright image."""
    if orientation >= 5:
        array = array.swapaxes(-1, -2)
    if orientation in (2, 3, 6, 7):
        array = array[..., ::-1]
    return array[..., ::-1, :] if orientation in (3, 4, 7, 8) else array
