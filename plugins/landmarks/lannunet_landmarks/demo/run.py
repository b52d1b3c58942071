"""The demo: from generated images of hands to a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lannunet_core import (
    UserError,
    earlier_results,
    echo,
    load_config,
    load_resolved,
    lock_folder,
    refuse_folder,
    releasing,
    write_text,
)
from lannunet_landmarks.demo.hands import baselines, percent_of_side, write_demo_dataset
from lannunet_landmarks.types import Prediction
from lannunet_landmarks.work import train

# With a time budget, the error of the demo exceeded 1 % of the side on busy cores.
EPOCHS, BATCHES, PICTURES = 22, 40, 4


def run_demo(folder: Path, minutes: float | None, overwrite: bool) -> list[Prediction]:
    """Draw the data set, write a YAML for it, and run that YAML.

    Args:
        folder: Gets `data/`, `demo.yaml` and the run's results.
        minutes: Minutes of training; None: a fixed number of batches, so that the result does not depend on
            the load.
        overwrite: Replace an earlier demo there.
    """
    data, config = folder / "data", folder / "demo.yaml"
    with releasing():  # the run locks the folder itself; no run has written to it yet
        refuse_folder(folder, "FOLDER", None if overwrite else "replace it (--overwrite)")
        if config.exists() and not earlier_results(data):
            raise UserError(f"FOLDER: {config} was not written by the demo; name another folder.")
    length: dict[str, Any] = {"max_epochs": EPOCHS} if minutes is None else {"budget_minutes": minutes}
    content = {
        "dataset": {"src_targets": "data/dataset.json"},
        "sampler": {"input_size": [128, 128]},
        "solver": {
            **length,
            "mini_batch_size": BATCHES,
            "data_loader_batch_size_train": PICTURES,
            "regress_sigma": "isotropic",
        },
        "trainer": {"validate_every": 2},
        "model": {"architecture": "unet", "unet": {"init_features": 16, "max_features": 128}},
        "output": {"output_dir": "."},
    }
    load_resolved(content, str(config))  # raises an error if a plugin is not installed
    with releasing():
        lock_folder(data)
        annotations = write_demo_dataset(data)
    write_text(config, yaml.safe_dump(content, sort_keys=False, default_flow_style=None))
    echo(f"drew {annotations.parent}; running {config}")
    if minutes is None:
        work = f"{EPOCHS * BATCHES} batches of {PICTURES} pictures"
        echo(f"training takes {work}: about 3 minutes on two idle cores, longer on busy ones")
    predictions = train(load_config(config), overwrite=overwrite, compare=baselines)
    echo(f"mean error: {percent_of_side(predictions):.2f} % of the image's side")
    return predictions
