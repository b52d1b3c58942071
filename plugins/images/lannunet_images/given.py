"""Images from Python: in memory as objects of NumPy, torch, Pillow or SimpleITK, or as paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Header, Image, ImageReader, Placement, UserError
from lannunet_images.arrays import channels_first
from lannunet_images.files import ImageFiles
from lannunet_images.series import is_series


@dataclass(frozen=True)
class Held:
    """An image in memory.

    Attributes:
        pixels: (C, [z,] y, x).
        spacing: mm per pixel (x, y[, z]); None: unknown.
        placement: Placement of the voxels; None: unknown.
    """

    pixels: NDArray[Any]
    spacing: tuple[float, ...] | None
    placement: Placement | None


@dataclass(frozen=True)
class GivenImages(ImageFiles):
    """Reads files, and images in memory, which have a name instead of a file's path.

    Attributes:
        held: Images in memory by name.
        spacing: mm per pixel (x, y[, z]) of images that state none; None: unknown.
    """

    held: Mapping[Path, Held] = field(default_factory=dict)
    spacing: tuple[float, ...] | None = None

    def read(self, path: Path, dimensions: int) -> Image:
        one = self.held.get(path)
        image = super().read(path, dimensions) if one is None else Image(one.pixels, one.spacing)
        return Image(image.pixels, image.spacing or self.spacing)

    def header(self, path: Path, dimensions: int) -> Header:
        one = self.held.get(path)
        if one is None:
            found = super().header(path, dimensions)
            return Header(found.size, found.channels, found.spacing or self.spacing, found.placement)
        size = tuple(one.pixels.shape[:0:-1])
        return Header(size, len(one.pixels), one.spacing or self.spacing, one.placement)

    def placement(self, path: Path) -> Placement | None:
        one = self.held.get(path)
        return super().placement(path) if one is None else one.placement

    def reader(self, path: Path) -> ImageReader | None:
        return None if path in self.held else super().reader(path)


def given_images(
    images: Sequence[Any], files: ImageFiles, dimensions: int, spacing: float | Sequence[float] | None
) -> tuple[list[Path], GivenImages]:
    """One path, or name, per image, and the reader of the images.

    Args:
        images: Arrays or tensors ([z,] y, x) with channels first, or last if the last axis has 4 or fewer;
            images of Pillow or SimpleITK; paths.
        files: Reader of the files.
        dimensions: D.
        spacing: mm per pixel, one number or (x, y[, z]), of images that state none.

    Raises:
        UserError: One is not an image, has another number of dimensions, or is a missing file; or the spacing
            is invalid.
    """
    steps = None if spacing is None else _steps(spacing, dimensions)
    paths: list[Path] = []
    held: dict[Path, Held] = {}
    for number, image in enumerate(images):
        if isinstance(image, (str, PathLike)):
            path = Path(image)
            if not path.is_file() and not is_series(path):
                raise UserError(f"{path}: there is no such image file.")
        else:
            path = Path(f"<image {number}>")
            try:
                held[path] = _held(image, dimensions)
            except UserError as error:
                raise UserError(f"{path}: {error}") from None
        paths.append(path)
    return paths, GivenImages(files.readers, held, steps)


def _steps(spacing: float | Sequence[float], dimensions: int) -> tuple[float, ...]:
    steps = np.atleast_1d(np.asarray(spacing, float))
    if steps.shape not in ((1,), (dimensions,)) or not (np.isfinite(steps) & (steps > 0)).all():
        raise UserError(
            f"spacing: {spacing} is not the size of a pixel in {dimensions}D. Give mm, one number or one per "
            "axis."
        )
    return tuple(float(step) for step in np.broadcast_to(steps, dimensions))


def _held(image: Any, dimensions: int) -> Held:
    if hasattr(image, "GetNumberOfComponentsPerPixel"):  # SimpleITK
        return _of_simpleitk(image, dimensions)
    if hasattr(image, "getbands"):  # Pillow
        from PIL import ImageOps

        from lannunet_images.pictures import filled

        upright = ImageOps.exif_transpose(image)
        pixels = np.asarray(upright)[None] if upright.mode[0] in "IF" else filled(upright)
    else:
        pixels = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
    return Held(_checked(pixels, dimensions), None, None)


def _of_simpleitk(image: Any, dimensions: int) -> Held:
    import SimpleITK as sitk

    pixels = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        pixels = np.moveaxis(pixels, -1, 0)
    elif pixels.ndim == 3 > dimensions and len(pixels) > 1:
        raise UserError(f"a volume of {len(pixels)} slices where 2D is needed.")
    elif pixels.ndim == dimensions:
        pixels = pixels[None]
    if pixels.ndim == dimensions + 2 and pixels.shape[1] == 1:  # a volume of one slice is a 2D image
        pixels = pixels[:, 0]
    axes = image.GetDimension()
    placement = Placement(
        image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (axes, axes))
    )
    return Held(_checked(pixels, dimensions), tuple(image.GetSpacing()[:dimensions]), placement)


def _checked(pixels: NDArray[Any], dimensions: int) -> NDArray[Any]:
    """The pixels as an array of numbers (C, [z,] y, x)."""
    if pixels.dtype.kind not in "biuf" or not pixels.size:
        raise UserError(f"an array of shape {pixels.shape} and type {pixels.dtype} is not an image.")
    return channels_first(pixels, dimensions)
