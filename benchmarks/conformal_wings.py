"""Coverage of conformal regions on the fly wings, each image predicted by a model that has not seen it.

    python -m benchmarks.conformal_wings [--count 10] [--folds 0-4] [--batches 300] [--out FOLDER]

In a cross-validation, one of `--count` small U-Nets predicts each of the 58 images once (with 58, each
network leaves one image out). The networks are trained one after another. Finished runs are kept, so the
command can be interrupted and continued; the results are for the finished folds. It prints two coverages:

- for the 12 test images, with regions from the errors of the 46 others: a measurement, with the exact
  interval that contains it with probability 0.95;
- for all 58 images, each in regions from the other 57 (leave one out). This is k / 58 for every landmark and
  all errors (an image is in its region if the rank of its error among the 58 is at most k), so it only checks
  the arithmetic.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from lannunet_cluster.folds import train_folds
from lannunet_landmarks import load_dataset
from lannunet_landmarks.data.folds import write_folds
from lannunet_landmarks.evaluation.calibration import calibrate, coverage_interval, rank
from lannunet_landmarks.evaluation.pooled import pool
from lannunet_landmarks.evaluation.summary import errors_in
from lannunet_landmarks.schema import DatasetConfig
from rich.console import Console
from rich.table import Table

from lannunet_core import Floats, fold_numbers

WINGS = Path(__file__).parents[2] / "shared" / "data" / "wings" / "dataset.json"
BATCHES_AN_EPOCH = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=10, help="how many folds")
    parser.add_argument("--folds", help="which to train, as in 0-4; all by default")
    parser.add_argument("--batches", type=int, default=300, help="of four images, for each training")
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--out", type=Path, default=Path("runs/conformal_wings"))
    given = parser.parse_args()

    folds = given.out / "folds"
    if not folds.exists():
        write_folds(WINGS, folds, given.count)
    count = len(list(folds.glob("fold*.json")))
    config = given.out / "wings.yaml"
    config.write_text(yaml.safe_dump(settings(given.batches)), encoding="utf-8")
    numbers = range(count) if given.folds is None else fold_numbers(given.folds)
    train_folds(config, [], numbers)

    done = [given.out / f"fold{k}" for k in range(count) if (given.out / f"fold{k}" / "report.html").exists()]
    predictions, dataset = pool(done)
    whole = load_dataset(DatasetConfig.model_validate({"src_targets": WINGS}), -1)
    later = {sample.id for sample in whole.samples["testing"]}
    errors = np.array([errors_in(one, "px") for one in predictions])
    tested = np.array([one.id in later for one in predictions])
    found = np.isfinite(errors)
    print(f"\n{len(errors)} images, mean error {errors[found].mean():.2f} px, {(~found).sum()} not found")
    split(errors[~tested], errors[tested], dataset.landmark_names, given.coverage)
    leave_one_out(errors, given.coverage)


def settings(batches: int) -> dict[str, object]:
    epochs = max(1, round(batches / BATCHES_AN_EPOCH))
    return {
        "dataset": {"src_targets": "folds"},
        "sampler": {"input_size": [256, 192], "data_aug": "thaler21", "num_workers": 0},
        "solver": {
            "max_epochs": epochs,
            "mini_batch_size": min(batches, BATCHES_AN_EPOCH),
            "data_loader_batch_size_train": 4,
        },
        "trainer": {"validate_every": 1},
        "model": {"architecture": "unet", "unet": {"init_features": 16, "max_features": 256}},
        "output": {"output_dir": "."},
    }


def split(held_out: Floats, fresh: Floats, names: Sequence[str], coverage: float) -> None:
    """Compute regions from `held_out` errors (images, N), and test them on `fresh` errors."""
    n, m = len(held_out), len(fresh)
    interval = coverage_interval(n, coverage, m)
    if interval is None:
        print(f"{n} images to calibrate with and {m} to test: too few for regions at {coverage:.0%}")
        return
    calibration = calibrate(held_out, np.full_like(held_out, np.nan), names, "px")
    title = f"Regions at {coverage:.0%} from {n} images"
    table = Table("landmark", "radius (px)", f"of {m} held", title=title, box=None)
    held = []
    for column, name in zip(fresh.T, names, strict=True):
        radius = calibration.landmarks[name].radius(coverage)
        held.append(int((column <= radius).sum()))
        table.add_row(name, f"{radius:.2f}", str(held[-1]))
    Console().print(table)
    apart = coverage_interval(n, coverage, m, repeats=len(names))
    assert apart is not None
    print(
        f"coverage {np.mean(held) / m:.1%}, promised {rank(n, coverage) / (n + 1):.1%}\n"
        f"95 % interval of one landmark {interval[0]:.1%} to {interval[1]:.1%}; of their mean {apart[0]:.1%} "
        f"to {apart[1]:.1%} if the landmarks of an image were independent (they are not: it is wider)"
    )


def leave_one_out(errors: Floats, coverage: float) -> None:
    """Test each image with regions from all other images."""
    k = rank(len(errors) - 1, coverage)
    if k > len(errors) - 1:
        return
    radii = np.array([np.sort(np.delete(errors, i, axis=0), axis=0)[k - 1] for i in range(len(errors))])
    print(f"leave one out: {(errors <= radii).mean():.1%} (by construction {k / len(errors):.1%})")


if __name__ == "__main__":
    main()
