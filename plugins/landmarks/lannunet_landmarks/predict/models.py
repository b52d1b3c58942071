"""Open trained models for inference: one, or the members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from lightning_fabric import Fabric

import lannunet_core as core
from lannunet_core import LoadedConfig, UserError, load_checkpoint
from lannunet_landmarks.data.annotations import load_dataset
from lannunet_landmarks.data.centres import Centres
from lannunet_landmarks.data.groups import contents
from lannunet_landmarks.schema import DatasetConfig, InferenceConfig, RunConfig
from lannunet_landmarks.session import LandmarkSession, pixel_shape, start_session
from lannunet_landmarks.types import Sample

PREPARING = {"resize": "letterbox", "letterbox_in": "pixels", "normalisation": "zscore", "clip": []}
"""The keys of `sampler` that determine the network's input, with the defaults of earlier models."""


def open_model(
    path: Path,
    centres: Centres | None = None,
    inference: InferenceConfig | None = None,
    plugins: Sequence[Path] = (),
    device: str | Fabric = "auto",
) -> LandmarkSession:
    """Open a trained model on the device.

    Args:
        path: A model file or a run's folder.
        centres: Centres of the patches of a second stage.
        inference: Section to predict with; None: as in the model's configuration.
        plugins: Trusted plugin files.
        device: As `trainer.device`, or the device of another model.
    """

    def change(loaded: LoadedConfig) -> LoadedConfig:
        if inference is not None:
            loaded = replace(loaded, run=loaded.run.model_copy(update={"inference": inference}))
        if cast(RunConfig, loaded.run).sampler.sample_mode == "patch_centred" and centres is None:
            raise UserError(
                f"{path}: was trained on patches around the predictions of another model, so it cannot "
                "predict alone; give the folder of the run in two stages that it belongs to."
            )
        return loaded

    session = core.open_model(
        path, partial(start_session, centres=centres), change, plugins, device, "landmarks"
    )
    if session.config.inference.presence and session.presence is None:
        raise UserError(
            f"{path}: has no threshold of presence. Train it to the end with inference.presence: true."
        )
    return session


def open_members(first: LandmarkSession, paths: Sequence[Path]) -> list[LandmarkSession]:
    """Open additional models with the same input as `first`, and the same way of predicting."""
    members = []
    sampler = first.config.sampler
    centred = sampler.sample_mode == "patch_centred"
    for path in paths:
        member = open_model(
            path, {} if centred else None, first.config.inference, first.loaded.files, first.fabric
        )
        other = member.config.sampler
        for what, found, wanted in (
            ("number of stages is", stages_of(member), stages_of(first)),
            ("landmarks are", list(member.run.outputs), list(first.run.outputs)),
            ("number of channels is", member.run.in_channels, first.run.in_channels),
            ("number of dimensions is", member.run.dimensions, first.run.dimensions),
            ("image size is", other.image_size, sampler.image_size),
            ("sampler.resize is", other.resize, sampler.resize),
            *shapes(first, member),
            ("sampler.normalisation is", other.normalisation, sampler.normalisation),
            ("sampler.clip is", other.clip, sampler.clip),
            ("sampler.sample_mode is", other.sample_mode, sampler.sample_mode),
            ("patch.inference_mode is", other.patch.inference_mode, sampler.patch.inference_mode),
            *([("patch size is", member.run.input_size, first.run.input_size)] if centred else []),
        ):
            if found != wanted:
                raise UserError(
                    f"{path}: its {what} {found}, the others' {wanted}. The models of an ensemble need the "
                    "same images and the same landmarks."
                )
        member.say_left_out(path)
        members.append(member)
    return members


def stages_of(session: LandmarkSession) -> int:
    return 1 if session.loaded.refine is None else 2


def shapes(first: LandmarkSession, member: LandmarkSession) -> list[tuple[str, object, object]]:
    """The input pixels' shapes of two models, if their letterboxes depend on it."""
    if first.config.sampler.resize == "stretch" or first.config.sampler.image_size is None:
        return []
    found, wanted = (
        None if shape is None else tuple(round(side, 1) for side in shape)
        for shape in (pixel_shape(one.config, one.run) for one in (member, first))
    )
    return [
        ("sampler.letterbox_in is", member.config.sampler.letterbox_in, first.config.sampler.letterbox_in),
        ("input pixels' shape (from the training images' spacing) is", found, wanted),
    ]


def as_trained(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration of a model for inference: images are prepared as in its training.

    Keys that the user set are kept.
    """
    run = cast(RunConfig, loaded.run)
    if not run.trainer.inference_only or run.model.checkpoint is None:
        return loaded
    trained = load_checkpoint(run.model.checkpoint).config["sampler"]
    changes = {
        key: trained.get(key, was) for key, was in PREPARING.items() if f"sampler.{key}" not in loaded.given
    }
    return replace(loaded, run=run.model_copy(update={"sampler": run.sampler.model_copy(update=changes)}))


def seen_in_training(dataset: DatasetConfig, fold: int, samples: Sequence[Sample]) -> int:
    """The number of samples whose images a model was trained on; 0 if its annotations no longer exist."""
    try:
        training = load_dataset(dataset, fold).samples["training"]
    except UserError:
        return 0
    known = contents(sample.image for sample in (*training, *samples))
    seen = {known[sample.image] for sample in training}
    return sum(known[sample.image] in seen for sample in samples)
