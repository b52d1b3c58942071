"""From one JSON of annotations to foldK.json files for a cross-validation."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lannunet_core import UserError, write_text
from lannunet_landmarks.data.annotations import SPLITS, Split, load_dataset
from lannunet_landmarks.schema import DatasetConfig

VALIDATION_SHARE = 0.1  # of what is not tested


def write_folds(
    annotations: Path,
    folder: Path,
    count: int | None,
    *,
    root: Path | None = None,
    keep_testing: bool = False,
    seed: int = 0,
) -> int:
    """Deal the annotated samples out, so that each is tested in exactly one fold.

    Samples of one image stay together: what a fold tests, it has not trained on. Of the others a tenth, at
    least one and drawn anew for each fold, chooses the best epoch (`validation`); the rest trains. Samples
    without annotation are left out.

    Args:
        annotations: A plain JSON; all its lists together are dealt out.
        folder: Where foldK.json go; made if need be. Paths of images are written relative to it.
        count: How many folds; None: as many as images, so that each leaves one out.
        root: What image paths in `annotations` are relative to; None: its own folder.
        keep_testing: Leave the list `testing` out: it is for later.
        seed: Of the draws.

    Returns:
        The number of folds.
    """
    if annotations.is_dir():
        raise UserError(
            f"{annotations}: is a folder. Give the JSON of landmarks' annotations; data of other tasks need "
            "no folds made for them: trainer.fold chooses one."
        )
    if not annotations.is_file():
        raise UserError(f"{annotations}: there is no such file. Give the JSON of annotations.")
    section: dict[str, Any] = {"src_targets": annotations} | ({} if root is None else {"root": root})
    load_dataset(DatasetConfig.model_validate(section), -1)  # refuses what is wrong with it
    content = json.loads(annotations.read_text(encoding="utf-8-sig"))
    splits = [split for split in SPLITS if not (keep_testing and split == "testing")]
    base = root or annotations.parent
    images: dict[Path, list[Any]] = {}  # the samples of each
    for entry in (entry for split in splits for entry in content[split]):
        if entry.get("coordinates") is not None and entry.get("has_annotation") is not False:
            images.setdefault((base / entry["image"]).resolve(), []).append(_moved(entry, base, folder))
    count = len(images) if count is None else count
    if not 2 <= count <= len(images) or len(images) < 3:
        raise UserError(
            f"--count: {len(images)} annotated images of {annotations} cannot be dealt out to {count} "
            f"folds; give 2 to {len(images)} of at least 3."
        )
    if folder.is_dir() and (there := sorted(folder.glob("fold*.json"))):
        raise UserError(
            f"--out: {folder} already holds folds ({there[0].name}). Remove them, or name another."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for fold, split_samples in enumerate(_deal([*images.values()], count, seed)):
        write_text(
            folder / f"fold{fold}.json",
            json.dumps({**content, "fold": fold, **split_samples}, indent=1, ensure_ascii=False),
        )
    return count


def _deal(images: Sequence[list[Any]], count: int, seed: int) -> list[dict[Split, list[Any]]]:
    rng = np.random.default_rng(seed)
    one_each = count == len(images)
    order = np.arange(count) if one_each else rng.permutation(len(images))
    folds: list[dict[Split, list[Any]]] = []
    for tested in np.array_split(order, count):
        others = rng.permutation(np.setdiff1d(order, tested))
        cut = max(1, round(VALIDATION_SHARE * len(others)))
        parts = {"training": others[cut:], "validation": others[:cut], "testing": tested}
        folds.append({split: [one for i in np.sort(parts[split]) for one in images[i]] for split in SPLITS})
    return folds


def _moved(entry: Mapping[str, Any], root: Path, folder: Path) -> dict[str, Any]:
    """A sample whose image is named relative to `folder`."""
    image = Path(entry["image"])
    if image.is_absolute():
        return dict(entry)
    return {**entry, "image": Path(os.path.relpath(root / image, folder)).as_posix()}
