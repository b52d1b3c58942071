"""A run in one stage, or in two: the second predicts on patches around the predictions of the first.

The first stage is more accurate on images that it was trained on than on others. So the second stage is
trained on patches that are moved by as much as the first stage errs on the validation images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from lannunet_images import second_model, settle_ensemble, with_model_of

from lannunet_core import (
    CENTRES_FILE,
    LoadedConfig,
    State,
    UserError,
    best_model,
    echo,
    from_first,
    is_first,
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

REACHED = 0.95  # share of the first stage's validation errors that the moves of training patches cover
LEAST_JITTER = 1.0  # pixels


def train_stages(loaded: LoadedConfig, *, resume: bool = False, overwrite: bool = False) -> list[Prediction]:
    """Train the first stage, and a second stage on patches around its predictions if there is one.

    The first stage's results are in the output folder, the second's in its subfolder `refine`.

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
    with releasing():  # both stages write to one folder, which stays locked between them
        lock_folder(loaded.run.output.output_dir)
        return train_both(loaded, with_models(loaded.refine, loaded), resume, overwrite)


def train_both(loaded: LoadedConfig, second: LoadedConfig, resume: bool, overwrite: bool) -> list[Prediction]:
    refined = cast(RunConfig, second.run)
    dataset = open_used(loaded)
    fabric = make_fabric(second.run)
    # Fail early if a second stage is impossible.
    session = start_session(second, describe(refined, dataset, fabric.device.type), fabric)
    open_members(session, refined.inference.ensemble_checkpoints)
    coarse = train(loaded, resume=resume, overwrite=overwrite)

    found = predict_all(loaded, dataset)
    # The evaluated split gets the predictions of the whole ensemble as centres. Its members may have been
    # trained on the other images, so for these, and for the errors, this model predicts alone.
    looked_for = {**found, refined.inference.split: coarse}
    centres = loaded.run.output.output_dir / CENTRES_FILE
    if is_first():
        write_predictions(
            centres, [one for split in SPLITS for one in looked_for[split]], dataset.landmark_names
        )
    from_first(None)  # the file exists now
    patch = refined.sampler.patch
    jitter = patch.jitter
    if jitter == "auto":
        jitter = jitter_for(found["validation"], refined.sampler.patch_size)
        echo(f"second stage: patches around the predictions, in training up to {jitter:g} px off")
    refinement = train(
        around(second, centres, jitter),
        resume=resume,
        overwrite=overwrite,
        compare=lambda _: {"first stage": coarse},
    )
    folder = loaded.run.output.output_dir
    echo(f"the run's final results: {second.run.output.output_dir}; {folder} holds its first stage")
    return refinement


def with_models(second: LoadedConfig, first: LoadedConfig) -> LoadedConfig:
    """The second stage, with the second stages of the models that the first names for an ensemble or
    inference.

    Raises:
        UserError: A model of the ensemble has no second stage.
    """
    config, run = cast(RunConfig, first.run), cast(RunConfig, second.run)
    members = config.inference.ensemble_checkpoints
    for path in members:
        if best_model(second_model(path)) is None:
            raise UserError(
                f"inference.ensemble_checkpoints: {path} has no second stage ({second_model(path)}), but "
                "this run has one. The models of an ensemble need the same number of stages."
            )
    inference = run.inference.model_copy(update={"ensemble_checkpoints": list(map(second_model, members))})
    return with_model_of(replace(second, run=run.model_copy(update={"inference": inference})), first)


def predict_all(loaded: LoadedConfig, dataset: LandmarkDataset) -> dict[Split, list[Prediction]]:
    """The predictions of the run's best model for every split."""
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
    """The distance that training patches are moved by: the first stage's error, limited by the patch.

    A quarter of the patch if the error cannot be measured.
    """
    most = min(patch_size) / 4
    errors = [
        radial_errors(one)[0][one.states == State.VISIBLE] for one in validation if one.states is not None
    ]
    known = [error for of_image in errors for error in of_image if np.isfinite(error)]
    wanted = float(np.quantile(known, REACHED)) if known else most
    return round(min(max(wanted, LEAST_JITTER), most), 1)


def around(second: LoadedConfig, centres: Path, jitter: float) -> LoadedConfig:
    """The configuration of the second stage as a run of its own."""
    sampler = cast(RunConfig, second.run).sampler
    patch = sampler.patch.model_copy(update={"centres": centres, "jitter": jitter})
    sampler = sampler.model_copy(update={"patch": patch})
    return replace(second, run=second.run.model_copy(update={"sampler": sampler}))
