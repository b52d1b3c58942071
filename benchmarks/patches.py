"""Drawing patches around annotated voxels from a volume of 512×512×400, of which few slices are annotated."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from lannunet_segmentation import IGNORE, Geometry, PreparedCase, Runs
from numpy.typing import NDArray

from benchmarks import Row, seconds

SHAPE = (400, 512, 512)
SLICES = (20, 200, 390)
PATCH = (48, 64, 56)
PATCHES, PLAIN_PATCHES = 1000, 10
Place = NDArray[np.int64]


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        case = write_case(Path(folder))
        annotated = case.annotated()

        def from_index(rng: np.random.Generator) -> Place:
            return annotated.draw(rng)[::-1]

        def from_scan(rng: np.random.Generator) -> Place:
            label = case.label()
            assert label is not None
            found = np.flatnonzero(label != IGNORE)
            return np.array(np.unravel_index(rng.choice(found), SHAPE))

        same = draw(case, from_scan, PLAIN_PATCHES) == draw(case, from_index, PLAIN_PATCHES)
        (plain,) = seconds(lambda: draw(case, from_scan, PLAIN_PATCHES), repeats=2)
        (ours,) = seconds(lambda: draw(case, from_index, PATCHES), repeats=3)
    return [
        Row(
            "1,000 patches of 56×64×48 with an annotated voxel, 512×512×400",
            "finding the annotated voxels for each patch",
            plain * PATCHES / PLAIN_PATCHES,
            ours,
            at_least=20,
            note=f"plain way: {PLAIN_PATCHES} patches; {len(annotated.starts)} runs, the same patches",
            same=same,
        )
    ]


def write_case(folder: Path) -> PreparedCase:
    image = np.lib.format.open_memmap(folder / "image.npy", "w+", np.float32, (1, *SHAPE))
    image[:] = np.random.default_rng(0).random(SHAPE[1:], np.float32)
    label = np.lib.format.open_memmap(folder / "label.npy", "w+", np.int16, SHAPE)
    label[:] = IGNORE
    label[list(SLICES)] = 1
    annotated = Runs.of(np.asarray(label) != IGNORE)
    annotated.save(folder / "annotated.npy")
    size = SHAPE[::-1]
    return PreparedCase(
        id="case",
        folder=folder,
        stored=folder / "image.npy",
        channels=1,
        size=size,
        spacing=(1.0,) * 3,
        affine=np.eye(4),
        geometry=Geometry(size, (1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()), 3),
        classes_present=(1,),
        annotated_count=len(annotated),
        labelled=True,
        maps=(),
    )


def draw(case: PreparedCase, voxel: Callable[[np.random.Generator], Place], count: int) -> float:
    """Cut patches around voxels (z, y, x), moved inside; the sum of their first pixels and labels."""
    rng, total = np.random.default_rng(0), 0.0
    for _ in range(count):
        first = np.clip(voxel(rng) - np.array(PATCH) // 2, 0, np.array(SHAPE) - PATCH)
        box = tuple(slice(a, a + side) for a, side in zip(first.tolist(), PATCH, strict=True))
        label = case.label()
        assert label is not None
        patch, its_label = np.array(case.image()[(slice(None), *box)]), np.array(label[box])
        total += float(patch[0, 0, 0, 0]) + float(its_label[:, 0, 0].sum())
    return total
