"""A rare class, trained with and without class weights for the same time, under two minutes.

    python -m benchmarks.rare_class [--epochs 18] [--seeds 0] [--folder FOLDER]

The images show a tissue (class 1, about a sixth of the pixels) with an uncertain outline. Three of the 90
training images also show a small disc (class 2, under 0.01 % of all pixels). Test images have one or two
discs. Prints the Dice of both classes over all pixels of the test images. The two runs differ only in
`trainer.plugins: [ce-dice-weighted]`, with its default, `inverse_frequency`. Finished runs in FOLDER are not
trained again.

With a disc in every image, or in every sixth, the loss without weights learns them too, because its Dice term
gives every class the same weight.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.border_weights import seconds, train_on

SIZE, TRAINING, TESTING, SEED = 128, 90, 20, 2019
EVERY = 30  # which training images have a disc
MARK = 9  # pixels across

ARMS: dict[str, dict[str, Any]] = {"plain": {}, "inverse_frequency": {"plugins": ["ce-dice-weighted"]}}


def draw_scene(rng: np.random.Generator, discs: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image (y, x) of grey values with this many discs, and its label."""
    y, x = np.indices((SIZE, SIZE)).astype(np.float64)
    outline = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), 6)
    centre, radii = rng.uniform(0.3, 0.7, 2) * SIZE, rng.uniform(20, 34, 2)
    far = ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2
    tissue = far + 0.25 * outline / outline.std() < 1
    image = 0.35 + 0.2 * ndimage.gaussian_filter(tissue.astype(np.float64), 3)
    image += 0.05 * ndimage.gaussian_filter(rng.standard_normal(image.shape), 2) / 0.14
    label = tissue.astype(np.uint8)
    taken = np.zeros((SIZE, SIZE), bool)
    across = np.hypot(*np.indices((MARK, MARK)) - MARK // 2)
    disc = across < 3.6
    for _ in range(discs):
        while True:
            top, left = rng.integers(1, SIZE - MARK - 1, 2)
            place = (slice(top, top + MARK), slice(left, left + MARK))
            if not taken[place].any():
                break
        taken[place] = True
        image[place][disc] += rng.uniform(0.12, 0.3)
        label[place][disc] = 2
    image += rng.normal(0, 0.05, image.shape)
    return (255 * image.clip(0, 1)).astype(np.uint8), label


def write_dataset(folder: Path) -> float:
    """An nnU-Net raw folder of version 2; the share of training pixels that class 2 has."""
    from PIL import Image

    rare = []
    for part, count, seed in (("Tr", TRAINING, SEED), ("Ts", TESTING, SEED + 1)):
        rng = np.random.default_rng(seed)
        for kind in ("images", "labels"):
            (folder / f"{kind}{part}").mkdir(parents=True)
        for number in range(count):
            discs = int(number % EVERY == 0) if part == "Tr" else int(rng.integers(1, 3))
            image, label = draw_scene(rng, discs)
            Image.fromarray(image).save(folder / f"images{part}" / f"{part}{number:03d}_0000.png")
            Image.fromarray(label).save(folder / f"labels{part}" / f"{part}{number:03d}.png")
            if part == "Tr":
                rare.append((label == 2).mean())
    content = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "tissue": 1, "disc": 2},
        "numTraining": TRAINING,
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return float(np.mean(rare))


def pooled_dice(data: Path, out: Path) -> dict[str, float]:
    """2 |P ∩ T| / (|P| + |T|) of each class, counted over all test images together."""
    from PIL import Image

    files = sorted((data / "labelsTs").glob("*.png"))
    target, predicted = (
        np.stack([np.asarray(Image.open(folder / file.name)) for file in files])
        for folder in (data / "labelsTs", out / "predictions")
    )
    return {
        name: 2
        * float(((predicted == value) & (target == value)).sum())
        / float((predicted == value).sum() + (target == value).sum())
        for value, name in ((1, "tissue"), (2, "disc"))
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=18, help="of 40 batches, each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, help="keeps data and runs there")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        data = folder / "Dataset502_RareDiscs"
        if not data.exists():
            print(f"class 2 has {100 * write_dataset(data):.3f} % of the training pixels", flush=True)
        for seed in chosen.seeds:
            for arm, trainer in ARMS.items():
                out = folder / f"{arm}-{seed}"
                if not (out / "summary.json").exists():
                    train_on(data, out, chosen.epochs, seed, trainer)
                found = ", ".join(f"{name} {dice:.3f}" for name, dice in pooled_dice(data, out).items())
                print(f"seed {seed}, {arm}: Dice {found}; {seconds(out):.0f} s of training", flush=True)


if __name__ == "__main__":
    main()
