"""Calibration and ranking of confidence, on points that neither training nor calibration has seen.

    python -m benchmarks.confidence [wings mouse demo] [--count 4] [--minutes 1.5 | --batches 200]

In a cross-validation, one of `--count` small U-Nets predicts each image of a set. The networks are trained
one after another. Finished runs are kept, so the command can be interrupted. For each set it prints

- the expected calibration error of raw confidences, of each run's own calibration on its few validation
  images, and of the calibration that `lannunet calibrate` fits to the predictions of the other folds;
- with the last one, the AUC for gross errors (over five times the median), with its 95 % interval over
  images;
- the highest confidence that an ensemble of two members gives to a point on which they are further apart than
  the radius.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lannunet_cluster.folds import train_folds
from lannunet_landmarks import Prediction, write_demo_dataset
from lannunet_landmarks.data.annotations import load_dataset
from lannunet_landmarks.data.folds import write_folds
from lannunet_landmarks.evaluation.reliability import (
    ConfidenceCalibration,
    calibrate_confidence,
    ranking,
    reliability,
    within_radius,
)
from lannunet_landmarks.evaluation.summary import errors_in
from lannunet_landmarks.predict.confident import learn_confidence, stated_radius
from lannunet_landmarks.predict.ensemble import together
from lannunet_landmarks.predict.evaluator import Evaluator, locate_with
from lannunet_landmarks.predict.models import open_model
from lannunet_landmarks.session import LandmarkSession, prepare_images
from rich.console import Console
from rich.table import Table

from lannunet_core import Floats

SHARED = Path(__file__).parents[2] / "shared" / "data"
SETS: Mapping[str, tuple[Path | None, list[int]]] = {
    "wings": (SHARED / "wings" / "dataset.json", [160, 120]),
    "mouse": (SHARED / "mirror_mouse" / "dataset.json", [128, 128]),
    "demo": (None, [112, 112]),
}
BATCHES_AN_EPOCH = 25
GROSS = 5.0  # medians
DRAWS = 1000


@dataclass(frozen=True)
class Fold:
    """The uncalibrated predictions of a fold's model for images that it has not seen."""

    session: LandmarkSession
    tested: list[Prediction]
    own: ConfidenceCalibration | None
    evaluator: Evaluator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs="*", default=list(SETS), help="of wings, mouse, demo")
    parser.add_argument("--count", type=int, default=4, help="how many folds")
    parser.add_argument("--minutes", type=float, default=1.5, help="of each training")
    parser.add_argument("--batches", type=int, help="of four images, for each training, instead of minutes")
    parser.add_argument("--loss", default="kl")
    parser.add_argument("--out", type=Path, default=Path("runs/confidence"))
    given = parser.parse_args()
    table = Table(
        "set", "points", "radius", "within", "gross", "ECE raw", "own", "folds", "AUC raw", "AUC", "95 %",
        "apart", "highest", box=None,
    )  # fmt: skip
    for name in given.sets:
        folder = given.out / f"{name}_{given.loss}"
        train(name, folder, given)
        folds = [predicted(folder / f"fold{k}") for k in range(given.count)]
        table.add_row(name, *figures(folds))
    Console(width=160).print(table)


def train(name: str, folder: Path, given: argparse.Namespace) -> None:
    source, size = SETS[name]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "folds").exists():
        write_folds(source or write_demo_dataset(folder / "data"), folder / "folds", given.count)
    budget: dict[str, Any] = {"budget_minutes": given.minutes}
    if given.batches:
        budget = {"max_epochs": max(1, given.batches // BATCHES_AN_EPOCH)}
    content = {
        "dataset": {"src_targets": "folds"},
        "sampler": {"input_size": size, "num_workers": 0},
        "solver": {
            **budget,
            "mini_batch_size": BATCHES_AN_EPOCH,
            "data_loader_batch_size_train": 4,
            "loss_function": given.loss,
        },
        "trainer": {"validate_every": 2},
        "model": {"architecture": "unet", "unet": {"init_features": 8, "max_features": 64}},
        "output": {"output_dir": "."},
    }
    (folder / "set.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    train_folds(folder / "set.yaml", [], range(given.count))


def predicted(run: Path) -> Fold:
    session = open_model(run)
    session.calibrations = ()
    samples = load_dataset(session.config.dataset, session.config.trainer.fold).samples
    found = {}
    for split in ("validation", "testing"):
        images = prepare_images(session, samples[split], split)
        evaluator = Evaluator(session, images, samples[split], split)
        (found[split],) = evaluator.predict(locate_with(session)).values()
    own = learn_confidence(session, found["validation"], samples["validation"])
    return Fold(session, found["testing"], own, evaluator)


def figures(folds: Sequence[Fold]) -> list[str]:
    """One row of the table."""
    session = folds[0].session
    radius, unit = stated_radius(session, [s for fold in folds for s in fold.evaluator.samples])
    raw = [np.array([one.confidence for one in fold.tested]) for fold in folds]
    within = [within_radius(fold.tested, radius, unit) for fold in folds]
    errors = np.concatenate([[errors_in(one, unit) for one in fold.tested] for fold in folds])
    of_others = []
    for k in range(len(folds)):
        other = [n for n in range(len(folds)) if n != k]
        known = calibrate_confidence(
            np.concatenate([raw[n] for n in other]), np.concatenate([within[n] for n in other]), radius, unit
        )
        of_others.append(raw[k] if known is None else known(raw[k]))
    own = [one if fold.own is None else fold.own(one) for fold, one in zip(folds, raw, strict=True)]
    own_within = [
        within_radius(fold.tested, *((fold.own.radius, fold.own.unit) if fold.own else (radius, unit)))
        for fold in folds
    ]
    annotated = ~np.isnan(errors)
    gross = np.where(annotated, errors > GROSS * np.median(errors[annotated]), False)
    auc, (low, high) = ranked(np.concatenate(of_others), gross, annotated)
    apart, highest = far_apart(folds)
    counted = np.concatenate(within)
    return [
        f"{annotated.sum()}",
        f"{radius:g} {unit}",
        f"{np.nanmean(counted):.1%}",
        f"{gross.sum()}",
        f"{reliability(np.concatenate(raw), counted)['calibration_error']:.3f}",
        f"{reliability(np.concatenate(own), np.concatenate(own_within))['calibration_error']:.3f}",
        f"{reliability(np.concatenate(of_others), counted)['calibration_error']:.3f}",
        f"{ranked(np.concatenate(raw), gross, annotated)[0]:.3f}",
        f"{auc:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{apart}",
        f"{highest:.3f}",
    ]


def ranked(confidence: Floats, gross: Any, annotated: Any) -> tuple[float, tuple[float, float]]:
    """Return the AUC and its bootstrap interval over images."""

    def auc(images: Any) -> float:
        chosen = annotated[images]
        found = ranking(confidence[images][chosen], gross[images][chosen])
        return np.nan if found is None else found

    rng, every = np.random.default_rng(0), np.arange(len(confidence))
    if not gross.any():
        return np.nan, (np.nan, np.nan)
    drawn = [auc(rng.integers(0, len(every), len(every))) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return auc(every), (float(low), float(high))


def far_apart(folds: Sequence[Fold]) -> tuple[int, float]:
    """The number of points on which two members disagree, and their highest confidence with any method."""
    apart, highest = 0, 0.0
    for fold in folds:
        fold.session.calibrations = () if fold.own is None else (fold.own,)
    alone = [fold.evaluator.predict(locate_with(other.session)) for fold in folds[:1] for other in folds]
    for a, b in combinations(range(len(folds)), 2):
        methods = folds[0].evaluator.predict(together([folds[a].session, folds[b].session]))
        (one,), (two,) = alone[a].values(), alone[b].values()
        for number, (first, second) in enumerate(zip(one, two, strict=True)):
            radius, unit = stated_radius(folds[a].session, folds[0].evaluator.samples)
            spacing = np.array(first.spacing) if unit == "mm" else 1.0
            far = np.linalg.norm((first.coordinates - second.coordinates) * spacing, axis=-1) > 1.05 * radius
            apart += int(far.sum())
            given = [method[number].confidence[far] for method in methods.values()]
            highest = max([highest, *np.concatenate(given)])
    return apart, float(highest)


if __name__ == "__main__":
    main()
