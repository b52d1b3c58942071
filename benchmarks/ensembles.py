"""An ensemble of 5 against its members one after the other, on 20 prepared images."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import yaml
from lannunet_landmarks import Prediction, load_dataset, train, write_demo_dataset
from lannunet_landmarks.predict.ensemble import together
from lannunet_landmarks.predict.evaluator import Evaluator, locate_with
from lannunet_landmarks.predict.models import open_members, open_model
from lannunet_landmarks.session import prepare_images

from benchmarks import Row, seconds
from lannunet_core import load_config

MEMBERS, IMAGES, REPEATS = 5, 20, 3


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return [five_together(Path(folder))]


def five_together(folder: Path) -> Row:
    """Both times include loading the models."""
    annotations = write_demo_dataset(
        folder / "data", sizes={"training": 2, "validation": 1, "testing": IMAGES}
    )
    content = {
        "dataset": {"src_targets": str(annotations)},
        "sampler": {"input_size": [256, 256], "num_workers": 0},
        "solver": {"max_epochs": 1, "mini_batch_size": 1, "data_loader_batch_size_train": 1},
        "model": {"unet": {"init_features": 16, "max_features": 256}},
        "output": {"output_dir": str(folder / "run")},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(content))
    models = [folder / f"seed{seed}" for seed in range(MEMBERS)]
    for seed, model in enumerate(models):
        train(load_config(folder / "run.yaml", [f"solver.seed={seed}", f"output.output_dir={model}"]))

    session = open_model(models[0])
    samples = load_dataset(session.config.dataset, 0).samples["testing"]
    images = prepare_images(session, samples, "testing")

    def alone() -> list[list[Prediction]]:
        found = []
        for model in models:
            opened = open_model(model)
            evaluator = Evaluator(opened, images, samples, "testing")
            found += evaluator.predict(locate_with(opened)).values()
        return found

    def ours() -> list[Prediction]:
        first = open_model(models[0])
        members = [first, *open_members(first, models[1:])]
        return Evaluator(first, images, samples, "testing").predict(together(members))["E-CPV"]

    singles, ensemble = alone(), ours()
    mean = np.mean([[one.coordinates for one in found] for found in singles], axis=0)
    apart = np.abs(mean - [one.coordinates for one in ensemble]).max()
    alone_seconds, our_seconds = seconds(alone, ours, repeats=REPEATS)
    return Row(
        f"ensemble of {MEMBERS}, {IMAGES} images of 256²",
        "its models one after the other",
        alone_seconds,
        our_seconds,
        at_most=1.1,
        note=f"E-CPV, E-MHA and most-confident; means at most {apart:.1g} px apart",
        same=bool(apart < 1e-3),
    )
