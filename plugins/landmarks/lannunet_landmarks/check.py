"""What `lannunet config check` looks at: the data set's own files, without an image."""

from __future__ import annotations

from typing import Any, cast

from lannunet_core import LoadedConfig, UserError
from lannunet_landmarks.data.annotations import load_dataset
from lannunet_landmarks.schema import RunConfig


def check(loaded: LoadedConfig) -> None:
    """Refuse what `lannunet train` would refuse before its first image.

    Raises:
        UserError: What is wrong.
    """
    config = cast(RunConfig, loaded.run)
    dataset, fold = config.dataset, config.trainer.fold
    targets = dataset.src_targets
    if targets.is_dir():
        folds = sorted(path.name for path in targets.glob("fold*.json"))
        if f"fold{fold}.json" not in folds:
            raise _missing(
                loaded, "trainer.fold", f"fold{fold}.json", f"{targets} has {', '.join(folds) or 'no fold'}"
            )
    elif not targets.is_file():
        raise _missing(loaded, "dataset.src_targets", targets, "give the JSON, or a folder of foldK.json")
    if not dataset.images_folder.is_dir():
        raise _missing(loaded, "dataset.root", dataset.images_folder, "give the folder of the images")
    checkpoint = config.model.checkpoint
    if checkpoint and not checkpoint.exists():
        raise _missing(loaded, "model.checkpoint", checkpoint, "give a model file or a run's folder")
    read = load_dataset(dataset, fold)
    config.sampler.check_dimensions(read.dimensions, str(read.path))
    if not read.samples[config.inference.split]:
        raise UserError(empty_split(read.path, config.inference.split))


def empty_split(path: Any, split: str) -> str:
    return (
        f'{path}: "{split}" is empty, so nothing can be evaluated; put samples there or set inference.split.'
    )


def _missing(loaded: LoadedConfig, key: str, what: Any, remedy: str) -> UserError:
    return UserError(f"{loaded.given.get(key, loaded.path)}: {key}: {what} does not exist; {remedy}.")
