"""The data that export writes in other formats: annotations of a data set, or predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from lannunet_images import IMAGE_FILES, ImageFiles

from lannunet_core import Floats, State, UserError, write_text
from lannunet_landmarks.data.annotations import LandmarkDataset, dataset_section, load_dataset
from lannunet_landmarks.data.exchange import OURS, as_content, is_ours, relative
from lannunet_landmarks.data.formats import Annotated, Annotations, LandmarkFormat, Mark
from lannunet_landmarks.data.world import System, dimensions_of, to_pixels, to_world
from lannunet_landmarks.types import SPLITS, Prediction, Sample


def of_dataset(dataset: LandmarkDataset) -> Annotations:
    """The annotations of an open data set, in pixels."""
    images = tuple(
        Annotated(
            image=one.image,
            marks=_marks(one, dataset.landmark_names),
            id=one.id,
            split=split,
            spacing=one.spacing,
            extra=one.extra,
            source=one.source,
        )
        for split in SPLITS
        for one in dataset.samples[split]
    )
    return Annotations(dataset.landmark_names, images, name=dataset.name)


def _marks(sample: Sample, names: Sequence[str]) -> dict[str, Mark]:
    hidden = np.zeros(len(names), dtype=bool) if sample.occluded is None else sample.occluded
    return {
        name: Mark(tuple(point.tolist()), bool(occluded)) if state == State.VISIBLE else Mark(None)
        for name, point, state, occluded in zip(names, sample.coordinates, sample.states, hidden, strict=True)
        if state != State.UNLABELLED
    }


def of_predictions(
    predictions: Sequence[Prediction], names: Sequence[str], images: Mapping[str, Path]
) -> Annotations:
    """Predictions in pixels, with images by id; a landmark without a point is absent."""

    def marks(one: Prediction) -> dict[str, Mark]:
        pairs = zip(names, one.coordinates.tolist(), one.confidence.tolist(), strict=True)
        return {
            name: Mark(None) if np.isnan(point).any() else Mark(tuple(point), confidence=sure)
            for name, point, sure in pairs
        }

    every = tuple(Annotated(images[one.id], marks(one), id=one.id) for one in predictions)
    return Annotations(tuple(names), every, name="predictions")


def in_system(found: Annotations, system: System, files: ImageFiles = IMAGE_FILES) -> Annotations:
    """The annotations, with all points in pixels, or in mm of a world.

    Raises:
        UserError: An image has no geometry.
    """
    if found.system == system:
        return found

    def moved(one: Annotated) -> Annotated:
        placed = {name: mark.at for name, mark in one.marks.items() if mark.at is not None}
        if not placed:
            return one
        where = one.source or f'sample "{one.id or one.image.name}"'
        points: Floats = np.array(list(placed.values()), float)
        if found.system != "pixel":
            dimensions = dimensions_of(one.image, files, where)
            points = to_pixels(points, found.system, one.image, dimensions, files, where)
        points = to_world(points, system, one.image, files, where)
        marks = {
            name: replace(one.marks[name], at=tuple(point))
            for name, point in zip(placed, points.tolist(), strict=True)
        }
        return replace(one, marks={**one.marks, **marks})

    return replace(found, system=system, images=tuple(map(moved, found.images)))


def check_dimensions(found: Annotations, of: LandmarkFormat) -> None:
    """Refuse points that a format cannot hold."""
    for one in found.images:
        for name, mark in one.marks.items():
            if mark.at is not None and found.system == "pixel" and len(mark.at) not in of.dimensions:
                raise UserError(
                    f'sample "{one.id}": landmark {name} has {len(mark.at)} numbers, but {of.title} holds '
                    f"points of {' or '.join(map(str, of.dimensions))}. Choose another --format."
                )


def write_json(annotations: Annotations, out: Path) -> None:
    """Write our own JSON; images that belong to no list are put into the testing list."""
    images = tuple(replace(one, split=one.split or "testing") for one in annotations.images)
    content = as_content(replace(annotations, images=images), out)
    text = json.dumps(relative(content.json, out.parent), indent=1, ensure_ascii=False)
    write_text(out, text.encode("utf-8", "backslashreplace").decode())


def read_json_format(path: Path, images: Path | None = None) -> Annotations:
    """Read our own JSON; samples keep the order of the lists."""
    return of_dataset(load_dataset(dataset_section(path, images), -1))


LANNUNET = LandmarkFormat(
    OURS,
    "LaNNU-Net's JSON",
    is_ours,
    read_json_format,
    write_json,
    systems=("pixel", "LPS", "RAS"),
    holds=frozenset({"absent", "occluded", "splits", "spacing", "fields", "unannotated"}),
    file="annotations.json",
)
