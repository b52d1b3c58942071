"""A generated data set of touching cells, and a score of their predicted separation.

    python -m benchmarks.touching_cells FOLDER
    python -m benchmarks.touching_cells FOLDER --score PREDICTIONS

The first command writes an nnU-Net raw folder of version 2 with 2D images: background 0, cell 1. The
instances of the test images are in `instancesTs`. The second command prints the F1 of label maps that were
predicted for the test images.

Cells are in clumps. Each cell is a region of a power diagram with warped distances, so its outline is
irregular. Between two touching cells, a gap of one or two pixels belongs to the background. The gap is
slightly darker than the cells, with a contrast that varies along it, and cells have similar dark lines
inside. Blur, uneven light and noise are added. So gaps are often ambiguous, and a network that predicts the
most frequent class joins the cells.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIZE = 192  # pixels per side
TRAINING, TESTING = 24, 16
SEED = 2015
CLUMPS = (2, 4)
RADIUS = (7.0, 11.0)  # of a cell, pixels
SMALLEST = 40  # smallest number of pixels of a cell

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scene:
    """An image of cells.

    Attributes:
        image: (y, x) grey values.
        instances: (y, x), 0 background and gaps, else the number of the cell.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.uint16]


def draw_scene(rng: np.random.Generator, size: int = SIZE) -> Scene:
    """Draw one image."""
    centres, radii = _cells(rng, size)
    y, x = np.indices((size, size)).astype(np.float64)
    warp = [2.5 * _smooth(rng, size, 5.0) for _ in range(2)]
    powers = np.stack(
        [
            (x + warp[0] - cx) ** 2 + (y + warp[1] - cy) ** 2 - radius**2
            for (cx, cy), radius in zip(centres, radii, strict=True)
        ]
    )
    owner = powers.argmin(0)
    inside = powers.min(0) < 0
    cells = np.where(inside, owner + 1, 0)
    gap = _gaps(cells, wide=_smooth(rng, size, 12.0) > 0.6)
    instances = _numbered(np.where(gap, 0, cells))

    brightness = rng.uniform(0.45, 0.75, len(centres))
    image = np.where(inside, brightness[owner], 0.15)
    image = ndimage.gaussian_filter(image, 0.7)
    body = inside & ~gap
    image[body] += 0.05 * _smooth(rng, size, 2.0)[body]
    # The contrast varies along a gap, from zero to a third of a cell's brightness.
    contrast = 0.14 * (1 + 1.3 * _smooth(rng, size, 4.0)).clip(0, 2.2)
    image -= contrast * ndimage.gaussian_filter(gap.astype(np.float64), 0.7)
    image -= _false_lines(rng, size, inside)
    image = ndimage.gaussian_filter(image, 0.6) * (1 + 0.15 * _smooth(rng, size, 50.0))
    image += rng.normal(0, 0.035, image.shape)
    return Scene((255 * image.clip(0, 1)).astype(np.uint8), instances)


def _cells(rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Centres (N, 2) and radii (N,) of cells in clumps, each near the one that it was put beside."""
    centres: list[Floats] = []
    radii: list[float] = []
    for _ in range(rng.integers(*CLUMPS, endpoint=True)):
        clump = [rng.uniform(0.2 * size, 0.8 * size, 2)]
        sizes = [rng.uniform(*RADIUS)]
        for _ in range(400):
            if len(clump) == 22:
                break
            beside, radius = int(rng.integers(len(clump))), rng.uniform(*RADIUS)
            angle = rng.uniform(0, 2 * np.pi)
            centre = clump[beside] + 0.82 * (sizes[beside] + radius) * np.array(
                [np.cos(angle), np.sin(angle)]
            )
            others = np.array([*clump, *centres]), np.array([*sizes, *radii])
            apart = np.linalg.norm(others[0] - centre, axis=1) >= 0.78 * (others[1] + radius)
            if apart.all() and (centre > 4).all() and (centre < size - 5).all():
                clump.append(centre)
                sizes.append(radius)
        centres += clump
        radii += sizes
    return np.array(centres), np.array(radii)


def _smooth(rng: np.random.Generator, size: int, scale: float) -> Floats:
    """A random field (size, size) of mean 0 and deviation 1 that changes over `scale` pixels."""
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), scale, mode="wrap")
    return np.asarray((field - field.mean()) / field.std())


def _gaps(cells: NDArray[np.int64], wide: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One pixel of every pair of neighbours, by faces or corners, in two cells; two where `wide`."""
    gap = np.zeros(cells.shape, bool)
    padded = np.pad(cells, 1)
    height, width = cells.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        neighbour = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        gap |= (cells > 0) & (neighbour > 0) & (cells != neighbour)
    for dy, dx in ((0, -1), (-1, 0)):
        neighbour = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        gap |= wide & (cells > 0) & (neighbour > 0) & (cells != neighbour)
    return gap


def _numbered(cells: NDArray[np.int64]) -> NDArray[np.uint16]:
    """The largest part of each cell, numbered from 1; parts that are too small are background."""
    instances = np.zeros(cells.shape, np.uint16)
    number = 0
    for cell, box in enumerate(ndimage.find_objects(cells), 1):
        if box is None:
            continue
        parts, count = ndimage.label(cells[box] == cell)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        if sizes.max(initial=0) >= SMALLEST:
            number += 1
            instances[box][parts == 1 + int(sizes.argmax())] = number
    return instances


def _false_lines(rng: np.random.Generator, size: int, inside: NDArray[np.bool_]) -> Floats:
    """Short dark curves inside of cells, which resemble gaps but are fewer."""
    field = _smooth(rng, size, 6.0)
    slope = np.hypot(*np.gradient(field))
    line = np.exp(-0.5 * (field / (0.8 * slope + 1e-3)) ** 2)
    line *= _smooth(rng, size, 3.0) > 1.1
    return np.asarray(0.12 * ndimage.gaussian_filter(line, 0.5) * inside)


def write_dataset(
    folder: Path, training: int = TRAINING, testing: int = TESTING, seed: int = SEED, size: int = SIZE
) -> None:
    """Write the data set; image n of a part is a function of the seed, the part and n."""
    from PIL import Image

    for part, count, stream in (("Tr", training, 0), ("Ts", testing, 1)):
        for name in ("images", "labels"):
            (folder / f"{name}{part}").mkdir(parents=True, exist_ok=True)
        for n in range(count):
            scene = draw_scene(np.random.default_rng([seed, stream, n]), size)
            case = f"cells_{n:03d}" if part == "Tr" else f"cells_test_{n:03d}"
            Image.fromarray(scene.image).save(folder / f"images{part}" / f"{case}_0000.png")
            label = (scene.instances > 0).astype(np.uint8)
            Image.fromarray(label).save(folder / f"labels{part}" / f"{case}.png")
            if part == "Ts":
                (folder / "instancesTs").mkdir(exist_ok=True)
                Image.fromarray(scene.instances).save(folder / "instancesTs" / f"{case}.png")
    content = {
        "channel_names": {"0": "microscopy"},
        "labels": {"background": 0, "cell": 1},
        "numTraining": training,
        "file_ending": ".png",
        "description": f"Generated touching cells, seed {seed}.",
    }
    (folder / "dataset.json").write_text(json.dumps(content, indent=1))


@dataclass(frozen=True)
class Matched:
    """How many objects were found, predicted too many, and missed."""

    found: int
    surplus: int
    missed: int

    def __add__(self, other: Matched) -> Matched:
        return Matched(self.found + other.found, self.surplus + other.surplus, self.missed + other.missed)

    @property
    def f1(self) -> float:
        return 2 * self.found / max(2 * self.found + self.surplus + self.missed, 1)


def match_objects(
    predicted: NDArray[np.integer[Any]], instances: NDArray[np.integer[Any]], overlap: float = 0.5
) -> Matched:
    """Compare predicted foreground with instances.

    A predicted object is a face-connected component of the foreground. It matches an instance if their
    intersection over union is above `overlap`; with 0.5 or more, this holds for at most one instance.

    Args:
        predicted: (*S), above 0 in cells.
        instances: (*S), 0 background, else the number of the instance.
        overlap: Required intersection over union, at least 0.5.
    """
    objects, count = ndimage.label(predicted > 0)
    common = np.zeros((count + 1, int(instances.max(initial=0)) + 1), np.int64)
    np.add.at(common, (objects.ravel(), instances.ravel()), 1)
    sizes, targets = common.sum(1)[1:], common.sum(0)[1:]
    shared = common[1:, 1:]
    union = sizes[:, None] + targets - shared
    found = int((shared > overlap * union).sum())
    there = int((targets > 0).sum())
    return Matched(found, count - found, there - found)


def score(folder: Path, predictions: Path, smallest: int = 1) -> Matched:
    """Objects of all test images together, without predicted ones of fewer than `smallest` pixels."""
    from PIL import Image

    total = Matched(0, 0, 0)
    for file in sorted((folder / "instancesTs").glob("*.png")):
        with Image.open(file) as instances, Image.open(predictions / file.name) as predicted:
            objects, _ = ndimage.label(np.asarray(predicted) > 0)
            kept = np.bincount(objects.ravel()) >= smallest
            kept[0] = False
            total += match_objects(kept[objects], np.asarray(instances).astype(np.int64))
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="such as Dataset501_TouchingCells")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--training", type=int, default=TRAINING, help="how many images")
    parser.add_argument("--testing", type=int, default=TESTING, help="how many images")
    parser.add_argument("--score", type=Path, metavar="PREDICTIONS", help="folder of predicted label maps")
    chosen = parser.parse_args(arguments)
    if chosen.score is None:
        write_dataset(chosen.folder, chosen.training, chosen.testing, chosen.seed)
        return
    matched = score(chosen.folder, chosen.score)
    print(
        f"F1 at IoU 0.5: {matched.f1:.4f} (found {matched.found}, surplus {matched.surplus}, "
        f"missed {matched.missed})"
    )


if __name__ == "__main__":
    main()
