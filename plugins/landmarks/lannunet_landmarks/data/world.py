"""The world coordinates of an image in mm, from the geometry in its file.

LPS is the world of DICOM and ITK (x to the left, y to the back, z up), RAS that of NIfTI and nnU-Net (x to
the right, y to the front).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from lannunet_images import ImageFiles, is_series

from lannunet_core import Floats, Header, Placement, UserError, terminal_text

System = Literal["pixel", "LPS", "RAS"]
SYSTEMS: tuple[System, ...] = ("pixel", "LPS", "RAS")
IN_PLANE = 0.5  # largest distance of a point from a single slice, in slices


@dataclass(frozen=True)
class World:
    """The map from pixels to mm, in LPS; W axes, which are more than D where an image is one slice of a
    volume.

    Attributes:
        matrix: (W, W), whose columns are the steps of a pixel along each axis, in mm.
        origin: (W,) centre of the first pixel, in mm.
    """

    matrix: Floats
    origin: Floats

    @classmethod
    def of(cls, placement: Placement, axes: int = 0) -> World:
        """The world of a placement, with at least this many axes: those that a file lacks have a step of 1
        mm."""
        rank = len(placement.spacing)
        axes = max(rank, axes)
        matrix, origin = np.eye(axes), np.zeros(axes)
        matrix[:rank, :rank] = placement.direction * np.asarray(placement.spacing)
        origin[:rank] = placement.origin
        return cls(matrix, origin)

    def points(self, pixels: Floats) -> Floats:
        """Pixels (N, D) in mm, (N, W)."""
        return np.asarray(self.origin + self.steps(pixels))

    def pixels(self, points: Floats) -> Floats:
        """Points (N, W) in mm in pixels, (N, W)."""
        return np.asarray(np.linalg.solve(self.matrix, (points - self.origin).T).T, np.float64)

    def steps(self, offsets: Floats) -> Floats:
        """Distances (N, D) in pixels in mm, (N, W)."""
        return np.asarray(offsets @ self.matrix[:, : offsets.shape[-1]].T)


def turned(points: Floats, system: System) -> Floats:
    """Convert from LPS to `system` and back: RAS has the opposite sign on the first two axes."""
    return points * ([-1.0, -1.0, 1.0][: points.shape[-1]]) if system == "RAS" else points


def world_of(header: Header) -> World | None:
    """An image's world; None: its file does not state all of it."""
    if header.placement is None or header.spacing is None:
        return None
    return World.of(header.placement)


def placement_of(image: Path, files: ImageFiles, where: str) -> Placement:
    """The placement of an image whose annotations are in mm.

    Raises:
        UserError: The file states none, or does not exist.
    """
    if not image.is_file() and not is_series(image):
        raise UserError(
            f"{where}: image {terminal_text(image)} does not exist. Paths are relative to dataset.root."
        )
    placement = files.placement(image)
    if placement is None:
        raise UserError(
            f"{where}: its points are in mm of the world, but image {terminal_text(image)} states no "
            "geometry. Save it as NRRD, NIfTI or MetaImage where it was annotated, or give points in pixels."
        )
    return placement


def dimensions_of(image: Path, files: ImageFiles, where: str) -> int:
    """D of an image in a world: 2 for a single slice of a volume."""
    if len(placement_of(image, files, where).spacing) == 2:
        return 2
    return 2 if files.header(image, 3).size[2] == 1 else 3


def to_pixels(
    points: Floats, system: System, image: Path, dimensions: int, files: ImageFiles, where: str
) -> Floats:
    """Convert points (N, W) of a system to pixels (N, D); NaN stays NaN.

    Raises:
        UserError: The image has no geometry or other axes, or a point lies off the plane of a slice.
    """
    if system == "pixel":
        return points
    if np.isnan(points).all():
        return np.full((len(points), dimensions), np.nan)
    world = World.of(placement_of(image, files, where), points.shape[1])
    if len(world.origin) != points.shape[1]:
        raise UserError(
            f"{where}: its points have {points.shape[1]} numbers where the world of {terminal_text(image)} "
            f"has {len(world.origin)} axes."
        )
    pixels = world.pixels(turned(points, system))
    off = np.abs(pixels[:, dimensions:])
    if (off > IN_PLANE).any():
        raise UserError(
            f"{where}: a point lies {np.nanmax(off):.3g} slices away from the single slice of "
            f"{terminal_text(image)}. Check which image it was placed in."
        )
    return pixels[:, :dimensions]


def to_world(points: Floats, system: System, image: Path, files: ImageFiles, where: str) -> Floats:
    """Convert pixels (N, D) to mm of a system, (N, W)."""
    if system == "pixel":
        return points
    return turned(World.of(placement_of(image, files, where)).points(points), system)
