"""A simulated annotator: `lannunet suggest` against random choice, from 8 images on.

    python -m benchmarks.annotation_loop [--strategies random suggest …] [--seeds 5] [--out FOLDER]

Each seed draws a pool of 400 hands and 100 test images. 15 % of them are unusual: upside down, mirrored,
negative, or half as large. Each run begins with the same 8 images of the pool. In each of six rounds it
chooses 4 images, the annotator corrects them (they get their true points), and the model of the previous
round is fine-tuned on all annotated images. All runs have the same network and number of batches. Finished
runs are kept, so the command can be interrupted and continued.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lannunet_landmarks import (
    LandmarkModel,
    Sample,
    State,
    load_dataset,
    radial_errors,
    train,
    write_demo_dataset,
)
from lannunet_landmarks.data.annotations import dataset_section
from lannunet_landmarks.loop import suggest as loop
from PIL import Image

from lannunet_core import load_config

POOL, TESTED, FIRST, A_ROUND, ROUNDS = 400, 100, 8, 4, 6
ODD = 0.15
SIDE = 64  # pixels of the network's input
BATCHES, FURTHER, PICTURES = 500, 250, 8  # batches of the first and of each later training; images per batch
RESAMPLES = 10_000
Choose = Callable[[LandmarkModel, Sequence[Sample], Sequence[Sample], int, np.random.Generator], list[str]]


def at_random(model: Any, pool: Any, annotated: Any, count: int, rng: np.random.Generator) -> list[str]:
    return [pool[index].id for index in rng.choice(len(pool), count, replace=False)]


def as_suggested(model: Any, pool: Any, annotated: Any, count: int, rng: np.random.Generator) -> list[str]:
    return [one.prediction.id for one in loop.suggest(model, pool, annotated, count)]


def least_certain(model: Any, pool: Any, annotated: Any, count: int, rng: np.random.Generator) -> list[str]:
    """Uncertainty sampling: the lowest mean confidence."""
    found = next(iter(model.locate(pool, model.prepare(model.session, pool)).values()))
    order = np.argsort([np.nan_to_num(one.confidence).mean() for one in found])
    return [found[index].id for index in order[:count]]


def strangest(model: Any, pool: Any, annotated: Any, count: int, rng: np.random.Generator) -> list[str]:
    """The predicted shapes that are farthest from the annotated ones."""
    found = next(iter(model.locate(pool, model.prepare(model.session, pool)).values()))
    order = np.argsort(-loop.strange(found, annotated, model))
    return [found[index].id for index in order[:count]]


def farthest(model: Any, pool: Any, annotated: Any, count: int, rng: np.random.Generator) -> list[str]:
    """Greedy k-centre (Sener & Savarese 2018) on thumbnails: images unlike all annotated ones."""
    features = loop.thumbnails(model.prepare(model.session, pool))
    known = loop.thumbnails(model.prepare(model.session, annotated))
    return [pool[index].id for index, _ in loop.spread(np.ones(len(pool)), features, known, count)]


STRATEGIES: dict[str, Choose] = {
    "random": at_random,
    "suggest": as_suggested,
    "confidence": least_certain,
    "shape": strangest,
    "distance": farthest,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/annotation_loop"))
    given = parser.parse_args()
    for seed in range(given.seeds):
        data = given.out / f"data{seed}" / "dataset.json"
        if not data.exists():
            draw(data.parent, seed)
        for strategy in given.strategies:
            simulate(given.out, data, strategy, seed)
    print(table(given.out, given.strategies, given.seeds))


def draw(folder: Path, seed: int) -> None:
    """Draw the pool, as `training`, and the test images of a seed; unusual images are marked."""
    made = write_demo_dataset(folder, 1000 + seed, {"training": POOL, "testing": TESTED})
    content = json.loads(made.read_text())
    rng = np.random.default_rng((seed, 1))
    for entry in [*content["training"], *content["testing"]]:
        entry["odd"] = "no"
        if rng.random() < ODD:
            path = folder / entry["image"]
            entry["odd"] = str(rng.choice(list(ODDITIES)))
            picture, points = ODDITIES[entry["odd"]](
                np.asarray(Image.open(path)), np.array(entry["coordinates"])
            )
            Image.fromarray(picture).save(path)
            entry["coordinates"] = points.tolist()
    made.write_text(json.dumps(content))


def upside_down(picture: Any, points: Any) -> tuple[Any, Any]:
    height, width = picture.shape
    return picture[::-1, ::-1], np.array([width - 1, height - 1]) - points


def mirrored(picture: Any, points: Any) -> tuple[Any, Any]:
    return picture[:, ::-1], np.array([picture.shape[1] - 1, 0]) + points * [-1, 1]


def negative(picture: Any, points: Any) -> tuple[Any, Any]:
    return 255 - picture, points


def half_as_large(picture: Any, points: Any) -> tuple[Any, Any]:
    """In the middle of a picture of the same size."""
    height, width = (side // 2 * 2 for side in picture.shape)
    small = picture[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    large = np.full(picture.shape, np.median(picture[:8]), np.uint8)
    top, left = height // 4, width // 4
    large[top : top + height // 2, left : left + width // 2] = small
    return large, (points - 0.5) / 2 + [left, top]


ODDITIES: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "upside down": upside_down,
    "mirrored": mirrored,
    "negative": negative,
    "half as large": half_as_large,
}


def simulate(out: Path, data: Path, strategy: str, seed: int) -> None:
    """One run of the loop; appends a line to its record after each round."""
    folder = out / f"{strategy}{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "rounds.jsonl"
    done = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    content = json.loads(data.read_text())
    pool = {entry["id"]: entry for entry in content["training"]}
    rng = np.random.default_rng((seed, 2))
    chosen = [str(name) for name in rng.choice(list(pool), FIRST, replace=False)]
    for row in done:
        chosen = row["chosen"]
    choice = np.random.default_rng((seed, 3, len(done)))
    dataset = load_dataset(dataset_section(data), -1)
    samples = {one.id: one for one in dataset.samples["training"]}
    for number in range(len(done), ROUNDS + 1):
        before = folder / f"round{number - 1}"
        if number:
            model = LandmarkModel(before)
            left = [one for name, one in samples.items() if name not in chosen]
            chosen = chosen + STRATEGIES[strategy](
                model, left, [samples[name] for name in chosen], A_ROUND, choice
            )
        run = out / f"first{seed}" if number == 0 else folder / f"round{number}"
        annotations = folder / f"round{number}.json"
        listed = {**content, "training": [pool[name] for name in chosen], "testing": []}
        annotations.write_text(json.dumps(listed))
        if not (run / "summary.json").exists():
            train(
                load_config(settings(annotations, data, run, before if number else None, seed)),
                overwrite=True,
            )
        if number == 0 and not (folder / "round0").exists():
            (folder / "round0").symlink_to(run.resolve())
        row = {"chosen": chosen, **measure(run, dataset.samples["testing"])}
        row["odd_chosen"] = sum(pool[name]["odd"] != "no" for name in chosen)
        with record.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{strategy}, seed {seed}, round {number}: {row['error']:.2f} %", flush=True)


def settings(annotations: Path, data: Path, run: Path, before: Path | None, seed: int) -> Path:
    content: dict[str, Any] = {
        "dataset": {"src_targets": str(annotations.resolve()), "root": str(data.parent.resolve())},
        "sampler": {"input_size": [SIDE, SIDE], "num_workers": 0},
        "solver": {
            "max_epochs": 5,
            "mini_batch_size": (BATCHES if before is None else FURTHER) // 5,
            "data_loader_batch_size_train": PICTURES,
            "num_res_supervisions": 3,
            "seed": seed,
            "decay_policy": "poly" if before is None else "fine_tune",
        },
        "model": {"architecture": "unet", "unet": {"init_features": 8, "max_features": 64}},
        "inference": {"split": "training"},
        "output": {"output_dir": str(run.resolve())},
    }
    if before is not None:
        content["model"]["checkpoint"] = str(before.resolve())
    path = annotations.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def measure(run: Path, tested: Sequence[Sample]) -> dict[str, float]:
    """Mean error in % of the image's shorter side; a landmark that was not found counts as one side."""
    model = LandmarkModel(run)
    found = next(iter(model.locate(tested, model.prepare(model.session, tested)).values()))
    errors = []
    for prediction, sample in zip(found, tested, strict=True):
        assert prediction.target is not None and (sample.states == State.VISIBLE).all()
        side = min(sample.extra["width"], sample.extra["height"])
        errors.append(float(np.nan_to_num(radial_errors(prediction)[0] / side, nan=1.0).mean()) * 100)
    odd = np.array([sample.extra["odd"] != "no" for sample in tested])
    every = np.array(errors)
    return {"error": every.mean(), "odd": every[odd].mean(), "usual": every[~odd].mean()}


def table(out: Path, strategies: Sequence[str], seeds: int) -> str:
    """Areas under the error curves with 95 % bootstrap intervals over seeds, and their differences."""
    areas, last, odd = {}, {}, {}
    for strategy in strategies:
        runs = []
        for seed in range(seeds):
            rows = [
                json.loads(line)
                for line in (out / f"{strategy}{seed}" / "rounds.jsonl").read_text().splitlines()
            ]
            runs.append([[row["error"], row["odd"], row["usual"], row["odd_chosen"]] for row in rows])
        curves = np.array(runs)  # (seeds, rounds + 1, 4)
        areas[strategy] = (curves[:, 1:, :3] + curves[:, :-1, :3]).mean(axis=1) / 2  # a round has width 1
        last[strategy], odd[strategy] = curves[:, -1, 0], curves[:, -1, 3]
    lines = [
        "| strategy | mean error over the rounds (%) | minus random | unusual images | other images | "
        "last round | unusual among 32 |",
        "|---|---|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(0)
    for strategy in strategies:
        every, odd_area, usual = areas[strategy].T
        difference = interval(every - areas["random"][:, 0], rng) if strategy != "random" else "–"
        lines.append(
            f"| {strategy} | {interval(every, rng)} | {difference} | {odd_area.mean():.2f} | "
            f"{usual.mean():.2f} | {interval(last[strategy], rng)} | {odd[strategy].mean():.1f} |"
        )
    return "\n".join(lines)


def interval(values: Any, rng: np.random.Generator) -> str:
    means = rng.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
