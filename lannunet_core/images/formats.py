"""Image formats, found by the entry-point group `lannunet.image_formats`; `lannunet-images` provides ours."""

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

    What a reader raises becomes one sentence with the file's name: a `UserError` as it is, anything else as a
    damaged file.

    Attributes:
        name: For messages.
        suffixes: Lower-case, with their dot, the usual one first.
        matches: Whether a file is of this format, by its first 4096 bytes.
        stated: (path, dimensions) → what the header states, compared with the file before memory is taken
            (`lannunet_images.check_claim`); for 2 or 3 dimensions, or None where both would do.
        pixels: (path, dimensions) → (C, [z,] y, x), whole numbers or floats.
        by_name_too: Files often have no suffix, and those that have it are of this format whatever their
            first bytes are: DICOM.
        series: path → which volume a file is a slice of, "" where it does not say.
    """

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    stated: Callable[[Path, int | None], Stated]
    pixels: Callable[[Path, int], NDArray[Any]]
    by_name_too: bool = False
    series: Callable[[Path], str] | None = None


def image_formats() -> tuple[ImageFormat, ...]:
    """The installed formats, in the order in which they are asked."""
    return registered("image_formats", ImageFormat)


def image_suffixes() -> tuple[str, ...]:
    """Of the installed formats."""
    return tuple(suffix for one in image_formats() for suffix in one.suffixes)
