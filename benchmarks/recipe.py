"""Candidates for the defaults of plans: `python -m benchmarks.recipe SET [CANDIDATE …]`.

    python -m benchmarks.recipe wings plan sigma-1 --minutes 1 --seeds 0 1 2 [--data FOLDER] [--out FOLDER]
    python -m benchmarks.recipe --table

A run has the YAML of `lannunet plan --minutes M` with one candidate of `CANDIDATES` changed. It trains for
the number of batches that the plan states for the machine, so that other work on the machine changes no
result. Test images are never used: a quarter of the training and validation images of each set is held out,
and the candidates are compared on these. Finished runs are kept. The table has, for each candidate, the mean
error (segmentation: 100 · (1 − Dice)), and its ratio to the best candidate of the set, averaged over the
sets. docs/recipe.md reports the results.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import yaml
from lannunet_landmarks import write_demo_dataset
from lannunet_landmarks.demo import hands

from benchmarks.annotate_slices import annotate_slices
from benchmarks.hippocampus_pictures import write_pictures
from benchmarks.surfaces import write_surfaces

FILE = Path(__file__).with_name("recipe_candidates.py")
SPLITS = ("training", "validation", "testing")
VOLUMES = Path("hippocampus", "Dataset004_Hippocampus")
HELD_OUT, VALIDATED = 4, 10  # one of this many images


def again(annotations: Path, folder: Path) -> Path:
    """Split the training and validation images of a data set again, without its test images."""
    content = json.loads(annotations.read_text(encoding="utf-8"))
    pooled = content["training"] + content["validation"]
    for sample in pooled:
        sample["image"] = str((annotations.parent / sample["image"]).resolve())
    order = np.random.default_rng(0).permutation(len(pooled))
    held, validated = len(pooled) // HELD_OUT, max(len(pooled) // VALIDATED, 4)
    splits = np.split(order, [held, held + validated])
    for name, chosen in zip(reversed(SPLITS), splits, strict=True):
        content[name] = [pooled[index] for index in sorted(chosen)]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "dataset.json"
    target.write_text(json.dumps(content), encoding="utf-8")
    return target


def turned(annotations: Path, folder: Path, seed: int) -> Path:
    """A data set whose pictures are turned by any angle about their centre, and smaller, to stay in them."""
    from PIL import Image
    from scipy import ndimage

    content = json.loads(annotations.read_text(encoding="utf-8"))
    rng = np.random.default_rng(seed)
    (folder / "turned").mkdir(parents=True, exist_ok=True)
    for sample in (one for split in SPLITS for one in content[split]):
        picture = np.asarray(Image.open(annotations.parent / sample["image"]).convert("L"), dtype=np.float64)
        angle, centre = rng.uniform(0, 2 * np.pi), (np.array(picture.shape) - 1) / 2
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / 0.7
        moved = ndimage.affine_transform(picture, turn, centre - turn @ centre, order=1, mode="nearest")
        sample["image"] = f"turned/{sample['id']}.png"
        Image.fromarray(moved.round().astype(np.uint8)).save(folder / sample["image"])
        back = np.linalg.inv(turn).T
        sample["coordinates"] = [
            point and ((np.array(point[::-1]) - centre) @ back + centre)[::-1].round(3).tolist()
            for point in sample["coordinates"]
        ]
    target = folder / "dataset.json"
    target.write_text(json.dumps(content), encoding="utf-8")
    return target


def turned_mouse(data: Path, folder: Path) -> Path:
    return turned(again(data / "mirror_mouse" / "dataset.json", folder / "upright"), folder, seed=0)


def large_hands(folder: Path, sides: tuple[int, int], seed: int) -> Path:
    """The demo's hands on larger images, with sides between these."""
    with patch.object(hands, "SIDES", sides):
        return write_demo_dataset(folder, seed=seed)


def large_wings(data: Path, folder: Path) -> Path:
    """The wings, enlarged four times along each axis."""
    from PIL import Image

    content = json.loads(again(data / "wings" / "dataset.json", folder / "small").read_text(encoding="utf-8"))
    (folder / "large").mkdir(parents=True, exist_ok=True)
    for sample in (one for split in SPLITS for one in content[split]):
        picture = Image.open(sample["image"])
        sample["image"] = f"large/{sample['id']}.png"
        picture.resize((picture.width * 4, picture.height * 4)).save(folder / sample["image"])
        sample["coordinates"] = [[4 * one + 1.5 for one in point] for point in sample["coordinates"]]
    target = folder / "dataset.json"
    target.write_text(json.dumps(content), encoding="utf-8")
    return target


def hippocampus(source: Path, folder: Path) -> Path:
    """A raw folder of the training cases alone, a quarter of which are its test cases."""
    target = folder / "Dataset001_Hippocampus"
    cases = sorted(path.name for path in (source / "labelsTr").iterdir())
    order = np.random.default_rng(0).permutation(len(cases))
    held = {cases[index] for index in order[: len(cases) // HELD_OUT]}
    for name in cases:
        split = "Ts" if name in held else "Tr"
        image = name.replace(".nii", "_0000.nii")
        for kind, file in (("images", image), ("labels", name)):
            (target / f"{kind}{split}").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / f"{kind}Tr" / file, target / f"{kind}{split}" / file)
    content = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    content["numTraining"] = len(cases) - len(held)
    (target / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return target


def sparse_hippocampus(source: Path, folder: Path) -> Path:
    """The same data set with three annotated slices in each training case."""
    target = folder / "Dataset002_Slices"
    annotate_slices(hippocampus(source, folder / "full"), target, slices=3)
    return target


def pictures(source: Path, folder: Path, mirrored: bool) -> Path:
    """Sagittal slices of the same data set, without an orientation."""
    return write_pictures(
        hippocampus(source, folder / "volumes"), folder / "Dataset003_Pictures", mirrored=mirrored
    )


SETS: dict[str, Callable[[Path, Path], Path]] = {
    "wings": lambda data, folder: again(data / "wings" / "dataset.json", folder),
    "mouse": lambda data, folder: again(data / "mirror_mouse" / "dataset.json", folder),
    "hands": lambda _, folder: write_demo_dataset(folder, seed=1),
    "large hands": lambda _, folder: large_hands(folder, (800, 1000), seed=3),
    "huge hands": lambda _, folder: large_hands(folder, (1900, 2400), seed=4),
    "large wings": large_wings,
    "turned hands": lambda _, folder: turned(write_demo_dataset(folder, seed=2), folder, seed=0),
    "turned mouse": turned_mouse,
    "surfaces": lambda _, folder: write_surfaces(folder),
    "hippocampus": lambda data, folder: hippocampus(data / VOLUMES, folder),
    "slices": lambda data, folder: sparse_hippocampus(data / VOLUMES, folder),
    "pictures": lambda data, folder: pictures(data / VOLUMES, folder, mirrored=False),
    "mirrored pictures": lambda data, folder: pictures(data / VOLUMES, folder, mirrored=True),
}
"""How each data set is made, from the folder of real data and a new one."""

SEGMENTED = {
    "hippocampus": "Dataset001_Hippocampus",
    "slices": "Dataset002_Slices",
    "pictures": "Dataset003_Pictures",
    "mirrored pictures": "Dataset003_Pictures",
}
"""The folders of those that are no landmarks."""

FIXED = {"solver.regress_sigma": False}
PLUGIN: dict[str, Any] = {"trainer.plugins": [str(FILE)]}

CANDIDATES: dict[str, dict[str, Any]] = {
    "plan": {},
    "sigma-1": {**FIXED, "model.gauss_sigma": 1},
    "sigma-1.5": {**FIXED, "model.gauss_sigma": 1.5},
    "sigma-2": {**FIXED, "model.gauss_sigma": 2},
    "sigma-3": {**FIXED, "model.gauss_sigma": 3},
    "start-1": {"model.gauss_sigma": 1},
    "start-4": {"model.gauss_sigma": 4},
    "covariance": {"solver.regress_sigma": "covariance"},
    "mse": {**FIXED, "solver.loss_function": "mse", "model.gauss_sigma": 2},
    "expectation": {**FIXED, "solver.loss_function": "expectation", **PLUGIN},
    "Upright": {"sampler.data_aug": "Upright"},
    "Turned": {"sampler.data_aug": "Turned"},
    "AffineComplex": {"sampler.data_aug": "AffineComplex"},
    "thaler21": {"sampler.data_aug": "thaler21"},
    "payer19": {"sampler.data_aug": "payer19"},
    "no augmentation": {"sampler.data_aug": "None"},
    "every-sample": {"sampler.data_aug": "EverySample", **PLUGIN},
    "UprightElastic": {"sampler.data_aug": "UprightElastic"},
    "finer": {"sampler.input_size": [384, 288], "solver.max_epochs": 9},  # wings: 450 of 1000 batches
    "finest": {"sampler.input_size": [640, 480], "solver.max_epochs": 4, "trainer.validate_every": 1},
    "mouse-finer": {"sampler.input_size": [256, 320], "solver.max_epochs": 11},  # 550 of 1100 batches
    "wide": {"model.unet.max_features": 256},
    "any rotation": {"sampler.data_aug": "AnyRotation"},
    "lr-1e-3": {"solver.base_lr": 1e-3},
    "lr-4e-3": {"solver.base_lr": 4e-3},
    "lr-8e-3": {"solver.base_lr": 8e-3},
    "one-cycle": {**PLUGIN, "trainer.recipe_candidates.one_cycle": True},
    "stretch": {"sampler.resize": "stretch"},
    "warm-up": {**PLUGIN, "trainer.recipe_candidates.warm_up": 20},
    "mse-second": {
        **FIXED,
        "model.gauss_sigma": 1,
        "refine.solver.loss_function": "mse",
        "refine.model.gauss_sigma": 2,
    },
    "sgd": {"solver.optimizer": "sgd"},
    "nnunet": {"sampler.data_aug": "nnunet"},
    "nnunet-upright": {"sampler.data_aug": "nnunet_upright", "inference.tta": False},
    "nnunet with mirrored views": {"sampler.data_aug": "nnunet", "inference.tta": True},
    "nnunet without mirrors": {"sampler.data_aug": "NnunetWithoutMirrors", **PLUGIN},
    "mirrored": {"sampler.data_aug": "ElasticMirrored", **PLUGIN},
    "stronger": {"sampler.data_aug": "NnunetStronger", **PLUGIN},
    "nnunet intensities": {"sampler.data_aug": "UprightNnunet", **PLUGIN},
    "foreground .67": {"sampler.foreground_share": 0.67},
    "dropout": {"model.unet.dropout": 0.1},
    "no deep supervision": {"solver.deep_supervision": False},
    "surfaces in two stages": {
        "sampler.input_size": [32, 48, 28],
        "solver.max_epochs": 20,
        "solver.mini_batch_size": 50,
        "trainer.validate_every": 2,
        "refine.sampler.patch.sample_patch_size": [56, 56, 56],
        "refine.solver.max_epochs": 19,
        "refine.solver.mini_batch_size": 90,
        "refine.model.unet.init_features": 8,
        "refine.model.unet.max_features": 64,
    },
    "wings in two stages": {  # of a plan of 15 minutes
        "sampler.input_size": [256, 192],
        "solver.max_epochs": 17,
        "solver.mini_batch_size": 30,
        "solver.base_lr": 4e-3,
        "trainer.validate_every": 2,
        "model.unet.init_features": 16,
        "model.unet.max_features": 128,
        "model.unet.strides": [[2, 2]] * 5,
        "refine.sampler.patch.sample_patch_size": [64, 64],
        "refine.solver.base_lr": "auto",
        "refine.solver.max_epochs": 12,
        "refine.solver.mini_batch_size": 800,
        "refine.solver.data_loader_batch_size_train": 8,
        "refine.model.unet.init_features": 32,
        "refine.model.unet.max_features": 256,
        "refine.model.unet.strides": [[2, 2]] * 3,
    },
}
"""Keys over the plan's, by the name of what is tried."""


def one_run(name: str, candidate: str, minutes: float, seed: int, given: argparse.Namespace) -> None:
    folder = given.out / name.replace(" ", "_")
    annotations = folder / "data" / SEGMENTED.get(name, "dataset.json")
    extensions = ["--plugins", "sparse"] if name == "slices" else []
    if not annotations.exists():
        SETS[name](given.data, annotations.parent)
    plan = folder / f"plan{minutes:g}.yaml"
    if not plan.exists():
        lannunet("plan", annotations, "--minutes", f"{minutes:g}", "--no-gpu", "-o", plan, *extensions)
    run = folder / f"{candidate} {minutes:g} {seed}".replace(" ", "_")
    text = plan.read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    if (run / ("refine" if "refine" in config else "") / "summary.json").exists():
        return
    batches = re.findall(
        r"may make (?:about )?(\d+) (?:batches|steps) in the time", " ".join(text.replace("#", "").split())
    )
    stages = [config, *([config["refine"]] if "refine" in config else [])]
    assert len(batches) == len(stages), f"{plan} does not say how many batches fit"
    for stage, stated in zip(stages, batches, strict=True):
        del stage["solver"]["budget_minutes"]  # the number of batches is fixed
        epochs = round(int(stated) / stage["solver"]["mini_batch_size"])
        stage["solver"]["max_epochs"] = epochs
        stage.setdefault("trainer", {})["validate_every"] = max(epochs // 10, 1)
    keys = {
        f"dataset.{'root' if name in SEGMENTED else 'src_targets'}": str(annotations.resolve()),
        "output.output_dir": str(run.resolve()),
        "solver.seed": seed,
        "sampler.num_workers": 0,
        **CANDIDATES[candidate],
    }
    for key, value in keys.items():
        *sections, last = key.split(".")
        section = config
        for one in sections:
            section = section.setdefault(one, {})
        section[last] = value
    changed = folder / f"{run.name}.yaml"
    changed.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    lannunet("train", changed, "--overwrite")


def lannunet(*arguments: object) -> None:
    command = [str(Path(sys.executable).with_name("lannunet")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"failed: {' '.join(command)}")


def errors(run: Path) -> dict[str, float]:
    """Mean, median and 95th percentile of the radial errors on held-out images, in pixels; for segmentation,
    of 100 · (1 − Dice) per case and class."""
    last = run / "refine" if (run / "refine").exists() else run  # the second stage, if there are two
    landmarks = last / "predictions.csv"
    with (landmarks if landmarks.exists() else run / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    if landmarks.exists():
        found = [float(row["error_px"]) for row in rows if row["error_px"]]
    else:
        found = [100 * (1 - float(row["dice"])) for row in rows if row["dice"]]
    found = [error for error in found if np.isfinite(error)]
    return {
        "mean": float(np.mean(found)),
        "median": float(np.median(found)),
        "95": float(np.percentile(found, 95)),
    }


def table(out: Path) -> None:
    """Print a table of all finished runs for each number of minutes."""
    runs: dict[str, dict[str, dict[str, list[dict[str, float]]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for summary in sorted(out.glob("*/*/summary.json")):
        candidate, minutes, _ = summary.parent.name.rsplit("_", 2)
        runs[minutes][candidate][summary.parents[1].name].append(errors(summary.parent))
    for minutes, candidates in runs.items():
        sets = sorted({name for found in candidates.values() for name in found})
        means = {
            candidate: {name: float(np.mean([run["mean"] for run in found[name]])) for name in found}
            for candidate, found in candidates.items()
        }
        best = {name: min(found[name] for found in means.values() if name in found) for name in sets}
        print(f"\n{minutes} minutes: mean (median, 95th percentile) in pixels\n")
        print(
            f"| candidate | {' | '.join(sets)} | ratio to the best | runs |\n|---|{'---|' * (len(sets) + 2)}"
        )
        rows = []
        for candidate, found in candidates.items():
            ratios = [means[candidate][name] / best[name] for name in found]
            cells = [
                f"{means[candidate][name]:.2f} ({np.mean([run['median'] for run in found[name]]):.2f}, "
                f"{np.mean([run['95'] for run in found[name]]):.1f})"
                if name in found
                else ""
                for name in sets
            ]
            ratio = float(np.mean(ratios)) if len(ratios) == len(sets) else float("nan")
            rows.append((ratio, candidate.replace("_", " "), cells, sum(map(len, found.values()))))
        for ratio, candidate, cells, count in sorted(rows, key=lambda row: (np.isnan(row[0]), row[0])):
            print(f"| {candidate} | {' | '.join(cells)} | {ratio:.2f} | {count} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("set", nargs="?", choices=SETS)
    parser.add_argument("candidates", nargs="*", default=["plan"], metavar="CANDIDATE")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--table", action="store_true", help="print the table of what has been run")
    given = parser.parse_args()
    if given.table:
        table(given.out)
        return
    for candidate in given.candidates:
        for seed in given.seeds:
            one_run(given.set, candidate, given.minutes, seed, given)
            print(given.set, candidate, seed, flush=True)


if __name__ == "__main__":
    main()
