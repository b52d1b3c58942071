"""The same image on both sides of a split, under any names: it makes a model seem better than it is."""

from __future__ import annotations

import filecmp
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lannunet_images import slices_in

from lannunet_core import UserError, echo
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.splits import split
from lannunet_segmentation.types import Case, SegmentationDataset

FIRST_BYTES = 1 << 20  # compared before whole files


def twins(training: Sequence[Case], others: Sequence[Case]) -> list[tuple[Case, Case]]:
    """Cases whose first image is identical, byte for byte, to that of a training case: (training, other)."""
    sizes = {_file(case).stat().st_size for case in others}
    alike: dict[tuple[int, bytes], list[Case]] = defaultdict(list)
    for case in training:
        if _file(case).stat().st_size in sizes:
            alike[_beginning(_file(case))].append(case)
    found = []
    for other in others:
        for case in alike[_beginning(_file(other))] if alike else ():
            if filecmp.cmp(_file(case), _file(other), shallow=False):
                found.append((case, other))
                break
    return found


def seen_in_training(
    trained_on: Path,
    fold: int | Literal["all"],
    seed: int,
    cases: Sequence[Case],
    dataset: SegmentationDataset,
) -> int:
    """The number of cases whose image a model was trained on; 0 if its data set no longer exists.

    Args:
        trained_on: The root of the model's data set.
        fold: Its held-out fold.
        seed: Seed of the split into folds.
        cases: The evaluated cases.
        dataset: Their data set.
    """
    try:
        own = dataset if trained_on == dataset.path else read_dataset(trained_on, dataset.files)
        training, _ = split(own, fold, seed)
    except UserError:
        return 0
    return len(twins(training, cases))


def say_twins(training: Sequence[Case], others: Sequence[Case], split: str) -> None:
    """Warn if a training case's image is in another split, too."""
    if found := twins(training, others):
        first, other = found[0]
        more = f" So are {len(found) - 1} others." if len(found) > 1 else ""
        echo(
            f"warning: {other.images[0]} of {split} is the image {first.images[0]} of training.{more} "
            "The results on these do not apply to new images.",
            err=True,
        )


def _file(case: Case) -> Path:
    """The first image; for DICOM slices the first of these."""
    image = case.images[0]
    return image if image.is_file() else slices_in(image)[0]


def _beginning(path: Path) -> tuple[int, bytes]:
    """The size of a file, and a digest of its first bytes."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.sha256(file.read(FIRST_BYTES)).digest()
