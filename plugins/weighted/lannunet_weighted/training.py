"""The weight maps of a run's cases: read from files, or computed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lannunet_segmentation import WEIGHT_MAP, Case, SegmentationDataset

from lannunet_core import UserError, inside, write_text
from lannunet_weighted.cases import LabelFile
from lannunet_weighted.generate import Recipe, make_maps
from lannunet_weighted.maps import FORMULA, Mode


def find_maps(dataset: SegmentationDataset, folder: Path | None) -> dict[str, Path]:
    """The weight map of each training case, and of each test case that has one, by the case's id.

    Args:
        dataset: The data set.
        folder: Folder of the maps; None: the folder to which `lannunet weightmaps` writes them.

    Raises:
        UserError: A training case has no weight map.
    """
    preprocessed = dataset.layout == "preprocessed"
    beside = [dataset.path] if preprocessed else [dataset.path / f"weightmaps{part}" for part in ("Tr", "Ts")]
    folders = [folder] if folder is not None else beside
    endings = dict.fromkeys((".npy", ".npz", dataset.file_ending, ".nii.gz", ".nii", ".mha"))
    paths = {}
    for case in (*dataset.training, *dataset.testing):
        names = [f"{case.id}{WEIGHT_MAP}{ending}" for ending in endings]
        found = (below / name for below in folders for name in names if (below / name).is_file())
        if (path := next(found, None)) is not None:
            paths[case.id] = path
    without = [case.id for case in dataset.training if case.id not in paths]
    if without:
        more = f" ({len(without)} cases have none)" if len(without) > 1 else ""
        raise UserError(
            f"{folders[0]}: there is no weight map of case {without[0]}, {without[0]}{WEIGHT_MAP}.npy{more}. "
            f"Compute the maps (lannunet weightmaps {dataset.path}), give their folder "
            "(trainer.weighted.folder), or set trainer.weighted.generate: unet_border."
        )
    return paths


def generate_maps(
    dataset: SegmentationDataset, folder: Path, mode: Mode, w0: float, sigma: float
) -> dict[str, Path]:
    """The weight map of each case with a label, computed if it is missing or the label has changed.

    Args:
        dataset: The data set.
        folder: The folder in which a folder for these parameters is created.
        mode: The formula, see `maps`.
        w0: The weight of borders.
        sigma: The width of borders, in voxels.
    """
    recipe = Recipe(mode, w0, sigma, half=True)
    key = (str(dataset.path.resolve()), dataset.class_names, recipe, FORMULA)
    named = hashlib.sha256(repr(key).encode())
    name = re.sub(r"[^\w.-]+", "_", dataset.name)[:40]
    below = folder / f"{name}-weightmaps-{named.hexdigest()[:12]}"
    files = {case.id: _label_file(case, dataset, below) for case in (*dataset.training, *dataset.testing)}
    maps = {case: file for case, file in files.items() if file is not None}
    todo = {file.target: _state(file.path) for file in maps.values() if not _made_of_this(file)}

    def record(target: Path) -> None:  # immediately, so that maps of an interrupted run are kept
        write_text(_record(target), json.dumps([todo[target], _state(target)]))

    if todo:
        made = [file for file in maps.values() if file.target in todo]
        make_maps(made, recipe, _jobs(made), record)
    return {case: file.target for case, file in maps.items()}


def _label_file(case: Case, dataset: SegmentationDataset, below: Path) -> LabelFile | None:
    target = inside(below, f"{case.id}{WEIGHT_MAP}.npy", str(dataset.path))
    classes = tuple(range(1, len(dataset.class_names)))
    if dataset.layout == "preprocessed":
        return LabelFile(case.images[0], target, classes, None, dataset.ignore)
    if case.label is None:
        return None
    return LabelFile(case.label, target, classes, replace(dataset, training=(), testing=()))


def _made_of_this(file: LabelFile) -> bool:
    """Whether the label and the map are unchanged since the record beside the map was written."""
    try:
        found = json.loads(_record(file.target).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return file.target.exists() and bool(found == [_state(file.path), _state(file.target)])


def _record(target: Path) -> Path:
    return target.with_suffix(".json")


def _state(path: Path) -> list[int]:
    """The modification time of a file, in ns, and its size in bytes."""
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    return [stat.st_mtime_ns, stat.st_size]


def _jobs(files: Sequence[LabelFile]) -> int:
    """One process if starting more would take longer than the work; else 0, one per core."""
    return 1 if sum(file.path.stat().st_size for file in files) < 1 << 20 else 0
