"""Image files of every installed format as arrays (C, [z,] y, x), x to the right and y down.

The format is recognised by the file's first bytes, else by the suffix (DICOM without its preamble).
"""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lannunet_core.errors import UserError
from lannunet_core.images.formats import ImageFormat, image_formats, image_suffixes
from lannunet_core.images.header import Header, Image, Placement, Stated
from lannunet_core.plugins import missing

APPLE_DOUBLE = b"\0\x05\x16\x07"  # macOS metadata of a file, stored as ._NAME beside it


def image_format(path: Path) -> str:
    """The name of a file's format, by its content.

    Raises:
        UserError: The file cannot be opened, or its format is not installed.
    """
    return _format(path).name


def image_header(path: Path, dimensions: int) -> Header:
    """Size, channels, spacing and placement, without the pixels; see `read_image`."""
    with _reading(path) as of:
        stated = of.stated(path, dimensions)
        size, channels = _layout(stated.size, stated.channels, dimensions)
        return Header(size, channels, _spacing(stated, dimensions), stated.placement)


def image_placement(path: Path) -> Placement | None:
    """The position of a file's voxels; None: the format has none."""
    with _reading(path) as of:
        return of.stated(path, None).placement


def read_image(path: Path, dimensions: int) -> Image:
    """An image's pixels as they are stored, and its spacing, as a picture or a volume (`dimensions` 2 or 3).

    An alpha channel is dropped; a palette is resolved to RGB; the components of a vector image and the fourth
    axis of a volume are channels; a volume of one slice is a picture where `dimensions` is 2. An array of
    D + 1 axes holds its channels first, or last where only the last axis has 4 or fewer entries. A DICOM file
    where 0 is white (MONOCHROME1) is inverted.

    Raises:
        UserError: The file is damaged, of no supported format, or of another dimension.
    """
    with _reading(path) as of:
        stated = of.stated(path, dimensions)
        size, channels = _layout(stated.size, stated.channels, dimensions)
        pixels = of.pixels(path, dimensions)
        if pixels.dtype.kind not in "iuf":
            raise ValueError(f"it holds numbers of type {pixels.dtype}, which are not grey values")
        return Image(pixels.reshape(channels, *size[::-1]), _spacing(stated, dimensions))


def series_of(path: Path) -> str:
    """The series of a slice; "" if the file states none, or is damaged (reported on reading)."""
    try:
        of = _format(path)
    except UserError:
        return ""
    return of.series(path) if of.series else ""


def _format(path: Path) -> ImageFormat:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UserError(f"{path}: is a folder or a device, not an image file.")  # a pipe would block
        with path.open("rb") as file:
            head = file.read(4096)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', error)}).") from None
    if not head:
        raise UserError(f"{path}: is empty. Copy the image again.")
    if found := next((one for one in image_formats() if one.matches(head)), None):
        return found
    if head.startswith(APPLE_DOUBLE):
        raise UserError(f"{path}: is metadata of macOS about another file, not an image. Remove it.")
    suffix = _suffix(path)
    known = next((one for one in image_formats() if suffix in one.suffixes), None)
    if known and known.by_name_too:
        return known
    if known:
        raise UserError(
            f"{path}: is not a {known.name} image, whatever its name says. Copy or convert it again."
        )
    if not (supported := ", ".join(image_suffixes())):
        raise UserError(
            f"{path}: no image format is installed. To add them: {missing.INSTALL} lannunet-images."
        )
    raise UserError(f'{path}: unsupported image suffix "{suffix}". Convert it to one of {supported}.')


def _spacing(stated: Stated, dimensions: int) -> tuple[float, ...] | None:
    known = tuple(step for step in stated.spacing[:dimensions] if step is not None)
    return known if len(known) == dimensions else None


def _suffix(path: Path) -> str:
    lower = path.name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else Path(lower).suffix


@contextmanager
def _reading(path: Path) -> Iterator[ImageFormat]:
    """The file's format; errors within are reported with the file's name."""
    of = _format(path)
    try:
        yield of
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except MemoryError:
        raise UserError(f"{path}: this {of.name} image does not fit into memory.") from None
    except Exception as error:  # libraries raise any exception on damaged files
        raise UserError(
            f"{path}: damaged or unusual {of.name} image: {_cause(error)}. Copy or convert it again."
        ) from None


def _cause(error: Exception) -> str:
    """A library's message without control characters, as it may quote the file."""
    # SimpleITK's message is several lines of C++; the last one has the reason.
    lines = str(error).strip().splitlines() or [type(error).__name__]
    cause = re.sub(r"(\x1b|\\x1b)\[[0-9;]*[A-Za-z]", "", lines[-1].rpartition("): ")[2])
    return "".join(filter(str.isprintable, cause)).strip(" .")[:200] or type(error).__name__


def _layout(size: tuple[int, ...], channels: int, dimensions: int) -> tuple[tuple[int, ...], int]:
    """Size (x, y[, z]) and channels for D dimensions, without single slices; a fourth axis is channels."""
    while len(size) > dimensions and size[-1] == 1:
        size = size[:-1]
    if len(size) == dimensions + 1 == 4 and channels == 1:
        size, channels = size[:-1], size[-1]
    if len(size) != dimensions:
        shape = "×".join(map(str, size))
        raise UserError(f"a {len(size)}D image ({shape}) where {dimensions}D is needed.")
    return size, channels
