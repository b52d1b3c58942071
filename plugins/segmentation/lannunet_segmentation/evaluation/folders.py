"""Two folders of label maps, of any format: the pairs of one case, the names of their classes, and the
positions of their voxels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lannunet_images import IMAGE_FILES

from lannunet_core import UserError, echo, terminal_text
from lannunet_segmentation.data.cases import file_ending, visible
from lannunet_segmentation.data.declaration import read_classes, read_json, read_regions
from lannunet_segmentation.data.folders import is_dataset, read_dataset
from lannunet_segmentation.data.headers import check_cases, dimensions_of
from lannunet_segmentation.data.label_files import read_label
from lannunet_segmentation.opened import last_stage
from lannunet_segmentation.predict.targets import PREDICTIONS
from lannunet_segmentation.regions import names_of_labels
from lannunet_segmentation.types import Case, Region, SegmentationDataset, SegmentedCase

HIGHEST = 32767  # largest label value
MOST_SHOWN = 5  # names in a message
BESIDE = (".npz", ".dcm")
"""Files of `lannunet predict` beside a label map: probabilities, and a DICOM segmentation."""


def pair_folders(
    predictions: Path, labels: Path, files: Any = IMAGE_FILES
) -> tuple[SegmentationDataset, list[SegmentedCase]]:
    """Pair the label maps of two folders, by their file names without suffixes.

    The names of classes are those of the `dataset.json` beside the labels or the predictions, or of the run
    that predicted them; else they are numbers. A report shows the images of the nnU-Net folder that contains
    the labels, else the labels themselves.

    Args:
        predictions: A folder of predicted label maps, or the folder of their run or prediction.
        labels: A folder of annotated label maps, or an nnU-Net folder, whose labels are used.
        files: Reader of the files.

    Raises:
        UserError: No name is in both; or label maps of one name differ in size, spacing or direction, or do
            not overlap.
    """
    last = last_stage(predictions)
    if (last / "config.yaml").is_file() and (last / PREDICTIONS).is_dir():
        predictions = last / PREDICTIONS
    predicted = label_maps(predictions, files)
    around = next((one for one in (labels, labels.parent) if is_dataset(one)), None)
    dataset = None if around is None else read_dataset(around, files)
    known: dict[str, Case] = {}
    if dataset is not None and dataset.layout != "preprocessed":
        known = {
            case.id: case
            for case in (*dataset.training, *dataset.testing)
            if case.label is not None
            and (around == labels or case.label.parent.resolve() == labels.resolve())
        }
    if dataset is None or not known:
        dataset = None
        known = {name: Case(name, (path,), path) for name, path in label_maps(labels, files).items()}
    both = [name for name in predicted if name in known]
    if not both:
        raise UserError(
            f"{predictions}: none of its {len(predicted)} label maps is called as one of {labels} "
            f"(such as {terminal_text(next(iter(predicted)))} and {terminal_text(next(iter(known)))})."
        )
    say_left_out(predictions, "no annotation", (name for name in predicted if name not in known))
    say_left_out(labels, "no prediction", (name for name in known if name not in predicted))
    if dataset is None:
        dataset = plain_dataset([known[name] for name in both], predictions, labels, predicted, files)
    compared = [Case(name, (label,), predicted[name]) for name in both if (label := known[name].label)]
    check_cases(compared, replace(dataset, channel_names=("label",)), "checking label maps")
    return dataset, [
        SegmentedCase(
            name,
            known[name].images,
            predicted[name],
            known[name].label,
            known[name].extra,
            annotated=known[name].annotated,
        )
        for name in both
    ]


def label_maps(folder: Path, files: Any = IMAGE_FILES) -> dict[str, Path]:
    """The image files of a folder, by their names without suffixes."""
    if not folder.is_dir():
        raise UserError(f"{folder}: is not a folder of label maps.")
    found: dict[str, Path] = {}
    named = {
        path: path.name.removesuffix(file_ending(path, files))
        for path in visible(folder)
        if files.knows(path)
    }
    maps = {name for path, name in named.items() if path.suffix not in BESIDE}
    for path, name in named.items():
        if path.suffix in BESIDE and name in maps:
            continue
        if name in found:
            raise UserError(f"{path}: has the same name as {found[name].name}. Keep one of them.")
        found[name] = path
    if not found:
        raise UserError(
            f"{folder}: holds no label map; known are files in {', '.join(files.suffixes)}, and DICOM."
        )
    return found


def say_left_out(folder: Path, why: str, names: Iterable[str]) -> None:
    left = [terminal_text(name) for name in names]
    if left:
        more = f" and {len(left) - MOST_SHOWN} more" if len(left) > MOST_SHOWN else ""
        echo(
            f"warning: {folder}: left out, as there is {why}: {', '.join(left[:MOST_SHOWN])}{more}",
            err=True,
        )


def plain_dataset(
    cases: list[Case], predictions: Path, labels: Path, predicted: Mapping[str, Path], files: Any
) -> SegmentationDataset:
    """A data set for label maps without one."""
    dataset = SegmentationDataset(
        path=labels,
        name=labels.resolve().name,
        layout="raw2",
        dimensions=dimensions_of(cases, 1, files),
        channel_names=("label",),
        class_names=tuple(map(str, range(HIGHEST))),
        ignore=None,
        file_ending="",
        training=(),
        testing=tuple(cases),
        files=files,
    )
    for folder in (labels, labels.parent, predictions):
        path = folder / "dataset.json"
        if path.is_file() and isinstance(declared := read_json(path), dict) and "labels" in declared:
            names, ignore = read_classes(path, declared)
            regions = read_regions(path, declared)
            return replace(dataset, class_names=names, ignore=ignore, regions=regions)
    for folder in (predictions, predictions.parent):
        path = folder / "run.json"
        told = read_json(path) if path.is_file() else None
        made = told.get("run") if isinstance(told, dict) else None
        outputs = made.get("outputs") if isinstance(made, dict) else None
        if isinstance(made, dict) and (regions := recorded_regions(outputs, made.get("regions"))):
            return replace(dataset, class_names=names_of_labels(regions), regions=regions)
        if isinstance(outputs, list) and len(outputs) > 1:
            return replace(dataset, class_names=tuple(terminal_text(str(name)) for name in outputs))
    highest = 1
    for case in cases:
        for path in (case.images[0], predicted[case.id]):
            highest = max(highest, int(read_label(path, dataset)[0].max(initial=0)))
    return replace(dataset, class_names=("background", *map(str, range(1, highest + 1))))


def recorded_regions(names: Any, labels: Any) -> tuple[Region, ...]:
    """The regions in a run.json; empty if there are none, or in another form."""
    try:
        found = [
            Region(terminal_text(str(name)), tuple(map(int, values)))
            for name, values in zip(names, labels, strict=True)
        ]
    except (TypeError, ValueError):
        return ()
    return tuple(found) if all(region.labels and min(region.labels) > 0 for region in found) else ()
