"""Training and validation cases in each fold of a cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from lannunet_core import UserError, terminal_text
from lannunet_segmentation.data.declaration import read_json
from lannunet_segmentation.data.places import preprocessed_beside
from lannunet_segmentation.data.plain_pickle import read_pickle
from lannunet_segmentation.types import Case, SegmentationDataset

FOLDS = 5


def split(
    dataset: SegmentationDataset, fold: int | Literal["all"], seed: int
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """The training and the validation cases of one fold.

    They are read from `splits_final.json` or `.pkl` in the folder; for a preprocessed folder also beside it,
    for a raw one also in the folder of its name in `nnUNet_preprocessed`. Without one the cases are shuffled
    by the seed and split into five folds.

    Args:
        dataset: The data set.
        fold: Number from 0; `all` trains on every case and validates on none.
        seed: Seed of the shuffle.
    """
    if fold == "all":
        return dataset.training, ()
    path = _splits_file(dataset)
    if path is not None:
        return _listed_split(path, dataset, fold)
    cases = dataset.training
    folds = min(FOLDS, len(cases))
    if len(cases) < 2:
        raise UserError(f"{dataset.path}: {len(cases)} training case cannot be split. Set trainer.fold: all.")
    if not 0 <= fold < folds:
        raise UserError(f"trainer.fold: {fold} is not one of the {folds} folds (0 to {folds - 1}), nor all.")
    order = np.random.default_rng(seed).permutation(len(cases))
    held_out = set(order[fold::folds].tolist())
    training = tuple(case for index, case in enumerate(cases) if index not in held_out)
    return training, tuple(cases[index] for index in sorted(held_out))


def _splits_file(dataset: SegmentationDataset) -> Path | None:
    folders = [dataset.path] + [dataset.path.parent] * (dataset.layout == "preprocessed")
    if dataset.layout != "preprocessed" and (beside := preprocessed_beside(dataset.path)):
        folders.append(beside)
    candidates = [folder / f"splits_final{suffix}" for folder in folders for suffix in (".json", ".pkl")]
    return next((path for path in candidates if path.is_file()), None)


def _listed_split(
    path: Path, dataset: SegmentationDataset, fold: int
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    splits = read_json(path) if path.suffix == ".json" else read_pickle(path)
    if not isinstance(splits, list) or not all(
        isinstance(s, dict) and {"train", "val"} <= set(s) for s in splits
    ):
        raise UserError(f'{path}: must be a list with "train" and "val" for each fold.')
    if not 0 <= fold < len(splits):
        raise UserError(f"trainer.fold: {fold} is not one of the {len(splits)} folds of {path}, nor all.")
    cases = {case.id: case for case in dataset.training}
    names = {}
    for part in ("train", "val"):
        if not isinstance(splits[fold][part], (list, tuple, np.ndarray)):
            raise UserError(f'{path}: "{part}" of fold {fold} must be a list of cases.')
        names[part] = [str(name) for name in splits[fold][part]]
    for name in [*names["train"], *names["val"]]:
        if name not in cases:
            raise UserError(
                f'{path}: fold {fold} lists the case "{terminal_text(name[:80])}", which {dataset.path} does '
                "not have."
            )
    both = sorted(set(names["train"]) & set(names["val"]))
    if both:
        raise UserError(f'{path}: fold {fold} has "{terminal_text(both[0])}" in "train" and in "val".')
    if not names["train"]:
        raise UserError(f"{path}: fold {fold} trains on no case.")
    return tuple(cases[n] for n in names["train"]), tuple(cases[n] for n in names["val"])
