"""A training iteration with weight maps against one without, data loading included, on 3D patches."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import yaml
from lannunet_segmentation.session import start_session
from lannunet_segmentation.work import SegmentationWork

from benchmarks import Row, seconds
from lannunet_core import load_config, loaded_batches, make_fabric
from lannunet_core.run.run import prepare_training

PATCH, SHAPE = (56, 64, 48), (64, 96, 80)
CASES, BATCH, REPEATS = 4, 2, 8


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_volumes(folder / "Dataset001_Volumes")
        weighted = {"plugins": ["weighted"], "weighted": {"generate": "unet_border"}}
        without, with_maps = (iteration(folder, arm) for arm in ({}, weighted))
        without()
        with_maps()
        threads = torch.get_num_threads()
        plain, ours = seconds(without, with_maps, repeats=REPEATS, threads=threads)
    return [
        Row(
            "training iteration with weight maps, 3D U-Net (16 features), 2 × 56×64×48",
            "the same without weight maps",
            plain,
            ours,
            at_most=1.1,
            note=f"{threads} threads; loading, augmentation, labels and loss included",
        )
    ]


def iteration(folder: Path, trainer: dict[str, object]) -> Callable[[], object]:
    """Return a function that takes the next step of a run, with its batch loaded in this process."""
    out = folder / ("weighted" if trainer else "plain")
    content = {
        "task": "segmentation",
        "dataset": {"root": str(folder / "Dataset001_Volumes")},
        "sampler": {"patch": {"sample_patch_size": list(PATCH)}, "num_workers": 0},
        "solver": {
            "data_loader_batch_size_train": BATCH,
            "max_epochs": 1,
            "mini_batch_size": 10 * REPEATS,
        },
        "trainer": {"fold": "all", **trainer},
        "model": {"architecture": "unet", "unet": {"init_features": 16, "max_features": 128}},
        "output": {"output_dir": str(out)},
    }
    path = folder / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump(content))
    loaded = load_config(path)
    work, fabric = SegmentationWork(loaded), make_fabric(loaded.run)
    session = start_session(loaded, work.describe(fabric.device.type), fabric)
    work.read(session)
    training, _, _ = prepare_training(session, work, resume=False)
    training.learner.train()
    stream = loaded_batches(training.loader)

    def step() -> object:
        batch = training.samples.on_device(next(stream), fabric.device)
        return training.train_step(training.step(batch))

    return step


def write_volumes(folder: Path) -> None:
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    places = np.indices(SHAPE, np.float32)
    for case in range(CASES):
        rng = np.random.default_rng(case)
        label = np.zeros(SHAPE, np.uint8)
        for value in (1, 2):
            centre = np.array(SHAPE) * rng.uniform(0.3, 0.7, 3)
            label[sum((p - c) ** 2 for p, c in zip(places, centre, strict=True)) < 15**2] = value
        image = rng.normal(0, 1, SHAPE).astype(np.float32) + label
        for part, array in (("imagesTr", image), ("labelsTr", label), ("imagesTs", image)):
            channel = "" if part == "labelsTr" else "_0000"
            path = folder / part / f"{part[-2:]}{case}{channel}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
