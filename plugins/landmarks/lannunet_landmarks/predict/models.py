"""Trained models, opened for use: one, or several that look at the same images together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lannunet_core.config.compose import LoadedConfig
from lannunet_core.config.schema import DatasetConfig, InferenceConfig
from lannunet_core.data.annotations import load_dataset
from lannunet_core.data.centres import Centres
from lannunet_core.errors import UserError
from lannunet_core.training import checkpoint as model_file
from lannunet_core.training.session import Session, make_fabric, start_session
from lannunet_core.types import Sample

BEST = Path("checkpoints", "best.pt")


def open_model(
    path: Path, centres: Centres | None = None, inference: InferenceConfig | None = None
) -> Session:
    """A trained model on the device.

    Args:
        path: A model file or a run's folder.
        centres: What a second stage looks around.
        inference: How to predict; None: as in the model's configuration.
    """
    trained = model_file.load(path)
    loaded = trained.loaded_config(path)
    if inference is not None:
        loaded = replace(loaded, run=loaded.run.model_copy(update={"inference": inference}))
    if loaded.run.sampler.sample_mode == "patch_centred" and centres is None:
        raise UserError(
            f"{path}: looks at patches around the predictions of another model, so it cannot predict alone; "
            "give the folder of the run in two stages that it belongs to."
        )
    fabric = make_fabric(loaded.run)
    run = replace(trained.run_info(), device=fabric.device.type)
    session = start_session(loaded, run, fabric, centres)
    model_file.load_weights(session.learner, trained, run, loaded.architecture.installed.name, path)
    session.presence = trained.presence or None
    if run.task == "landmarks" and loaded.run.inference.presence and session.presence is None:
        raise UserError(
            f"{path}: has not learned what tells that a landmark is there. Train it to the end with "
            "inference.presence: true."
        )
    fabric.to_device(session.learner)
    return session


def open_members(first: Session, paths: Sequence[Path]) -> list[Session]:
    """Further models that see the same images as `first`, and predict as it does."""
    members = []
    sampler = first.config.sampler
    for path in paths:
        member = open_model(path, inference=first.config.inference)
        other = member.config.sampler
        for what, found, wanted in (
            ("landmarks are", list(member.run.outputs), list(first.run.outputs)),
            ("number of channels is", member.run.in_channels, first.run.in_channels),
            ("number of dimensions is", member.run.dimensions, first.run.dimensions),
            ("image size is", other.image_size, sampler.image_size),
            ("sampler.resize is", other.resize, sampler.resize),
            ("sampler.sample_mode is", other.sample_mode, sampler.sample_mode),
            ("patch.inference_mode is", other.patch.inference_mode, sampler.patch.inference_mode),
        ):
            if found != wanted:
                raise UserError(
                    f"{path}: its {what} {found}, the others' {wanted}. The models of an ensemble see the "
                    "same images and find the same landmarks."
                )
        members.append(member)
    return members


def seen_in_training(dataset: DatasetConfig, fold: int, samples: Sequence[Sample]) -> int:
    """How many of the samples show images that a model was trained on; 0 where its annotations are gone."""
    try:
        training = load_dataset(dataset, fold).samples["training"]
    except UserError:
        return 0
    images = {sample.image.resolve() for sample in training}
    return sum(sample.image.resolve() in images for sample in samples)


def folds_of(folder: Path) -> list[Path]:
    """The best model of each fold of a cross-validated run."""
    folds = [path for path in folder.glob("fold*") if path.name[4:].isdecimal() and (path / BEST).exists()]
    return [path / BEST for path in sorted(folds, key=lambda path: int(path.name[4:]))]


def models_of(path: Path) -> list[Path]:
    """The model that a path names, or those of all folds where it is a cross-validated run."""
    return [path] if path.is_file() or (path / BEST).exists() else folds_of(path) or [path]


def settle_ensemble(loaded: LoadedConfig) -> LoadedConfig:
    """With the models of `inference.ensemble_inference` named one by one.

    The run's own model is one of them. Where it does not train and none is named, that is the first.
    """
    run = loaded.run
    inference, model = run.inference, run.model
    if not inference.ensemble_inference:
        if inference.ensemble_checkpoints:
            raise UserError(
                "inference.ensemble_checkpoints: is only read with inference.ensemble_inference: true. "
                "Set it, or remove the models."
            )
        return loaded
    if loaded.refine is not None or run.sampler.sample_mode == "patch_centred":
        raise UserError(
            "inference.ensemble_inference: is for models that look at whole images, not around the "
            "predictions of another. Remove it, or the second stage."
        )
    named = inference.ensemble_checkpoints or [run.output.output_dir]
    paths = [found for path in named for found in models_of(path)]
    if not inference.ensemble_checkpoints and not folds_of(run.output.output_dir):
        raise UserError(
            f"inference.ensemble_inference: {run.output.output_dir} holds no folds (fold0, fold1 …) of a "
            "cross-validated run. Name the models in inference.ensemble_checkpoints."
        )
    for path in paths:
        if not path.is_file() and not (path / BEST).exists():
            raise UserError(f"inference.ensemble_checkpoints: {path} is no model file, nor a run's folder.")
    if run.trainer.inference_only and model.checkpoint is None:
        model = model.model_copy(update={"checkpoint": paths.pop(0)})
    inference = inference.model_copy(update={"ensemble_checkpoints": paths})
    return replace(loaded, run=run.model_copy(update={"inference": inference, "model": model}))
