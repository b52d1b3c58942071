"""Networks under the same conditions: data, time, batch, augmentation, loss and schedule are the same.

    python -m benchmarks.networks [hands hippocampus] [--minutes 1] [--seeds 3] [--most N]

`hands` are the drawn radiographs of `lannunet demo` (60 to train on, 30 to test). `hippocampus` are 28 small
MR volumes of the Medical Segmentation Decathlon (12 to test): Dataset004_Hippocampus in `--data`.

Each network gets as many batches as one core computes in the minutes. A batch's cost is measured in processor
time before the first run, so other work on the machine changes no result. U-Net and ResEnc have a width that
`lannunet plan` offers, PHD-Net and SegResNet their defaults. Finished runs are kept in `runs/networks`.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
import yaml
from lannunet_landmarks import write_demo_dataset
from lannunet_landmarks.work import LandmarkWork
from lannunet_segmentation.work import SegmentationWork

from benchmarks.example_data import lannunet
from lannunet_core import load_checkpoint, load_config, loaded_batches, make_fabric
from lannunet_core.plugins import tasks
from lannunet_core.run.run import prepare_training

FOLDER = Path(__file__).parents[1] / "runs" / "networks"
DATA = Path(__file__).parents[2] / "shared" / "data" / "hippocampus"
TRIALS = 6  # batches whose processor time is measured
EPOCHS = 10

HANDS: Mapping[str, Any] = {
    "dataset": {"src_targets": "data/dataset.json"},
    "sampler": {"input_size": [128, 128], "data_aug": "Upright", "num_workers": 0},
    "solver": {"data_loader_batch_size_train": 4},
}
VOLUMES: Mapping[str, Any] = {
    "task": "segmentation",
    "dataset": {"root": "data/Dataset004_Hippocampus"},
    "preprocess": {"spacing": [1.0, 1.0, 1.0], "normalisation": ["zscore"], "clip": [None]},
    "sampler": {"patch": {"sample_patch_size": [40, 56, 40]}, "data_aug": "nnunet", "num_workers": 0},
    "solver": {"data_loader_batch_size_train": 2},
}
UNET = {"architecture": "unet", "unet": {"init_features": 16, "max_features": 128}}
RESENC = {"architecture": "resenc", "resenc": {"init_features": 8, "max_features": 80}}
SEGRESNET = {"architecture": "monai", "monai": {"network": "SegResNet"}}
RUNS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]] = {
    "hands": (
        HANDS,
        {"U-Net": UNET, "PHD-Net": {"architecture": "phdnet"}, "ResEnc": RESENC, "SegResNet": SEGRESNET},
    ),
    "hippocampus": (VOLUMES, {"U-Net": UNET, "ResEnc": RESENC, "SegResNet": SEGRESNET}),
}


def write_config(name: str, network: str, run: str, **solver: int) -> Path:
    """The YAML of a run whose results are in `runs/networks/NAME/NETWORK-RUN`."""
    conditions, networks = RUNS[name]
    out = FOLDER / name / f"{network}-{run}"
    content = {**conditions, "model": networks[network], "output": {"output_dir": str(out)}}
    content["solver"] = conditions["solver"] | solver
    content["trainer"] = {"validate_every": EPOCHS, **({"fold": "all"} if name == "hippocampus" else {})}
    path = out.with_name(f"{out.name}.yaml")
    path.write_text(yaml.safe_dump(content))
    return path


def seconds_per_batch(name: str, network: str) -> float:
    """Processor time of one training batch, its loading and augmentation included; measured once."""
    path = FOLDER / name / f"{network}-seconds.json"
    if not path.exists():
        loaded = load_config(write_config(name, network, "trial", max_epochs=1, mini_batch_size=TRIALS + 2))
        work: Any = LandmarkWork(loaded) if name == "hands" else SegmentationWork(loaded)
        fabric = make_fabric(loaded.run)
        session = tasks.find(loaded.run.task).start_session(loaded, work.describe(fabric.device.type), fabric)
        work.read(session)
        training, _, _ = prepare_training(session, work, resume=False)
        training.learner.train()
        stream = loaded_batches(training.loader)
        took = []
        for _ in range(TRIALS + 2):
            start = time.process_time()
            training.train_step(training.step(training.samples.on_device(next(stream), fabric.device)))
            took.append(time.process_time() - start)
        path.write_text(json.dumps(mean(took[2:])))  # the first ones warm up
    return float(json.loads(path.read_text()))


def metrics(name: str, folder: Path) -> list[float]:
    """Radial errors in per cent of the shorter side (hands), or Dice per case and class in per cent."""
    with (folder / ("predictions.csv" if name == "hands" else "cases.csv")).open(newline="") as file:
        rows = list(csv.DictReader(file))
    if name == "hands":
        found = [row for row in rows if row["error_px"]]
        return [
            100 * float(row["error_px"]) / min(float(row["width"]), float(row["height"])) for row in found
        ]
    return [100 * float(row["dice"]) for row in rows if row["dice"]]


def table(name: str, seeds: range) -> None:
    heads = ["network", "weights", "s per batch", "batches"]
    heads += [*(f"seed {seed}" for seed in seeds), "mean ± sd"]
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for network in RUNS[name][1]:
        folders = [FOLDER / name / f"{network}-{seed}" for seed in seeds]
        done = [folder for folder in folders if (folder / "summary.json").exists()]
        if not done:
            continue
        solver = yaml.safe_load((done[0] / "config.yaml").read_text())["solver"]
        found = [metrics(name, folder) for folder in done]
        means = [mean(values) for values in found]
        learner = load_checkpoint(done[0]).learner
        weights = sum(tensor.numel() for key, tensor in learner.items() if key.startswith("network."))
        cells = [
            network,
            f"{weights / 1e6:.2f} M",
            f"{seconds_per_batch(name, network):.2f}",
            str(solver["max_epochs"] * solver["mini_batch_size"]),
            *(f"{mean(values):.2f} ({median(values):.2f})" for values in found),
            f"{mean(means):.2f} ± {stdev(means):.2f}" if len(means) > 1 else "",
        ]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help="of hands, hippocampus; all if left out")
    parser.add_argument("--networks", nargs="*", metavar="NETWORK", help="of the table; all if left out")
    parser.add_argument("--minutes", type=float, default=1.0, help="of one core")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of Dataset004_Hippocampus")
    parser.add_argument("--most", type=int, default=1000, help="runs in this call")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names, seeds = given.sets or [*RUNS], range(given.seeds)
    for name in names:
        data = FOLDER / name / "data"
        data.parent.mkdir(parents=True, exist_ok=True)
        if name == "hands" and not data.exists():
            write_demo_dataset(data)
        elif name == "hippocampus" and not data.is_symlink():
            data.symlink_to(given.data.resolve())
    missing = [
        (name, network, seed)
        for seed in seeds
        for name in names
        for network in RUNS[name][1]
        if network in (given.networks or [network])
        and not (FOLDER / name / f"{network}-{seed}" / "summary.json").exists()
    ]
    for name, network, seed in missing[: given.most]:
        batches = 60 * given.minutes / seconds_per_batch(name, network)
        size = max(round(batches / EPOCHS), 1)
        path = write_config(name, network, str(seed), max_epochs=EPOCHS, mini_batch_size=size, seed=seed)
        lannunet("train", path, "--overwrite")
    for name in names:
        table(name, seeds)
    print(f"{max(len(missing) - given.most, 0)} runs are left")


if __name__ == "__main__":
    main()
