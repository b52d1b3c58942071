"""Image files of every supported format as arrays (C, [z,] y, x), x to the right and y down.

The format is told by the file's first bytes; the suffix only decides where they are silent (DICOM without its
preamble). Each format has a module that says what the header states and reads the pixels; what a header
claims is compared with its file before memory is taken (`claims`).
"""

import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lannunet_core.errors import UserError
from lannunet_core.images import arrays, medical, metaimage, nifti, pictures, tiff
from lannunet_core.images.header import Header, Image, Placement, Stated

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DICOM": (".dcm", ".dicom", ".ima"),
    "NIfTI": (".nii", ".nii.gz"),
    "MetaImage": (".mha", ".mhd"),
    "NRRD": (".nrrd",),
    "NumPy": (".npy",),
    "NumPy archive": (".npz",),
}
MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"NRRD": "NRRD",
    b"\x93NUMPY": "NumPy",
    b"PK\x03\x04": "NumPy archive",
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
APPLE_DOUBLE = b"\0\x05\x16\x07"  # what macOS notes about a file, as ._NAME beside it


def image_format(path: Path) -> str:
    """The format of a file by its content, of `FORMATS`.

    Raises:
        UserError: The file cannot be opened, or holds none of the formats.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: is a folder or a device, no image file.")  # a pipe would wait for ever
        with path.open("rb") as file:
            head = file.read(4096)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}).") from None
    if not head:
        raise UserError(f"{path}: is empty. Copy the image again.")
    if head[128:132] == b"DICM":  # whatever stands before it
        return "DICOM"
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            return name
    if nifti.nifti_version(_unzipped(head)):
        return "NIfTI"
    if head.startswith(APPLE_DOUBLE):
        raise UserError(f"{path}: is a note of macOS about another file, no image. Remove it.")
    if b"NDims" in head:
        return "MetaImage"
    suffix = _suffix(path)
    if suffix in FORMATS["DICOM"]:
        return "DICOM"  # old files lack the preamble
    known = next((name for name, suffixes in FORMATS.items() if suffix in suffixes), None)
    if known:
        raise UserError(f"{path}: is not a {known} image, whatever its name says. Copy or convert it again.")
    supported = ", ".join(SUFFIXES)
    raise UserError(f'{path}: unsupported image suffix "{suffix}". Convert it to one of {supported}.')


def image_header(path: Path, dimensions: int) -> Header:
    """Size, channels, spacing and placement, without the pixels; see `read_image`."""
    name = image_format(path)
    with _errors_named(path, name):
        if name.startswith("NumPy"):
            return arrays.header(path, name, dimensions)
        stated = _stated(path, name)
        size, channels = _layout(stated.size, stated.channels, dimensions)
        return Header(size, channels, _spacing(stated, dimensions), stated.placement)


def image_placement(path: Path) -> Placement | None:
    """Where a file says that its voxels lie; None for the formats that say nothing."""
    name = image_format(path)
    with _errors_named(path, name):
        return None if name.startswith("NumPy") else _stated(path, name).placement


def read_image(path: Path, dimensions: int) -> Image:
    """An image's pixels as they are stored, and its spacing, as a picture or a volume (`dimensions` 2 or 3).

    An alpha channel is dropped; a palette is resolved to RGB; the components of a vector image and the fourth
    axis of a volume are channels; a volume of one slice is a picture where `dimensions` is 2. An array of
    D + 1 axes holds its channels first, or last where only the last axis has 4 or fewer entries. A DICOM file
    where 0 is white (MONOCHROME1) is turned round, so that bright means bright.

    Raises:
        UserError: The file is damaged, of no supported format, or of another dimension.
    """
    name = image_format(path)
    with _errors_named(path, name):
        if name.startswith("NumPy"):
            return Image(arrays.pixels(path, name, dimensions), None)
        stated = _stated(path, name)
        size, channels = _layout(stated.size, stated.channels, dimensions)
        pixels = _pixels(path, name)
        if pixels.dtype.kind not in "iuf":
            raise ValueError(f"it holds numbers of type {pixels.dtype}, no grey values")
        return Image(pixels.reshape(channels, *size[::-1]), _spacing(stated, dimensions))


def _stated(path: Path, name: str) -> Stated:
    if name == "NIfTI":
        return nifti.stated(path)
    if name == "MetaImage":
        return metaimage.stated(path)
    if name == "TIFF":
        return tiff.stated(path)
    if _is_picture(path, name):
        return pictures.stated(path, name)
    return medical.stated(path, name)


def _pixels(path: Path, name: str) -> NDArray[Any]:
    if name == "NIfTI":
        return nifti.pixels(path)
    if name == "MetaImage":
        return metaimage.pixels(path)
    if name == "TIFF":
        return tiff.pixels(path)
    if _is_picture(path, name):
        return pictures.pixels(path, name)
    return medical.pixels(path, name)


def _is_picture(path: Path, name: str) -> bool:
    """Whether Pillow reads the file as it is; it would cut 16-bit colours down to 8 bits."""
    if name == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24:] != b"\x10"
    return name in ("JPEG", "BMP")


def _spacing(stated: Stated, dimensions: int) -> tuple[float, ...] | None:
    known = tuple(step for step in stated.spacing[:dimensions] if step is not None)
    return known if len(known) == dimensions else None


def _suffix(path: Path) -> str:
    lower = path.name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else Path(lower).suffix


@contextmanager
def _errors_named(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except MemoryError:
        raise UserError(f"{path}: this {name} image does not fit into memory.") from None
    except Exception as error:  # a damaged file makes the libraries raise anything
        raise UserError(
            f"{path}: damaged or unusual {name} image: {_cause(error)}. Copy or convert it again."
        ) from None


def _cause(error: Exception) -> str:
    """What a library says, without control characters: its text may quote the file."""
    # SimpleITK's text is several lines of C++; the last one says what is wrong.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    cause = re.sub(r"(\x1b|\\x1b)\[[0-9;]*[A-Za-z]", "", lines[-1].rpartition("): ")[2])
    return "".join(filter(str.isprintable, cause)).strip(" .")[:200] or type(error).__name__


def _layout(size: tuple[int, ...], channels: int, dimensions: int) -> tuple[tuple[int, ...], int]:
    """Size (x, y[, z]) and channels as D dimensions take them: single slices and a fourth axis folded."""
    while len(size) > dimensions and size[-1] == 1:
        size = size[:-1]
    if len(size) == dimensions + 1 == 4 and channels == 1:
        size, channels = size[:-1], size[-1]
    if len(size) != dimensions:
        shape = "×".join(map(str, size))
        raise UserError(f"a {len(size)}D image ({shape}) where {dimensions}D is needed.")
    return size, channels


def _unzipped(head: bytes) -> bytes:
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)
    except zlib.error:
        return b""
