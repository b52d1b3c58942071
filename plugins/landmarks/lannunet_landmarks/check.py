"""The check of `lannunet config check`: the data set's own files, without reading an image."""

from __future__ import annotations

from typing import Any, cast

from lannunet_images import settle_ensemble

from lannunet_core import AUTO, LoadedConfig, RunInfo, UserError, check_names, echo, located
from lannunet_landmarks.data.annotations import Known, LandmarkDataset, open_dataset
from lannunet_landmarks.data.exchange import format_of
from lannunet_landmarks.schema import RunConfig


def check(loaded: LoadedConfig) -> None:
    """Raise the errors that `lannunet train` would raise before its first image.

    Raises:
        UserError: The configuration or the data set is wrong.
    """
    loaded = settle_ensemble(loaded)
    config = cast(RunConfig, loaded.run)
    if config.dataset.format == AUTO:
        check_files(loaded, config)
    checkpoint = config.model.checkpoint
    if checkpoint and not located(checkpoint).exists():
        raise _missing(loaded, "model.checkpoint", checkpoint, "give a model file or a run's folder")
    read = open_used(loaded)
    config.sampler.check_dimensions(read.dimensions, str(read.path))
    check_names(loaded, lambda: described(config, read))


def open_used(loaded: LoadedConfig) -> LandmarkDataset:
    """Open the data set of a run.

    Raises:
        UserError: The data set is wrong, or a list that the run uses is empty.
    """
    config, known = cast(RunConfig, loaded.run), None
    trains, split = not config.trainer.inference_only, config.inference.split
    if not trains and config.model.checkpoint is not None:
        from lannunet_core import load_checkpoint  # imports torch

        run = load_checkpoint(config.model.checkpoint).run_info()
        known = Known(run.outputs, run.dimensions)
    dataset = open_dataset(loaded, known)
    one_file = config.dataset.format == AUTO and config.dataset.src_targets.is_file()
    if one_file and config.trainer.fold > 0 and (where := loaded.given.get("trainer.fold")):
        targets = config.dataset.src_targets
        why = f"does nothing: dataset.src_targets ({targets}) is one file, no folder of folds"
        echo(f"warning: {where}: trainer.fold {why}.", err=True)
    if trains and not dataset.samples["training"]:
        raise UserError(
            f'{dataset.path}: "training" is empty or missing. Put annotated samples there; to evaluate a '
            "trained model, set trainer.inference_only and model.checkpoint."
        )
    if not dataset.samples[split]:
        raise UserError(
            f'{dataset.path}: "{split}" is empty or missing, so nothing can be evaluated; put samples there '
            "or set inference.split."
        )
    return dataset


def described(config: RunConfig, dataset: LandmarkDataset) -> RunInfo:
    from lannunet_landmarks.session import describe  # imports torch

    return describe(config, dataset, "cpu")


def check_files(loaded: LoadedConfig, config: RunConfig) -> None:
    """Refuse annotations and folders that do not exist."""
    targets, fold = config.dataset.src_targets, config.trainer.fold
    if targets.is_dir() and format_of(targets, fold) is None:
        folds = sorted(path.name for path in targets.glob("fold*.json"))
        if fold >= 0 and f"fold{fold}.json" not in folds:
            raise _missing(
                loaded, "trainer.fold", f"fold{fold}.json", f"{targets} has {', '.join(folds) or 'no fold'}"
            )
    elif not targets.exists():
        raise _missing(loaded, "dataset.src_targets", targets, "give the JSON, or a folder of foldK.json")
    folder = config.dataset.images_folder
    if not folder.is_dir():
        raise _missing(loaded, "dataset.root", folder, "give the folder of the images")


def _missing(loaded: LoadedConfig, key: str, what: Any, remedy: str) -> UserError:
    return UserError(f"{loaded.given.get(key, loaded.path)}: {key}: {what} does not exist; {remedy}.")
