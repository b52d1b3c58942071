"""Segmenting loose images with a trained model: what `lannunet predict` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lannunet_core import (
    IMAGE_FILES,
    ImageFiles,
    PredictRequest,
    UserError,
    claim_folder,
    open_model,
    provenance,
    refuse_folder,
    refuse_to_empty,
    write_run,
)
from lannunet_segmentation.data.cases import loose_cases
from lannunet_segmentation.data.headers import check_case
from lannunet_segmentation.data.settings import settings_of, with_plugins
from lannunet_segmentation.predict.predictor import segment
from lannunet_segmentation.session import start_session
from lannunet_segmentation.types import SegmentationDataset, SegmentedCase


def predict(request: PredictRequest) -> list[SegmentedCase]:
    """Segment image files, and write a label file a case, in the image's own geometry.

    Several channels of a case are files that end in `_0000`, `_0001` ….
    """
    request.refuse("segmentation", "also", "spacing", "calibration", "coverage")
    model, images, folder = request.model, request.images, request.folder
    refuse_folder(folder, "--out", None if request.overwrite else "replace it (--overwrite)")
    refuse_to_empty(folder, "--out", [model])
    session = open_model(model, start_session, plugins=request.plugins)
    run, config = session.run, session.config
    if request.tta is not None:
        config = config.model_copy(
            update={"inference": config.inference.model_copy(update={"tta": request.tta})}
        )
        session.loaded = replace(session.loaded, run=config)
    files = session.files
    ending = file_ending(images, files)
    cases = loose_cases(images, run.in_channels, ending, run.dimensions, files)
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
        files=files,
    )
    settings = with_plugins(settings_of(config, dataset), dataset, session.hooks, session.loaded)
    for case in cases:
        check_case(case, dataset)
    claim_folder(folder)
    write_run(
        folder,
        session.loaded.resolved(),
        provenance(session.loaded, run, session.fabric.device, model=str(model)),
    )
    done = segment(session, cases, dataset, settings, folder, "given")
    print(f"{len(done)} label maps: {folder}", flush=True)
    return done


def file_ending(images: Sequence[Path], readers: ImageFiles = IMAGE_FILES) -> str:
    """The suffix that all given files share; of a folder, that of its first image."""
    for path in images:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            if known := [suffix for suffix in readers.suffixes if file.name.lower().endswith(suffix)]:
                return file.name[-len(max(known, key=len)) :]
    raise UserError(f"{images[0]}: there is no image; known are {', '.join(readers.suffixes)}.")
