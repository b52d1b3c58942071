"""The label maps of an nnU-Net folder, and the paths of their weight maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_segmentation import (
    IGNORE,
    WEIGHT_MAP,
    SegmentationDataset,
    find_stage,
    preprocessed_properties,
    preprocessed_shape,
    read_classes,
    read_dataset,
    read_json,
    read_label,
    read_preprocessed,
)
from numpy.typing import NDArray

from lannunet_core import UserError, image_header, inside, read_image


@dataclass(frozen=True)
class LabelFile:
    """A case's label map. Pickles.

    Attributes:
        path: A label file, or a preprocessed case with the segmentation as its last channel.
        target: Path of the weight map.
        classes: The label values of classes; empty if each value is an object.
        dataset: Dataset of a raw folder, without its cases; None: a preprocessed case.
        ignore: The value for "not annotated" in a preprocessed case, in addition to −1.
    """

    path: Path
    target: Path
    classes: tuple[int, ...]
    dataset: SegmentationDataset | None
    ignore: int | None = None

    def label(self) -> NDArray[np.integer[Any]]:
        """(*S), signed, `IGNORE` where there is no annotation.

        Raises:
            UserError: The file is damaged, or contains no labels.
        """
        if self.dataset is None:
            array = read_preprocessed(self.path)
            if array.ndim < 3 or len(array) < 2 or not array.size:
                raise UserError(
                    f"{self.path}: has the shape {array.shape}; a preprocessed case has its channels "
                    "first, and the segmentation as the last channel. Preprocess it again."
                )
            return _whole(array[-1], self.path, self.ignore)
        if self.classes:
            return read_label(self.path, self.dataset)[0]
        pixels = read_image(self.path, self.dataset.dimensions).pixels
        return _whole(pixels[0], self.path, self.dataset.ignore)

    def spacing(self) -> tuple[float, ...]:
        """mm per voxel (x, y[, z]).

        Raises:
            UserError: The file states no spacing.
        """
        if self.dataset is None:
            steps: tuple[float, ...] = preprocessed_properties(self.path)["spacing_after_resampling"]
            return steps[::-1][: len(preprocessed_shape(self.path)) - 1]
        spacing = image_header(self.path, self.dataset.dimensions).spacing
        if spacing is None:
            raise UserError(f"{self.path}: states no spacing. Remove --mm for distances in voxels.")
        return spacing


def find_cases(
    folder: Path,
    output: Path | None,
    pattern: str | None,
    classes: Sequence[int] | None,
    instances: bool = False,
) -> list[LabelFile]:
    """The label maps of the training cases.

    Args:
        folder: A raw folder; or a folder with preprocessed cases, or its parent.
        output: Folder for the weight maps; None: with preprocessed cases, in `weightmapsTr` of a raw folder.
        pattern: Pattern of the names of label files, or preprocessed cases; None: all.
        classes: The label values of classes; None: those of `dataset.json`.
        instances: Whether each label value is an object and not a class.

    Raises:
        UserError: There is no label map, or the classes are unknown.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder. Name an nnU-Net folder.")
    find = _raw if (folder / "imagesTr").is_dir() else _preprocessed
    files = find(folder, output, pattern, classes, instances)
    if not files:
        named = "" if pattern is None else f" with a name like {pattern}"
        raise UserError(f"{folder}: has no case{named}: neither imagesTr and labelsTr, nor *.npz or *.npy.")
    return files


def _raw(
    folder: Path, output: Path | None, pattern: str | None, classes: Sequence[int] | None, instances: bool
) -> list[LabelFile]:
    dataset = read_dataset(folder)
    known = tuple(range(1, len(dataset.class_names)))
    chosen = () if instances else _chosen(classes, known, folder / "dataset.json")
    output = output or folder / "weightmapsTr"
    bare = replace(dataset, training=(), testing=())
    return [
        LabelFile(case.label, inside(output, f"{case.id}{WEIGHT_MAP}.npy", str(folder)), chosen, bare)
        for case in dataset.training
        if case.label is not None and fnmatch(case.label.name, pattern or "*")
    ]


def _preprocessed(
    folder: Path, output: Path | None, pattern: str | None, classes: Sequence[int] | None, instances: bool
) -> list[LabelFile]:
    stage, arrays = _arrays(folder, pattern)
    if not arrays:
        return []
    output, known, ignore = output or stage, None, None
    path = next((d / "dataset.json" for d in (stage, stage.parent) if (d / "dataset.json").is_file()), None)
    if path is not None:
        names, ignore = read_classes(path, read_json(path))
        known = tuple(range(1, len(names)))
    elif classes is None and not instances:
        raise UserError(
            f"{stage.parent / 'dataset.json'}: is missing, so the classes are unknown. Copy it there, or "
            "give the classes: --classes 1,2"
        )
    chosen = () if instances else _chosen(classes, known, path)
    return [
        LabelFile(array, output / f"{array.stem}{WEIGHT_MAP}.npy", chosen, None, ignore) for array in arrays
    ]


def _arrays(folder: Path, pattern: str | None) -> tuple[Path, list[Path]]:
    """The preprocessed cases and their folder; if a case is packed and unpacked, the unpacked file."""
    for stage in (folder, find_stage(folder) or folder):
        patterns = ("*.npz", "*.npy") if pattern is None else (pattern,)
        found = {
            path.stem: path
            for each in patterns
            for path in sorted(stage.glob(each))
            if path.suffix in (".npz", ".npy")
            and not path.name.startswith(".")  # of a writer that was killed
            and not path.stem.endswith(WEIGHT_MAP)
        }
        if found:
            break
    return stage, [found[name] for name in sorted(found)]


def _chosen(
    wanted: Sequence[int] | None, known: tuple[int, ...] | None, path: Path | None
) -> tuple[int, ...]:
    """The requested classes, each once; checked against dataset.json if it exists."""
    if wanted is None:
        return known or ()
    if known is not None and (unknown := sorted(set(wanted) - set(known))):
        raise UserError(
            f"--classes: {unknown[0]} is not a class of {path}, which has {', '.join(map(str, known))}."
        )
    return tuple(sorted(set(wanted)))


def _whole(values: NDArray[Any], path: Path, ignore: int | None) -> NDArray[np.integer[Any]]:
    low, high = values.min(), values.max()
    if not IGNORE <= low <= high < 2**31:  # nor NaN
        raise UserError(f"{path}: its labels are {low:g} … {high:g}; they must be whole numbers from −1 up.")
    labels: NDArray[np.integer[Any]] = values.astype(np.int16 if high < 2**15 else np.int32)
    if not np.array_equal(labels, values):
        raise UserError(f"{path}: its labels are not whole numbers. Preprocess or copy it again.")
    if ignore is not None:
        labels[labels == ignore] = IGNORE
    return labels
