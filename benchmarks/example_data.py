"""Draw the data sets of `configs/examples`.

    python -m benchmarks.example_data

`hands` has landmarks. `Dataset501_Cells` has touching cells, with the weight map of the U-Net paper for each
image. `Dataset502_Organs` has volumes with two organs, and `Dataset503_Slices` the same with three labelled
slices per volume. Each has three folds. Every call draws the same data.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from lannunet_landmarks import write_demo_dataset
from numpy.typing import NDArray

from benchmarks.annotate_slices import annotate_slices
from benchmarks.touching_cells import write_dataset as write_cells
from lannunet_core import cli

FOLDER = Path(__file__).parents[1] / "configs" / "examples" / "data"
FOLDS = 3
SIZE = (32, 40, 24)  # voxels, x y z
SPACING = (1.0, 1.0, 2.0)  # mm
TRAINING, TESTING = 12, 4


def draw_organs(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A volume (z, y, x) of two ellipsoids in a third, all turned alike, and its label: 1 liver, 2 spleen."""
    grid = np.stack(np.indices(SIZE[::-1])[::-1], axis=-1) * SPACING
    middle = (np.array(SIZE) - 1) / 2 * SPACING + rng.uniform(-2, 2, 3)
    angle = rng.uniform(-0.4, 0.4)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    local = (grid - middle) @ turn
    image, label = np.full(SIZE[::-1], 30.0), np.zeros(SIZE[::-1], np.uint8)
    for value, centre, radii, grey in (
        (0, (0, 0, 0), (14, 18, 21), 90),
        (1, (-5, 0, 0), (6, 9, 12), 150),
        (2, (7, 4, 2), (3, 5, 7), 130),
    ):
        inside = (((local - centre) / (radii * rng.normal(1, 0.08, 3))) ** 2).sum(-1) < 1
        image[inside] = grey * rng.normal(1, 0.05)
        label[inside] = value
    return (image + rng.normal(0, 12, image.shape)).clip(0, 255).astype(np.uint8), label


def write_organs(folder: Path) -> None:
    """Write an nnU-Net folder of such volumes."""
    for part, count, stream in (("Tr", TRAINING, 0), ("Ts", TESTING, 1)):
        for number in range(count):
            arrays = draw_organs(np.random.default_rng([stream, number]))
            for kind, array, channel in zip(("images", "labels"), arrays, ("_0000", ""), strict=True):
                image = sitk.GetImageFromArray(array)
                image.SetSpacing(SPACING)
                (folder / f"{kind}{part}").mkdir(parents=True, exist_ok=True)
                path = folder / f"{kind}{part}" / f"organs{part}_{number:02d}{channel}.nii.gz"
                sitk.WriteImage(image, str(path))
    content = {
        "channel_names": {"0": "CT-like"},
        "labels": {"background": 0, "liver": 1, "spleen": 2},
        "numTraining": TRAINING,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content, indent=1))


def write_splits(folder: Path) -> None:
    """Write three folds of a raw folder's training cases."""
    declared = json.loads((folder / "dataset.json").read_text())
    cases = sorted(
        path.name.removesuffix(declared["file_ending"]) for path in (folder / "labelsTr").iterdir()
    )
    splits = [
        {"train": [name for name in cases if name not in cases[fold::FOLDS]], "val": cases[fold::FOLDS]}
        for fold in range(FOLDS)
    ]
    (folder / "splits_final.json").write_text(json.dumps(splits, indent=1))


def lannunet(*arguments: str | Path) -> None:
    """Run a `lannunet` command."""
    try:
        cli.main([str(argument) for argument in arguments])
    except SystemExit as end:
        if end.code:
            raise


def write_all(folder: Path) -> None:
    """Draw all data sets."""
    hands = write_demo_dataset(folder / "hands")
    lannunet("folds", hands, "--output", folder / "hands" / "folds", "--count", f"{FOLDS}")
    cells, organs = folder / "Dataset501_Cells", folder / "Dataset502_Organs"
    write_cells(cells, training=12, testing=4)
    write_organs(organs)
    for raw in (cells, organs):
        write_splits(raw)
    lannunet("weightmaps", cells, "--jobs", "1")
    annotate_slices(organs, folder / "Dataset503_Slices")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="a new folder")
    folder = parser.parse_args(arguments).folder
    if folder.exists():
        parser.error(f"{folder} exists already: remove it, to draw it again")
    write_all(folder)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
