"""Small nnU-Net folders, and cases prepared from them as in a run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lannunet_core import ExtraMap
from lannunet_segmentation.conformance.batches import class_names
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.label_files import write_label
from lannunet_segmentation.data.prepared import PreparedCase
from lannunet_segmentation.data.preprocess import prepare_cases
from lannunet_segmentation.types import Geometry, Labels, SegmentationDataset, Settings

ENDING = ".nii.gz"


def drawn_label(size: Sequence[int], classes: int = 3) -> Labels:
    """A label (*S) of an image of `size` (x, y[, z]): stripes of each class except the background, along
    x."""
    label = np.zeros(tuple(size)[::-1], np.int16)
    for value in range(1, classes):
        middle = size[0] * value // classes
        label[..., middle : middle + max(size[0] // 8, 1)] = value
    return label


def write_folder(folder: Path, labels: Mapping[str, Labels], classes: int = 3) -> None:
    """Write a raw folder of version 2 with these training cases."""
    import SimpleITK as sitk

    rng = np.random.default_rng(0)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for name, label in labels.items():
        dimensions = label.ndim
        geometry = Geometry(
            size=label.shape[::-1],
            spacing=(1.0,) * dimensions,
            origin=(0.0,) * dimensions,
            direction=tuple(np.eye(dimensions).ravel().tolist()),
            axes=dimensions,
        )
        image = sitk.GetImageFromArray((label + 0.1 * rng.normal(size=label.shape)).astype(np.float32))
        sitk.WriteImage(image, str(folder / "imagesTr" / f"{name}_0000{ENDING}"))
        write_label(folder / "labelsTr" / f"{name}{ENDING}", label, geometry)
    described = {
        "name": "Conformance",
        "channel_names": {"0": "MRI"},
        "labels": {name: value for value, name in enumerate(class_names(classes - 1))},
        "numTraining": len(labels),
        "file_ending": ENDING,
    }
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")


def prepared(
    dataset: SegmentationDataset, folder: Path, extra_maps: Sequence[ExtraMap] = ()
) -> dict[str, PreparedCase]:
    """All training cases by their names, prepared silently."""
    settings = Settings(spacing=None, normalisation=("zscore",), clip=(None,))
    with redirect_stdout(io.StringIO()):
        cases = prepare_cases(dataset.training, dataset, settings, folder, extra_maps, jobs=1)
    return {case.id: case for case in cases}


@contextmanager
def prepared_cases(labels: Mapping[str, Labels]) -> Iterator[dict[str, PreparedCase]]:
    """Cases with these labels, while their folder exists."""
    with TemporaryDirectory(prefix="lannunet-") as temporary:
        folder = Path(temporary) / "Dataset001_Conformance"
        write_folder(folder, labels)
        yield prepared(read_dataset(folder), Path(temporary) / "preprocessed")
