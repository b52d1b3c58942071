"""Image formats, from the entry-point group `lannunet.image_formats`; `lannunet-images` provides ours."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lannunet_core.images.header import Stated
from lannunet_core.plugins.formats import registered


@dataclass(frozen=True)
class ImageFormat:
    """How the files of a format are recognised and read.

    A `UserError` of a reader is shown unchanged; any other exception is reported as a damaged file.

    Attributes:
        name: Name in messages.
        suffixes: Suffixes in lower case, with their dot, the usual one first.
        matches: Whether a file has this format, by its first 4096 bytes.
        stated: (path, dimensions) → the content of the header, checked against the file before memory is
            allocated (`lannunet_images.check_claim`); for 2 or 3 dimensions, or None if either is possible.
        pixels: (path, dimensions) → (C, [z,] y, x), whole numbers or floats.
        by_name_too: Whether a file's suffix decides, whatever its first bytes are, and files may lack a
            suffix: DICOM.
        series: path → the volume that a file is a slice of, "" if the file does not state it.
    """

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    stated: Callable[[Path, int | None], Stated]
    pixels: Callable[[Path, int], NDArray[Any]]
    by_name_too: bool = False
    series: Callable[[Path], str] | None = None


def image_formats() -> tuple[ImageFormat, ...]:
    """The installed formats, in the order in which they are tried."""
    return registered("image_formats", ImageFormat)


def image_suffixes() -> tuple[str, ...]:
    """The suffixes of the installed formats."""
    return tuple(suffix for one in image_formats() for suffix in one.suffixes)
