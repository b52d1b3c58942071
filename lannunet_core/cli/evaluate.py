"""`lannunet evaluate`: the figures of a predictions file against annotations."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lannunet_core.errors import UserError

if TYPE_CHECKING:
    from lannunet_core.data.annotations import LandmarkDataset, Split
    from lannunet_core.types import Prediction


class SplitName(str, Enum):
    training = "training"
    validation = "validation"
    testing = "testing"


def command(
    predictions: Annotated[Path, typer.Argument(help="A predictions.csv.")],
    annotations: Annotated[Path, typer.Argument(help="The JSON of annotations, or a folder of foldK.json.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for summary.json; made if need be.")
    ] = None,
    split: Annotated[SplitName, typer.Option(help="What the predictions are of.")] = SplitName.testing,
    root: Annotated[
        Path | None, typer.Option(help="Folder that image paths are relative to; the JSON's own by default.")
    ] = None,
    fold: Annotated[int, typer.Option(help="Which foldK.json of a folder; -1: a plain file.")] = 0,
    landmarks: Annotated[
        str | None, typer.Option(help="Indices of the annotated landmarks to evaluate, as in 0,3,4.")
    ] = None,
    radii: Annotated[
        str, typer.Option(help="Radii of the success detection rates, in mm, in px if no spacing.")
    ] = "2,2.5,3,4",
) -> None:
    """Evaluate a predictions file: radial errors and success detection rates."""
    chosen = None if landmarks is None else [_index(word) for word in landmarks.split(",")]
    wanted_radii = [_radius(word) for word in radii.split(",")]

    import json

    from lannunet_core.config.schema import DatasetConfig
    from lannunet_core.data.annotations import load_dataset
    from lannunet_core.evaluation.predictions import read_predictions
    from lannunet_core.evaluation.summary import print_summary, summarise
    from lannunet_core.files import write_text

    section: dict[str, object] = {"src_targets": annotations, "landmarks": chosen}
    if root is not None:
        section["root"] = root
    dataset = load_dataset(DatasetConfig.model_validate(section), fold)
    predicted, names = read_predictions(predictions)
    compared = join(predictions, predicted, names, dataset, split.value)
    summary = summarise(compared, dataset.landmark_names, wanted_radii)
    print_summary(summary, f"{dataset.name}, {split.value}")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "summary.json", json.dumps(summary, indent=1))


def join(
    path: Path, predicted: list[Prediction], names: list[str], dataset: LandmarkDataset, split: Split
) -> list[Prediction]:
    """The predictions of a split's samples, with their annotations.

    Args:
        path: Of the predictions, for messages.
        predicted: As read from there; may hold more landmarks than are evaluated.
        names: Of the landmarks in `predicted`.
        dataset: The annotations.
        split: Which samples.

    Raises:
        UserError: A sample or landmark is on one side only, or the two differ in dimensions.
    """
    from dataclasses import replace

    from lannunet_core.data.reader import image_header

    missing = [name for name in dataset.landmark_names if name not in names]
    if missing:
        raise UserError(
            f"{path}: there is no landmark '{missing[0]}'; it holds {', '.join(names)}. "
            "Choose what was predicted with --landmarks."
        )
    columns = [names.index(name) for name in dataset.landmark_names]
    by_id = {prediction.id: prediction for prediction in predicted}
    samples = dataset.samples[split]
    for unknown in by_id.keys() - {sample.id for sample in samples}:
        raise UserError(
            f"{path}: '{unknown}' is no sample of {split} in {dataset.path}. Choose with --split."
        )
    joined = []
    for sample in samples:
        prediction = by_id.get(sample.id)
        if prediction is None:
            raise UserError(f"{path}: sample '{sample.id}' of {split} in {dataset.path} was not predicted.")
        if prediction.coordinates.shape[-1] != dataset.dimensions:
            raise UserError(f"{path}: its points have not the {dataset.dimensions} axes of {dataset.path}.")
        joined.append(
            replace(
                prediction,
                image=sample.image,
                coordinates=prediction.coordinates[columns],
                confidence=prediction.confidence[columns],
                target=sample.coordinates,
                states=sample.states,
                spacing=sample.spacing or image_header(sample.image, dataset.dimensions).spacing,
                extra=sample.extra,
            )
        )
    return joined


def _index(word: str) -> int:
    if not word.strip().isdecimal():
        raise UserError(f"--landmarks: '{word}' is not an index. Give indices from 0 up, as in 0,3,4.")
    return int(word)


def _radius(word: str) -> float:
    try:
        radius = float(word)
    except ValueError:
        radius = -1.0
    if not 0 < radius < float("inf"):
        raise UserError(f"--radii: '{word}' is not a radius. Give positive numbers, as in 2,2.5,3,4.")
    return radius
