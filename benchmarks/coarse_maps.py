"""Compare a network whose maps have a quarter of the resolution with U-Net, on the demo's images.

    python -m benchmarks.coarse_maps [--out FOLDER]

`hourglass.py` is a plugin in one file, decoded by the task's decoder. A batch takes a third of the time of
U-Net's, so the hourglass trains for 2000 batches and U-Net for 900. The hourglass is trained with `mse`, as
in its paper, U-Net with the default loss. The mean error of the hourglass may be at most 1.2 times U-Net's.
The command takes ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml
from lannunet_landmarks import train, write_demo_dataset

from lannunet_core import load_config

MOST = 1.2
BATCH = {"mini_batch_size": 50, "data_loader_batch_size_train": 8}
RUNS = {
    "unet": {
        "model": {"architecture": "unet", "unet": {"init_features": 16, "max_features": 128}},
        "solver": {"max_epochs": 18, **BATCH},
        "trainer": {"validate_every": 2},
    },
    "hourglass": {
        "model": {"architecture": str(Path(__file__).with_name("hourglass.py"))},
        "solver": {"max_epochs": 40, "loss_function": "mse", **BATCH},
        "trainer": {"validate_every": 4},
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/coarse_maps"))
    out = parser.parse_args().out
    annotations = out / "data" / "dataset.json"
    if not annotations.exists():
        write_demo_dataset(annotations.parent)
    errors = {}
    for name, settings in RUNS.items():
        config = out / f"{name}.yaml"
        common = {
            "dataset": {"src_targets": "data/dataset.json"},
            "sampler": {"input_size": [128, 128], "num_workers": 0},
            "output": {"output_dir": name},
        }
        config.write_text(yaml.safe_dump(common | settings), encoding="utf-8")
        if not (out / name / "report.html").exists():
            train(load_config(config), overwrite=True)
        summary = json.loads((out / name / "summary.json").read_text(encoding="utf-8"))
        errors[name] = summary["overall"]["mm"]["mean"]
        lines = (out / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        seconds = sum(json.loads(line)["seconds"] for line in lines)
        print(f"{name}: mean error {errors[name]:.3f} mm after {seconds:.0f} s of training")
    ratio = errors["hourglass"] / errors["unet"]
    print(f"hourglass: {ratio:.2f} times U-Net's error")
    return 0 if ratio <= MOST else 1


if __name__ == "__main__":
    raise SystemExit(main())
