"""What `lannunet config check` looks at: the data set's own files, without an image."""

from __future__ import annotations

from typing import Any, cast

from lannunet_core import AUTO, LoadedConfig, UserError
from lannunet_landmarks.data.annotations import open_dataset
from lannunet_landmarks.schema import RunConfig


def check(loaded: LoadedConfig) -> None:
    """Refuse what `lannunet train` would refuse before its first image.

    Raises:
        UserError: What is wrong.
    """
    config = cast(RunConfig, loaded.run)
    if config.dataset.format == AUTO:
        check_files(loaded, config)
    checkpoint = config.model.checkpoint
    if checkpoint and not checkpoint.exists():
        raise _missing(loaded, "model.checkpoint", checkpoint, "give a model file or a run's folder")
    read = open_dataset(loaded)
    config.sampler.check_dimensions(read.dimensions, str(read.path))
    if not read.samples[config.inference.split]:
        raise UserError(empty_split(read.path, config.inference.split))


def check_files(loaded: LoadedConfig, config: RunConfig) -> None:
    """Refuse annotations and folders that do not exist."""
    targets, fold = config.dataset.src_targets, config.trainer.fold
    if targets.is_dir():
        folds = sorted(path.name for path in targets.glob("fold*.json"))
        if f"fold{fold}.json" not in folds:
            raise _missing(
                loaded, "trainer.fold", f"fold{fold}.json", f"{targets} has {', '.join(folds) or 'no fold'}"
            )
    elif not targets.is_file():
        raise _missing(loaded, "dataset.src_targets", targets, "give the JSON, or a folder of foldK.json")
    folder = config.dataset.images_folder
    if not folder.is_dir():
        raise _missing(loaded, "dataset.root", folder, "give the folder of the images")


def empty_split(path: Any, split: str) -> str:
    return (
        f'{path}: "{split}" is empty, so nothing can be evaluated; put samples there or set inference.split.'
    )


def _missing(loaded: LoadedConfig, key: str, what: Any, remedy: str) -> UserError:
    return UserError(f"{loaded.given.get(key, loaded.path)}: {key}: {what} does not exist; {remedy}.")
