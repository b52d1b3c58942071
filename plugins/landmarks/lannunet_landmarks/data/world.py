"""The world of an image: where its pixels lie in mm, by the geometry that its file states.

LPS is DICOM's and ITK's world (x to the left, y to the back, z up), RAS that of NIfTI and nnU-Net (x to the
right, y to the front).
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
IN_PLANE = 0.5  # slices by which a point may miss the one slice of a picture


@dataclass(frozen=True)
class World:
    """From pixels to mm, in LPS; W axes, which are more than D where a picture is one slice of a volume.

    Attributes:
        matrix: (W, W), whose columns are the steps of a pixel along each axis.
        origin: (W,) of the first pixel's centre.
    """

    matrix: Floats
    origin: Floats

    @classmethod
    def of(cls, placement: Placement, axes: int = 0) -> World:
        """With this many axes at least: those that a file lacks have a step of 1 mm."""
        rank = len(placement.spacing)
        axes = max(rank, axes)
        matrix, origin = np.eye(axes), np.zeros(axes)
        matrix[:rank, :rank] = placement.direction * np.asarray(placement.spacing)
        origin[:rank] = placement.origin
        return cls(matrix, origin)

    def points(self, pixels: Floats) -> Floats:
        """(N, W) in mm of pixels (N, D)."""
        return np.asarray(self.origin + self.steps(pixels))

    def pixels(self, points: Floats) -> Floats:
        """(N, W) of points (N, W) in mm."""
        return np.asarray(np.linalg.solve(self.matrix, (points - self.origin).T).T, np.float64)

    def steps(self, offsets: Floats) -> Floats:
        """(N, W) in mm of distances (N, D) in pixels."""
        return np.asarray(offsets @ self.matrix[:, : offsets.shape[-1]].T)


def turned(points: Floats, system: System) -> Floats:
    """From LPS to `system` and back: the first two axes change their sign in RAS."""
    return points * ([-1.0, -1.0, 1.0][: points.shape[-1]]) if system == "RAS" else points


def world_of(header: Header) -> World | None:
    """An image's world; None where its file does not state all of it."""
    if header.placement is None or header.spacing is None:
        return None
    return World.of(header.placement)


def placement_of(image: Path, files: ImageFiles, where: str) -> Placement:
    """The placement of an image whose annotations are in mm.

    Raises:
        UserError: Its file states none, or is not there.
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
    """D of an image that lies in the world: 2 for the one slice of a volume."""
    if len(placement_of(image, files, where).spacing) == 2:
        return 2
    return 2 if files.header(image, 3).size[2] == 1 else 3


def to_pixels(
    points: Floats, system: System, image: Path, dimensions: int, files: ImageFiles, where: str
) -> Floats:
    """(N, D) of points (N, W) of a system; NaN stays.

    Raises:
        UserError: The image has no geometry, other axes, or a point lies in another plane than a picture's.
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
            f"{where}: a point lies {np.nanmax(off):.3g} slices beside the one slice of "
            f"{terminal_text(image)}. Inspect the image that it was placed in."
        )
    return pixels[:, :dimensions]


def to_world(points: Floats, system: System, image: Path, files: ImageFiles, where: str) -> Floats:
    """(N, W) in mm of a system of pixels (N, D)."""
    if system == "pixel":
        return points
    return turned(World.of(placement_of(image, files, where)).points(points), system)
