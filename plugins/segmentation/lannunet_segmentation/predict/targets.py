"""The output files of label maps, checked before the work, so that none turns out impossible at its end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lannunet_core import UserError, earlier_results, echo, inside
from lannunet_segmentation.data.cases import file_ending
from lannunet_segmentation.data.label_files import label_ending
from lannunet_segmentation.types import Case, SegmentationDataset

PREDICTIONS = "predictions"
"""The folder of label maps in a run's folder."""


def label_paths(cases: Sequence[Case], dataset: SegmentationDataset, folder: Path) -> list[Path]:
    """The label file of each case in a folder.

    Raises:
        UserError: A case's name is not a valid file name.
    """
    return [inside(folder, f"{case.id}{label_ending(case, dataset)}", str(case.images[0])) for case in cases]


def check_targets(
    cases: Sequence[Case],
    dataset: SegmentationDataset,
    folder: Path,
    claimed: Path,
    key: str,
    inputs: Sequence[Case],
    further: Sequence[Path] = (),
) -> None:
    """Raise a UserError for files that would be overwritten; report label maps with another format than their
    image.

    Args:
        cases: Cases to be segmented.
        dataset: Data set of the cases.
        folder: Folder for their label files.
        claimed: The run's folder, whose record lists our files; it is `folder` or a parent of it.
        key: Setting that names that folder, for messages.
        inputs: Cases whose files will be read.
        further: Other files that will be written there.

    Raises:
        UserError: An existing file is not ours; an input is a file of an earlier run there.
    """
    targets = label_paths(cases, dataset, folder)
    ours = {path.resolve() for path in earlier_results(claimed)}
    images = [part for case in inputs for path in case.images for part in dataset.files.parts(path)]
    read = {*images, *(case.label for case in inputs if case.label is not None)}
    for path in sorted(read) if ours else ():
        if path.resolve() in ours:
            raise UserError(
                f"{key}: {path} is to be read, but is a result of an earlier run there; name another folder."
            )
    for target in (*targets, *further):
        if os.path.lexists(target) and target.resolve() not in ours:
            raise UserError(
                f"{key}: lannunet did not write {target}, and a result would go there; move it away, or "
                "name another folder."
            )
    if dataset.layout == "preprocessed":
        return
    endings = {(file_ending(case.images[0], dataset.files), label_ending(case, dataset)) for case in cases}
    for stored, written in sorted(endings):
        if stored != written:
            echo(f"label maps of {stored or 'DICOM'} images are written as {written}")
