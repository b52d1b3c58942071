"""Predicting loose images with a trained model: what `lannunet predict` does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lannunet_core.data.centres import Centres
from lannunet_core.data.reader import SUFFIXES, image_header
from lannunet_core.errors import UserError
from lannunet_core.plugins.api import RunInfo
from lannunet_core.training import checkpoint as model_file
from lannunet_core.training.output import claim, provenance, refuse_folder, write_run
from lannunet_core.training.results import write_results
from lannunet_core.training.session import (
    Evaluator,
    Session,
    make_fabric,
    prepare_images,
    start_session,
)
from lannunet_core.training.stages import second_model
from lannunet_core.types import Prediction, Sample, State


def predict(
    model: Path,
    images: Sequence[Path],
    folder: Path,
    *,
    spacing: float | None = None,
    overwrite: bool = False,
) -> list[Prediction]:
    """Predict loose images with a trained model.

    Args:
        model: A model file or a run's folder.
        images: Image files, and folders of them.
        folder: Where predictions.csv, summary.json and report.html go.
        spacing: mm per pixel where the files do not say.
        overwrite: Replace earlier results there.
    """
    refuse_folder(folder, "--out", None if overwrite else "replace it (--overwrite)")
    session = open_model(model)
    if session.run.task == "segmentation":
        from lannunet_core.segmentation.loose import predict as segment

        segment(session, model, images, folder)
        return []
    samples = loose_samples(images, session.run)
    if spacing is not None:
        samples = [
            sample
            if image_header(sample.image, session.run.dimensions).spacing
            else replace(sample, spacing=(spacing,) * session.run.dimensions)
            for sample in samples
        ]
    prepared = prepare_images(session, samples, "given", reference=model)
    claim(folder)
    debug = folder / "debug" if session.config.inference.debug else None
    predictions = Evaluator(session, prepared, samples, "given").predict(debug)
    if session.loaded.refine is not None:
        centres = {prediction.id: prediction.coordinates for prediction in predictions}
        session = open_model(second_model(model), centres)
        prepared = prepare_images(session, samples, "given", reference=model)
        predictions = Evaluator(session, prepared, samples, "given").predict()
    loaded = session.loaded
    description = provenance(loaded, session.run, session.fabric.device, model=str(model))
    resolved = loaded.resolved()
    write_run(folder, resolved, description)
    write_results(session, predictions, folder, f"Predictions of {model}", [], resolved, description)
    return predictions


def open_model(path: Path, centres: Centres | None = None) -> Session:
    """A trained model on the device.

    Args:
        path: A model file or a run's folder.
        centres: What a second stage looks around.
    """
    trained = model_file.load(path)
    loaded = trained.loaded_config(path)
    if loaded.run.sampler.sample_mode == "patch_centred" and centres is None:
        raise UserError(
            f"{path}: looks at patches around the predictions of another model, so it cannot predict alone; "
            "give the folder of the run in two stages that it belongs to."
        )
    fabric = make_fabric(loaded.run)
    run = replace(trained.run_info(), device=fabric.device.type)
    session = start_session(loaded, run, fabric, centres)
    model_file.load_weights(session.learner, trained, run, loaded.architecture.installed.name, path)
    fabric.to_device(session.learner)
    return session


def loose_samples(images: Sequence[Path], run: RunInfo) -> list[Sample]:
    """Samples without annotation for image files and folders of them."""
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.name.lower().endswith(SUFFIXES))
            if not found:
                raise UserError(
                    f"{path}: there are no images in this folder; known are {', '.join(SUFFIXES)}."
                )
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{path}: there is no such image.")
    files = list(dict.fromkeys(files))
    count, dimensions = len(run.outputs), run.dimensions
    names = [file.name for file in files]
    return [
        Sample(
            id=file.name if names.count(file.name) == 1 else str(file),
            image=file,
            coordinates=np.full((count, dimensions), math.nan),
            states=np.full(count, State.UNLABELLED, np.int64),
        )
        for file in files
    ]
