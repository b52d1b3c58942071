"""Training with one of three organs annotated per case, against full annotation, for the same time.

    python -m benchmarks.one_of_three [--epochs 12] [--seeds 0] [--folder FOLDER]

36 training images show three organs that differ in brightness and outline. In one arm, every label has all
three. In the other arm, each label has one organ, in rotation; the other two are background, and `annotated`
in dataset.json states it. Test labels have all organs. Prints the mean Dice of each organ on the 12 test
images. Finished runs in FOLDER are not trained again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.border_weights import seconds, train_on

SIZE, TRAINING, TESTING, SEED = 128, 36, 12, 2021
ORGANS = {"liver": 0.20, "kidney": -0.12, "spleen": 0.10}
"""How much brighter than the body each is."""
ARMS = ("all", "one_of_three")


def draw_scene(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image (y, x) of grey values, and its label."""
    y, x = np.indices((SIZE, SIZE)).astype(np.float64)
    image, label = np.full((SIZE, SIZE), 0.45), np.zeros((SIZE, SIZE), np.uint8)
    turned = rng.uniform(-0.4, 0.4)
    for value, brighter in enumerate(ORGANS.values(), start=1):
        angle = turned + 2 * np.pi * value / len(ORGANS)
        centre = SIZE * (0.5 + 0.24 * np.array([np.cos(angle), np.sin(angle)]) + rng.uniform(-0.04, 0.04, 2))
        outline = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), 5)
        far = np.hypot(x - centre[0], y - centre[1]) / (SIZE * rng.uniform(0.12, 0.16))
        organ = (far + 0.15 * outline / outline.std() < 1) & (label == 0)
        image[organ] += brighter
        label[organ] = value
    image = ndimage.gaussian_filter(image, 1) + rng.normal(0, 0.05, image.shape)
    return (255 * image.clip(0, 1)).astype(np.uint8), label


def write_dataset(folder: Path, partly: bool, training: int = TRAINING, testing: int = TESTING) -> None:
    """Write an nnU-Net raw folder of version 2; with `partly`, each training label has only one organ."""
    from PIL import Image

    annotated = {}
    for part, count, seed in (("Tr", training, SEED), ("Ts", testing, SEED + 1)):
        rng = np.random.default_rng(seed)
        for kind in ("images", "labels"):
            (folder / f"{kind}{part}").mkdir(parents=True)
        for number in range(count):
            name, (image, label) = f"{part}{number:03d}", draw_scene(rng)
            if partly and part == "Tr":
                value = 1 + number % len(ORGANS)
                label[label != value] = 0
                annotated[name] = [list(ORGANS)[value - 1]]
            Image.fromarray(image).save(folder / f"images{part}" / f"{name}_0000.png")
            Image.fromarray(label).save(folder / f"labels{part}" / f"{name}.png")
    content = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, **{name: value for value, name in enumerate(ORGANS, start=1)}},
        "numTraining": training,
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(content | ({"annotated": annotated} if partly else {})))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12, help="of 40 batches, each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, help="keeps data and runs there")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        for arm in ARMS:
            if not (folder / f"Dataset503_{arm}").exists():
                write_dataset(folder / f"Dataset503_{arm}", arm != "all")
        for seed in chosen.seeds:
            for arm in ARMS:
                out = folder / f"{arm}-{seed}"
                if not (out / "summary.json").exists():
                    train_on(folder / f"Dataset503_{arm}", out, chosen.epochs, seed, {})
                summary = json.loads((out / "summary.json").read_text())
                scores = {name: block["dice"]["mean"] for name, block in summary["per_class"].items()}
                shown = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
                print(f"seed {seed}, {arm}: {shown}; {seconds(out):.0f} s of training", flush=True)


if __name__ == "__main__":
    main()
