"""A run in one stage, or in two: the second looks again, on patches around what the first found.

What the first says of images that it was trained on is better than what it will say of others. So the second
is trained on patches that are moved by as much as the first errs on the validation images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from lannunet_images import settle_ensemble

from lannunet_core import (
    CENTRES_FILE,
    SECOND_STAGE_FOLDER,
    LoadedConfig,
    State,
    UserError,
    best_model,
    from_first,
    is_first,
    located,
    lock_folder,
    make_fabric,
    releasing,
    start_from,
)
from lannunet_landmarks.check import open_used
from lannunet_landmarks.data.annotations import SPLITS, LandmarkDataset, Split
from lannunet_landmarks.evaluation.predictions import write_predictions
from lannunet_landmarks.evaluation.summary import radial_errors
from lannunet_landmarks.predict.ensemble import together
from lannunet_landmarks.predict.evaluator import Evaluator
from lannunet_landmarks.predict.models import as_trained, open_members
from lannunet_landmarks.schema import RunConfig
from lannunet_landmarks.session import describe, first_images, prepare_images, start_session, with_clips
from lannunet_landmarks.types import Prediction
from lannunet_landmarks.work import train

REACHED = 0.95  # share of the first stage's validation errors that training patches are moved by
LEAST_JITTER = 1.0  # pixels


def train_stages(loaded: LoadedConfig, *, resume: bool = False, overwrite: bool = False) -> list[Prediction]:
    """Train as configured, and a second stage on patches around its predictions where there is one.

    The first stage's results are in the output folder as always, the second's in a folder `refine` in it.

    Args:
        loaded: The run's configuration.
        resume: Continue where the run in the output folder stopped, in either stage.
        overwrite: Replace the run in the output folder.

    Returns:
        The last stage's predictions of the evaluated split.
    """
    loaded = settle_ensemble(loaded)
    if loaded.refine is None:
        return train(loaded, resume=resume, overwrite=overwrite)
    with releasing():  # both stages write into one folder, which stays locked between them
        lock_folder(loaded.run.output.output_dir)
        return train_both(loaded, with_models(loaded.refine, loaded), resume, overwrite)


def train_both(loaded: LoadedConfig, second: LoadedConfig, resume: bool, overwrite: bool) -> list[Prediction]:
    refined = cast(RunConfig, second.run)
    dataset = open_used(loaded)
    fabric = make_fabric(second.run)
    # Is it possible at all?
    session = start_session(second, describe(refined, dataset, fabric.device.type), fabric)
    open_members(session, refined.inference.ensemble_checkpoints)
    coarse = train(loaded, resume=resume, overwrite=overwrite)

    found = predict_all(loaded, dataset)
    # What is evaluated is looked for where all models of an ensemble find it. They may have been trained on
    # the other images, so these are looked for, and errors measured, where this one finds them alone.
    looked_for = {**found, refined.inference.split: coarse}
    centres = loaded.run.output.output_dir / CENTRES_FILE
    if is_first():
        write_predictions(
            centres, [one for split in SPLITS for one in looked_for[split]], dataset.landmark_names
        )
    from_first(None)  # it has written them
    patch = refined.sampler.patch
    jitter = patch.jitter
    if jitter == "auto":
        jitter = jitter_for(found["validation"], refined.sampler.patch_size)
        print(
            f"second stage: patches around the predictions, in training up to {jitter:g} px off", flush=True
        )
    refinement = train(
        around(second, centres, jitter),
        resume=resume,
        overwrite=overwrite,
        compare=lambda _: {"first stage": coarse},
    )
    folder = loaded.run.output.output_dir
    print(
        f"the run's final results: {second.run.output.output_dir}; what lies in {folder} is its first stage"
    )
    return refinement


def with_models(second: LoadedConfig, first: LoadedConfig) -> LoadedConfig:
    """A second stage with those of the models that the first one names: of an ensemble, or to predict with.

    Raises:
        UserError: A model of the ensemble has none.
    """
    config, run = cast(RunConfig, first.run), cast(RunConfig, second.run)
    members = config.inference.ensemble_checkpoints
    for path in members:
        if best_model(second_model(path)) is None:
            raise UserError(
                f"inference.ensemble_checkpoints: {path} has no second stage ({second_model(path)}), but "
                "this run has one. The models of an ensemble have as many stages."
            )
    inference = run.inference.model_copy(update={"ensemble_checkpoints": list(map(second_model, members))})
    model = run.model
    if run.trainer.inference_only and model.checkpoint is None and config.model.checkpoint is not None:
        model = model.model_copy(update={"checkpoint": second_model(config.model.checkpoint)})
    return replace(second, run=run.model_copy(update={"inference": inference, "model": model}))


def predict_all(loaded: LoadedConfig, dataset: LandmarkDataset) -> dict[Split, list[Prediction]]:
    """What the run's best model says of every split."""
    loaded = as_trained(loaded)
    config = cast(RunConfig, loaded.run)
    fabric = make_fabric(config)
    run = describe(config, dataset, fabric.device.type)
    session = start_session(with_clips(loaded, dataset, run.in_channels), run, fabric)
    trained = config.model.checkpoint if config.trainer.inference_only else None
    start_from(session, trained or config.output.output_dir)
    fabric.to_device(session.learner)
    reference = first_images(dataset, config)[0].image
    predictions = {}
    for split, samples in dataset.samples.items():
        images = prepare_images(session, samples, split, reference)
        methods = Evaluator(session, images, samples, split).predict(together([session]))
        predictions[split] = next(iter(methods.values()), [])
    return predictions


def jitter_for(validation: Sequence[Prediction], patch_size: Sequence[int]) -> float:
    """How far training patches are moved: as the first stage errs, and no further than the patch allows.

    A quarter of the patch where there is nothing to measure the error on.
    """
    most = min(patch_size) / 4
    errors = [
        radial_errors(one)[0][one.states == State.VISIBLE] for one in validation if one.states is not None
    ]
    known = [error for of_image in errors for error in of_image if np.isfinite(error)]
    wanted = float(np.quantile(known, REACHED)) if known else most
    return round(min(max(wanted, LEAST_JITTER), most), 1)


def around(second: LoadedConfig, centres: Path, jitter: float) -> LoadedConfig:
    """The second stage as a run of its own."""
    sampler = cast(RunConfig, second.run).sampler
    patch = sampler.patch.model_copy(update={"centres": centres, "jitter": jitter})
    sampler = sampler.model_copy(update={"patch": patch})
    return replace(second, run=second.run.model_copy(update={"sampler": sampler}))


def second_model(model: Path) -> Path:
    """Where the second stage of a run is, given the first's model file or folder."""
    model = located(model)
    return (model if model.is_dir() else model.parent.parent) / SECOND_STAGE_FOLDER
