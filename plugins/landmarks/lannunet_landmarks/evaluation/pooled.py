"""The predictions of several runs joined: out-of-fold predictions cover the whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lannunet_core import UserError, read_yaml, terminal_text
from lannunet_landmarks.data.annotations import LandmarkDataset, Split, check_inside, load_dataset
from lannunet_landmarks.data.world import world_of
from lannunet_landmarks.evaluation.matching import match
from lannunet_landmarks.evaluation.predictions import read_predictions
from lannunet_landmarks.schema import DatasetConfig
from lannunet_landmarks.types import Prediction


class _Task(BaseModel):
    task: str


class _Trainer(BaseModel):
    fold: int


class _Inference(BaseModel):
    evaluation_mode: str
    split: Split


class _Config(BaseModel):
    """The keys of a run's configuration that are used here."""

    dataset: DatasetConfig
    trainer: _Trainer
    inference: _Inference
    refine: dict[str, Any] | None = None


def pool(runs: Sequence[Path]) -> tuple[list[Prediction], LandmarkDataset]:
    """The predictions of runs with the same landmarks, with the annotations; each image occurs once.

    Args:
        runs: Folders of the runs; for a run in two stages, the second stage is used.

    Returns:
        All predictions, and the first run's data set.

    Raises:
        UserError: An image is in two runs, or their landmarks differ.
    """
    pooled: list[Prediction] = []
    seen: dict[str | Path, Path] = {}
    first: LandmarkDataset | None = None
    for number, run in enumerate(runs):
        if run.resolve() in [one.resolve() for one in runs[:number]]:
            raise UserError(f"--runs: {run} is given twice. Give each once.")
        dataset, predictions = read_run(run)
        first = first or dataset
        if dataset.landmark_names != first.landmark_names or dataset.dimensions != first.dimensions:
            raise UserError(
                f"{run}: its landmarks ({', '.join(dataset.landmark_names)}) are not those of {runs[0]} "
                f"({', '.join(first.landmark_names)}). Pool runs of the same landmarks."
            )
        for prediction in predictions:
            for key in (prediction.id, prediction.image.resolve()):
                if key in seen:
                    raise UserError(
                        f"'{key}' was predicted by {seen[key]} and by {run}. Pool runs that evaluate "
                        "different images, as the folds of lannunet folds do (inference.split: testing)."
                    )
        for prediction in predictions:
            seen |= {prediction.id: run, prediction.image.resolve(): run}
        pooled += predictions
    if first is None:
        raise UserError("--runs: give the folders of one run or more.")
    return pooled, first


def read_run(run: Path) -> tuple[LandmarkDataset, list[Prediction]]:
    """The data set of a run, and its predictions of the evaluated split."""
    config = _read_config(run)
    if config.inference.evaluation_mode == "use_input_size":
        raise UserError(
            f"{run}: its points are pixels of the network's input, not of the images; set "
            "inference.evaluation_mode to another mode than use_input_size."
        )
    dataset = load_dataset(config.dataset, config.trainer.fold)
    path = run / "refine" / "predictions.csv" if config.refine is not None else run / "predictions.csv"
    predicted, names = read_predictions(path)
    return dataset, join(path, predicted, names, dataset, config.inference.split)


def _read_config(run: Path) -> _Config:
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(f"{run}: is not the folder of a run (it has no config.yaml).")
    read_yaml(path)  # raises an error if the file is not a configuration
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        if _Task.model_validate(content).task != "landmarks":
            raise UserError(f"{run}: segments; only runs that find landmarks can be pooled.")
        return _Config.model_validate(content)
    except (ValidationError, yaml.YAMLError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "unreadable"}
        place = terminal_text(".".join(map(str, first["loc"])))
        raise UserError(
            f"{path}: was not written by a run of this version ({place:.80}: {first['msg']}). Name another."
        ) from None


def join(
    path: Path, predicted: list[Prediction], names: list[str], dataset: LandmarkDataset, split: Split
) -> list[Prediction]:
    """The predictions of a split's samples, with their annotations.

    Args:
        path: Path of the predictions, for messages.
        predicted: Predictions of the file; may have more landmarks than are evaluated.
        names: Names of the landmarks in `predicted`.
        dataset: The annotations.
        split: Split of the samples.

    Raises:
        UserError: A sample or landmark is on one side only, or the numbers of dimensions differ.
    """
    missing = [name for name in dataset.landmark_names if name not in names]
    if missing:
        raise UserError(
            f"{path}: there is no landmark '{missing[0]}'; it holds {', '.join(names)}. "
            "Choose what was predicted with --landmarks."
        )
    columns = [names.index(name) for name in dataset.landmark_names]
    samples = dataset.samples[split]
    by_id = match(path, predicted, samples, f"{split} in {dataset.path}")
    joined = []
    for sample in samples:
        prediction = by_id.get(sample.id)
        if prediction is None:
            raise UserError(f"{path}: sample '{sample.id}' of {split} in {dataset.path} was not predicted.")
        if prediction.coordinates.shape[-1] != dataset.dimensions:
            raise UserError(
                f"{path}: its points do not have the {dataset.dimensions} axes of {dataset.path}."
            )
        spacing, world = sample.spacing, None
        if spacing is None:
            header = dataset.files.header(sample.image, dataset.dimensions)
            check_inside(sample, header.size)
            spacing, world = header.spacing, world_of(header)
        joined.append(
            replace(
                prediction,
                id=sample.id,
                image=sample.image,
                coordinates=prediction.coordinates[columns],
                confidence=prediction.confidence[columns],
                uncertainty=None if prediction.uncertainty is None else prediction.uncertainty[columns],
                present=None if prediction.present is None else prediction.present[columns],
                target=sample.coordinates,
                states=sample.states,
                spacing=spacing,
                extra=sample.extra,
                world=world,
                occluded=sample.occluded,
            )
        )
    return joined
