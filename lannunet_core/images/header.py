"""What image files say of themselves, and what is read from them."""

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from lannunet_core.types import Floats


@dataclass(frozen=True)
class Placement:
    """Where the voxels of a medical file lie in the patient, as many axes as the file has (at most 3).

    Attributes:
        spacing: mm per voxel; 1 where the file does not say.
        origin: World position of the first voxel, x to the left, y to the back, z up.
        direction: (axes, axes): its columns are the unit vectors along the file's axes. They are not
            perpendicular where the file is sheared.
    """

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: Floats


@dataclass(frozen=True)
class Header:
    """What an image file says of itself.

    Attributes:
        size: (x, y[, z]) in pixels.
        channels: C.
        spacing: mm per pixel (x, y[, z]); None where the file states none.
        placement: Where its voxels lie; None for the formats that say nothing.
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
        spacing: mm per pixel (x, y[, z]); None where the file states none.
    """

    pixels: NDArray[Any]
    spacing: tuple[float, ...] | None


@dataclass(frozen=True)
class Stated:
    """A header before it is known whether a picture or a volume is wanted.

    Attributes:
        size: Along the file's axes, x first.
        channels: C.
        spacing: mm per pixel of each axis; None for those that the file does not state.
        placement: See `Header`.
    """

    size: tuple[int, ...]
    channels: int
    spacing: tuple[float | None, ...] = ()
    placement: Placement | None = None
