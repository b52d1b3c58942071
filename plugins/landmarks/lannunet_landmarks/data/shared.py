"""Samples that the lists of a run, or of an earlier run, have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from lannunet_core import State
from lannunet_landmarks.data.annotations import SPLITS, LandmarkDataset, Split
from lannunet_landmarks.data.groups import contents
from lannunet_landmarks.types import Sample

MOST_NAMED = 3
USE = {"training": "which the model is trained on", "validation": "on which the best epoch is chosen"}


def shared_samples(dataset: LandmarkDataset, splits: Iterable[Split]) -> list[str]:
    """Messages about images and patients that are in two lists, one for each two lists and kind."""
    used = set(splits)
    lists = {split: dataset.samples[split] for split in SPLITS if split in used}
    known = contents(one.image for samples in lists.values() for one in samples)
    lines = []
    for first, second in combinations(lists, 2):
        by_image = {known[one.image]: one.id for one in lists[first]}
        twice = {one.id: by_image[known[one.image]] for one in lists[second] if known[one.image] in by_image}
        result = f"{USE[first]}: the errors are smaller than those on new images."
        if twice:
            example = " and ".join(dict.fromkeys(f'"{name}"' for name in next(iter(twice.items()))))
            lines.append(
                f"{dataset.path}: {len(twice)} of the {len(lists[second])} {second} images ({example}) are "
                f"{first} images too, {result}"
            )
        patients = {dataset.groups.get(one.id) for one in lists[first]} - {None}
        others = {dataset.groups.get(one.id) for one in lists[second] if one.id not in twice} - {None}
        if common := sorted(filter(None, patients & others)):
            lines.append(
                f'{dataset.path}: {len(common)} of the {len(others)} patients of {second} ("{common[0]}") '
                f"have images in {first} too, {result} lannunet folds --group keeps patients together."
            )
    return lines


def unlabelled(dataset: LandmarkDataset) -> list[str]:
    """Messages about samples without an annotated landmark, and landmarks that no training sample shows."""
    lines = []
    uses: dict[Split, str] = {"training": "nothing is learned from", "validation": "no epoch is chosen by"}
    for split, use in uses.items():
        samples = dataset.samples[split]
        idle = [one.id for one in samples if (one.states == State.UNLABELLED).all()]
        if idle:
            named = ", ".join([*idle[:MOST_NAMED], *(["…"] * (len(idle) > MOST_NAMED))])
            lines.append(
                f"{dataset.path}: {len(idle)} of the {len(samples)} {split} samples have no annotated "
                f"landmark ({named}), so {use} them."
            )
    return lines + _unlabelled_landmarks(dataset)


def _unlabelled_landmarks(dataset: LandmarkDataset) -> list[str]:
    shown = np.any([one.states == State.VISIBLE for one in dataset.samples["training"]], axis=0)
    names = [name for name, known in zip(dataset.landmark_names, shown, strict=True) if not known]
    if not names:
        return []
    return [
        f"{dataset.path}: no training sample shows landmark {', '.join(names)}, so the model's predictions "
        "of it are meaningless; leave it out (dataset.landmarks)."
    ]


def fingerprint(samples: Sequence[Sample]) -> str:
    """A key that is equal for lists of samples with the same training result, wherever their images are."""
    told = [
        [
            one.id,
            one.image.name,
            one.coordinates.tolist(),
            one.states.tolist(),
            one.spacing,
            one.extra,
        ]
        for one in samples
    ]
    return hashlib.sha256(json.dumps(told, default=str, sort_keys=True).encode()).hexdigest()
