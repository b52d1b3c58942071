"""Segmenting loose images with a trained model: what `lannunet predict` does for `task: segmentation`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lannunet_core.config.schema import SegmentationRunConfig
from lannunet_core.data.reader import SUFFIXES
from lannunet_core.errors import UserError
from lannunet_core.segmentation.folders import check_case, loose_cases
from lannunet_core.segmentation.types import SegmentationDataset, SegmentedCase
from lannunet_core.segmentation.work import segment, settings_of
from lannunet_core.training.output import claim, provenance, write_run
from lannunet_core.training.session import Session


def predict(session: Session, model: Path, images: Sequence[Path], folder: Path) -> list[SegmentedCase]:
    """Segment image files, and write a label file a case, in the image's own geometry.

    Args:
        session: With the trained model.
        model: Its file or folder, for the record.
        images: Image files, or folders of them; several channels are files that end in `_0000`, `_0001` ….
        folder: Gets the label files, named by case.
    """
    run, config = session.run, session.config
    assert isinstance(config, SegmentationRunConfig)
    ending = file_ending(images)
    cases = loose_cases(images, run.in_channels, ending, run.dimensions)
    dataset = SegmentationDataset(
        path=model,
        name=model.name,
        layout="raw2",
        dimensions=run.dimensions,
        channel_names=tuple(f"channel {index}" for index in range(run.in_channels)),
        class_names=run.outputs,
        ignore=None,
        file_ending=ending,
        training=(),
        testing=cases,
    )
    for case in cases:
        check_case(case, dataset)
    claim(folder)
    write_run(
        folder,
        session.loaded.resolved(),
        provenance(session.loaded, run, session.fabric.device, model=str(model)),
    )
    done = segment(session, cases, dataset, settings_of(config, dataset), folder, "given")
    print(f"{len(done)} label maps: {folder}", flush=True)
    return done


def file_ending(images: Sequence[Path]) -> str:
    """The suffix that all given files share; of a folder, that of its first image."""
    for path in images:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            if known := [suffix for suffix in SUFFIXES if file.name.lower().endswith(suffix)]:
                return file.name[-len(max(known, key=len)) :]
    raise UserError(f"{images[0]}: there is no image; known are {', '.join(SUFFIXES)}.")
