"""Separation of touching cells, trained with and without border weights for the same time.

    python -m benchmarks.border_weights [--epochs 40] [--seeds 0 1 2] [--folder FOLDER]

Prints the object-level F1 at IoU 0.5 on the test images of `touching_cells` for each seed, and the mean
differences: for all predicted objects, and without specks, which are smaller than any cell of the data set.
The runs of a seed differ only in `trainer.plugins: [weighted]`, with its defaults; the weight maps are
computed from the label maps with each of the two formulas. A run takes a minute and a half on two cores.
Finished runs in FOLDER are not trained again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lannunet_segmentation.work import train

from benchmarks import touching_cells
from lannunet_core import load_config

ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "unet_border": {"plugins": ["weighted"], "weighted": {"generate": "unet_border"}},
    "nearest_border": {"plugins": ["weighted"], "weighted": {"generate": "nearest_border"}},
}


def compare(folder: Path, epochs: int, seeds: Sequence[int]) -> dict[str, list[tuple[float, float]]]:
    """Return both F1 of each arm by seed; write data and runs to `folder`."""
    data = folder / "Dataset501_TouchingCells"
    if not data.exists():
        touching_cells.main([str(data)])
    found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS}
    for seed in seeds:
        for arm, trainer in ARMS.items():
            out = folder / f"{arm}-{seed}"
            if not (out / "summary.json").exists():
                train_on(data, out, epochs, seed, trainer)
            every, sized = (
                touching_cells.score(data, out / "predictions", least)
                for least in (1, touching_cells.SMALLEST)
            )
            found[arm].append((every.f1, sized.f1))
            print(
                f"seed {seed}, {arm}: F1 {every.f1:.4f}, without specks {sized.f1:.4f} ({sized}), "
                f"{seconds(out):.0f} s of training",
                flush=True,
            )
    return found


def seconds(out: Path) -> float:
    return sum(json.loads(row)["seconds"] for row in (out / "metrics.jsonl").read_text().splitlines())


def train_on(data: Path, out: Path, epochs: int, seed: int, trainer: dict[str, Any]) -> None:
    content = {
        "task": "segmentation",
        "dataset": {"root": str(data)},
        "sampler": {"patch": {"sample_patch_size": [128, 128]}},
        "solver": {
            "max_epochs": epochs,
            "mini_batch_size": 40,
            "data_loader_batch_size_train": 4,
            "seed": seed,
        },
        "trainer": {"fold": "all", **trainer},
        "model": {"architecture": "unet", "unet": {"init_features": 8, "max_features": 64}},
        "output": {"output_dir": str(out)},
    }
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    train(load_config(path), overwrite=out.exists())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40, help="of 40 batches, each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, help="keeps data and runs there")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = compare(folder, chosen.epochs, chosen.seeds)
    for column, title in enumerate(("all objects", "without specks")):
        means = {arm: 100 * float(np.mean([pair[column] for pair in pairs])) for arm, pairs in found.items()}
        shown = ", ".join(f"{arm} {mean:.1f} ({mean - means['plain']:+.1f})" for arm, mean in means.items())
        print(f"F1 at IoU 0.5 in %, {title}, mean of {len(chosen.seeds)} seeds: {shown}", flush=True)


if __name__ == "__main__":
    main()
