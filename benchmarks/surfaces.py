"""A drawn 3D data set for `benchmarks.recipe`: a body with twelve knobs, the tips of which are landmarks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from lannunet_core import Floats

SPLITS = {"training": 30, "validation": 5, "testing": 15}
SIZE = np.array([72, 96, 56])  # voxels, x y z
SPACING = 0.5  # mm
RADII = np.array([9.0, 14.0, 7.0])  # mm, of the body
KNOBS = 12


def write_surfaces(folder: Path, seed: int = 0) -> Path:
    """Draw the volumes, write them with their JSON, and return its path."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = [f"knob {number + 1}" for number in range(KNOBS)]
    content: dict[str, object] = {"name": "surfaces", "landmark_names": names}
    number = 0
    for split, count in SPLITS.items():
        samples = []
        for _ in range(count):
            volume, points = draw(np.random.default_rng((seed, number)))
            image = sitk.GetImageFromArray(volume)
            image.SetSpacing([SPACING] * 3)
            name = f"surface{number:03d}"
            sitk.WriteImage(image, str(folder / "images" / f"{name}.nii.gz"))
            samples.append(
                {"id": name, "image": f"images/{name}.nii.gz", "coordinates": points.round(3).tolist()}
            )
            number += 1
        content[split] = samples
    target = folder / "dataset.json"
    target.write_text(json.dumps(content), encoding="utf-8")
    return target


def draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], Floats]:
    """A volume (z, y, x) and the tips (12, 3) in voxels."""
    template = np.random.default_rng(0)  # the same knobs in each volume
    directions = template.normal(size=(KNOBS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths, widths = template.uniform(2.0, 4.5, KNOBS), template.uniform(0.9, 1.6, KNOBS)

    turned = rotation(rng.uniform(-25, 25, 3)) @ (np.eye(3) + rng.normal(0, 0.06, (3, 3)))
    radii = RADII * rng.normal(1, 0.06, 3)
    directions = directions + rng.normal(0, 0.05, directions.shape)
    bases = directions * radii
    tips = bases + directions * (lengths * rng.normal(1, 0.1, KNOBS))[:, None]
    centre = (SIZE - 1) / 2 * SPACING + rng.uniform(-2, 2, 3)

    grid = np.stack(np.meshgrid(*(np.arange(side) * SPACING for side in SIZE), indexing="ij"), axis=-1)
    local = (grid - centre) @ np.linalg.inv(turned).T
    distance = (np.linalg.norm(local / radii, axis=-1) - 1) * radii.min()
    for base, tip, width in zip(bases, tips, widths, strict=True):
        axis = tip - base
        along = np.clip(((local - base) @ axis) / (axis @ axis), 0, 1)
        rod = np.linalg.norm(local - base - along[..., None] * axis, axis=-1) - width
        distance = np.minimum(distance, rod)
    inside = 1 / (1 + np.exp(np.clip(distance / 0.25, -30, 30)))
    shade = 1 + 0.3 * np.sin(grid @ rng.normal(0, 0.12, 3) + rng.uniform(0, 6))
    picture = 60 + 90 * inside * shade + rng.normal(0, 14, inside.shape)
    return np.clip(picture, 0, 255).astype(np.uint8).T.copy(), (tips @ turned.T + centre) / SPACING


def rotation(degrees: Floats) -> Floats:
    """Rotation about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        rows = [one for one in range(3) if one != axis]
        turn[np.ix_(rows, rows)] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        matrix = turn @ matrix
    return matrix
