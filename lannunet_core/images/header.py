"""The content of image files and of their headers."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from lannunet_core.types import Floats


@dataclass(frozen=True)
class Placement:
    """The position of a medical file's voxels in the patient, with as many axes as the file (at most 3).

    Attributes:
        spacing: mm per voxel; 1 if the file does not state it.
        origin: World position of the first voxel, x to the left, y to the back, z up.
        direction: (axes, axes): its columns are the unit vectors along the file's axes. They are not
            perpendicular where the file is sheared.
    """

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: Floats


@dataclass(frozen=True)
class Header:
    """The header of an image file.

    Attributes:
        size: Size (x, y[, z]) in pixels.
        channels: C.
        spacing: mm per pixel (x, y[, z]); None: the file states none.
        placement: Position of its voxels; None: the format has none.
    """

    size: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...] | None
    placement: Placement | None = field(default=None, compare=False)  # arrays do not compare


@dataclass(frozen=True)
class Image:
    """An image as it is stored.

    Attributes:
        pixels: (C, [z,] y, x) in the file's own number type.
        spacing: mm per pixel (x, y[, z]); None: the file states none.
    """

    pixels: NDArray[Any]
    spacing: tuple[float, ...] | None


@dataclass(frozen=True)
class Stated:
    """A header before it is decided whether a 2D image or a volume is wanted.

    Attributes:
        size: Size along the file's axes, x first.
        channels: C.
        spacing: mm per pixel of each axis; None for axes without a value in the file.
        placement: See `Header`.
    """

    size: tuple[int, ...]
    channels: int
    spacing: tuple[float | None, ...] = ()
    placement: Placement | None = None
