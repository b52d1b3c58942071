"""Train a small U-Net with each loss on the demo's images: `python -m benchmarks.losses_on_demo`.

    python -m benchmarks.losses_on_demo [--losses kl mse …] [--half] [--out FOLDER]

Labels have a sigma of one pixel, about 3 mm. Each loss has its own number of batches, `BATCHES`, because some
need more. Finished runs are kept, so the losses can be trained one by one; the table is of the finished ones.
The exit code is 1 if the error of a loss is more than 1.5 times the lowest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml
from lannunet_landmarks import LOSSES, train, write_demo_dataset

from lannunet_core import load_config

MOST = 1.5  # times the least error
BATCHES = {"kl": 1200, "mse": 900, "awl": 900, "bce_topk": 1200}  # of eight images
AN_EPOCH = 50


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--half", action="store_true", help="mixed half precision, where the device has it")
    parser.add_argument("--out", type=Path, default=Path("runs/losses_on_demo"))
    given = parser.parse_args()

    annotations = given.out / "data" / "dataset.json"
    if not annotations.exists():
        write_demo_dataset(annotations.parent)
    precision = "half" if given.half else "full"
    for loss in given.losses:
        config = given.out / f"{loss}_{precision}.yaml"
        config.write_text(yaml.safe_dump(settings(loss, given.half, config.stem)), encoding="utf-8")
        if not (given.out / config.stem / "report.html").exists():
            train(load_config(config), overwrite=True)

    runs = {loss: given.out / f"{loss}_{precision}" for loss in LOSSES}
    runs = {loss: run for loss, run in runs.items() if (run / "report.html").exists()}
    means = {loss: figures(run)["mean"] for loss, run in runs.items()}
    least = min(means.values())
    print(
        "| loss | precision | batches | seconds | error (mm) | relative to the lowest | median "
        "| validation error after a third |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for loss, run in runs.items():
        history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        seconds = sum(row["seconds"] for row in history)
        print(
            f"| `{loss}` | {precision} | {len(history) * AN_EPOCH} | {seconds:.0f} | "
            f"{means[loss]:.2f} | {means[loss] / least:.2f} | {figures(run)['median']:.2f} | "
            f"{history[len(history) // 3 - 1]['validation_error']:.1f} |"
        )
    return 0 if max(means.values()) <= MOST * least else 1


def figures(run: Path) -> dict[str, float]:
    """Metrics of the radial error in mm on the test images."""
    return json.loads((run / "summary.json").read_text(encoding="utf-8"))["overall"]["mm"]  # type: ignore[no-any-return]


def settings(loss: str, half: bool, name: str) -> dict[str, object]:
    return {
        "dataset": {"src_targets": "data/dataset.json"},
        "sampler": {"input_size": [96, 96], "num_workers": 0},
        "solver": {
            "loss_function": loss,
            "max_epochs": BATCHES[loss] // AN_EPOCH,
            "mini_batch_size": AN_EPOCH,
            "data_loader_batch_size_train": 8,
            "auto_mixed_precision": half,
        },
        "trainer": {"validate_every": 1},
        "model": {
            "architecture": "unet",
            "gauss_sigma": 1,
            "unet": {"init_features": 16, "max_features": 128},
        },
        "output": {"output_dir": name},
    }


if __name__ == "__main__":
    raise SystemExit(main())
