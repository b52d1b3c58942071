"""A case's files, one per channel, and their voxels.

Sizes are (x, y[, z]), arrays (C, [z,] y, x). A voxel without annotation is `IGNORE`, whatever its value in
the files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from lannunet_images import ImageFiles

from lannunet_core import UserError
from lannunet_segmentation.data import preprocessed
from lannunet_segmentation.data.headers import (
    case_geometry,
    check_case,
    check_channels,
    differ,
)
from lannunet_segmentation.data.label_files import as_labels, read_label
from lannunet_segmentation.types import Case, CaseImage, SegmentationDataset

CHANNEL = re.compile(r"(.+)_(\d{4})")


def read_case(case: Case, dataset: SegmentationDataset, with_label: bool = True) -> CaseImage:
    """Read a case's voxels.

    Args:
        case: A case of the data set.
        dataset: The data set, which defines how its files are read.
        with_label: Whether to read the label too, if there is one.
    """
    if dataset.layout == "preprocessed":
        return _read_preprocessed_case(case, dataset, with_label)
    channels = [dataset.files.read(path, dataset.dimensions).pixels for path in case.images]
    check_channels(case, sum(map(len, channels)), len(dataset.channel_names))
    shapes = {pixels.shape[1:] for pixels in channels}
    if len(shapes) > 1:
        check_case(case, dataset)
    pixels = np.concatenate([each.astype(np.float32, copy=False) for each in channels])
    label = None
    if with_label and case.label is not None:
        label, _ = read_label(case.label, dataset)
        if label.shape != pixels.shape[1:]:
            raise differ(case, case.label, "size", label.shape[::-1], pixels.shape[:0:-1])
    return CaseImage(pixels, label, case_geometry(case, dataset))


def complete(
    folder: Path, name: str, found: Mapping[int, Path], channels: int, ending: str
) -> tuple[Path, ...]:
    """The files of one case, one per channel or one for all (an RGB image)."""
    for channel in range(channels):
        if channel not in found and list(found) != [0]:
            raise UserError(
                f"{folder / name}_{channel:04d}{ending}: the channel is missing; the others are there."
            )
    beyond = max(found)
    if beyond >= channels:
        raise UserError(
            f"{found[beyond]}: is channel {beyond}, but there are {channels} (0 to {channels - 1}). If "
            "the number is not a channel, add _0000 to the names."
        )
    return tuple(found[channel] for channel in sorted(found))


def visible(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))


def file_ending(file: Path, readers: ImageFiles) -> str:
    """The suffix of an image file's name, as written; empty for a DICOM file without suffix."""
    known = [suffix for suffix in readers.suffixes if file.name.lower().endswith(suffix)]
    if known:
        return file.name[-len(max(known, key=len)) :]
    return "" if readers.knows(file) else file.suffix


def _read_preprocessed_case(case: Case, dataset: SegmentationDataset, with_label: bool) -> CaseImage:
    path = case.images[0]
    preprocessed.check(path, dataset)
    array = preprocessed.read_preprocessed(path)
    array = array.reshape(len(array), *array.shape[-dataset.dimensions :])
    label = as_labels(np.asarray(array[-1]), path, dataset) if with_label else None
    pixels = np.array(array[:-1], np.float32)
    return CaseImage(pixels, label, case_geometry(case, dataset))
