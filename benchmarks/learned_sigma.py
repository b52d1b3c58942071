"""Learned widths of heatmaps against fixed ones on the fly wings, at the budget of wings_unet.yaml.

    python -m benchmarks.learned_sigma [--seeds 0 1 2] [--losses kl mse] [--batches 600] [--out FOLDER]

Every run is `lannunet train benchmarks/wings_unet.yaml` with other values of `solver.loss_function`,
`regress_sigma`, `seed` and `model.gauss_sigma`. The number of batches is the same, and takes the budget of
3.8 minutes on one core. Finished runs are kept, so the command can be interrupted. A full table takes an hour
per loss.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from lannunet_landmarks import train
from rich.console import Console
from rich.table import Table

from lannunet_core import load_config

CONFIG = Path(__file__).parents[1] / "configs" / "wings_unet.yaml"
BATCHES_AN_EPOCH = 50
FIXED = (1.0, 2.0, 4.0, 8.0)
START = 2.0
WAYS = [(f"fixed {sigma:g}", "false", sigma) for sigma in FIXED] + [
    ("isotropic", "isotropic", START),
    ("covariance", "covariance", START),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--losses", nargs="+", default=["kl"])
    parser.add_argument("--batches", type=int, default=600, help="of four images, for each run")
    parser.add_argument("--out", type=Path, default=Path("runs/learned_sigma"))
    given = parser.parse_args()

    table = Table("loss", "sigma", "mean error (px), by seed", "mean", "spread", "ends at (px)")
    for loss in given.losses:
        fixed, learned = [], []
        for name, mode, sigma in WAYS:
            folders = [given.out / f"{loss}_{name.replace(' ', '_')}_{seed}" for seed in given.seeds]
            for seed, folder in zip(given.seeds, folders, strict=True):
                run(loss, mode, sigma, seed, given.batches, folder)
            errors = np.array([error(folder) for folder in folders])
            (fixed if mode == "false" else learned).append((float(errors.mean()), name))
            by_seed = " ".join(f"{value:.2f}" for value in errors)
            spread = f"{errors.std(ddof=1):.2f}" if len(errors) > 1 else ""
            table.add_row(loss, name, by_seed, f"{errors.mean():.2f}", spread, widths(folders[0]))
        best, name = min(fixed)
        for mean, way in learned:
            table.add_row(loss, f"{way} − {name}", "", f"{mean - best:+.2f}", "", "at most +0.10")
    Console(width=140).print(table)


def run(loss: str, mode: str, sigma: float, seed: int, batches: int, folder: Path) -> None:
    """Train, unless the run is finished already."""
    if (folder / "report.html").exists():
        return
    settings = {
        "solver.loss_function": loss,
        "solver.regress_sigma": mode,
        "model.gauss_sigma": sigma,
        "solver.seed": seed,
        "solver.mini_batch_size": BATCHES_AN_EPOCH,
        "solver.max_epochs": max(1, round(batches / BATCHES_AN_EPOCH)),
        "output.output_dir": folder.resolve(),
    }
    train(load_config(CONFIG, [f"{key}={value}" for key, value in settings.items()]), resume=folder.exists())


def error(folder: Path) -> float:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return float(summary["overall"]["px"]["mean"])


def widths(folder: Path) -> str:
    """The range of the learned widths over landmarks, or "" if they are fixed."""
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    found = [
        value
        for landmark in last.get("sigma", {}).values()
        for value in (landmark.values() if isinstance(landmark, dict) else [landmark])
    ]
    return f"{min(found):.1f} … {max(found):.1f}" if found else ""


if __name__ == "__main__":
    main()
