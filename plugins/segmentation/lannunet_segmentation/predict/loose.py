"""Segmenting loose images with a trained model: what `lannunet predict` does."""

from __future__ import annotations

from dataclasses import replace

from lannunet_core import (
    PredictRequest,
    claim_folder,
    open_model,
    provenance,
    refuse_folder,
    refuse_to_empty,
    write_run,
)
from lannunet_segmentation.data.cases import file_ending
from lannunet_segmentation.data.headers import check_cases
from lannunet_segmentation.data.loose import loose_cases
from lannunet_segmentation.data.settings import as_trained, settings_of, with_plugins
from lannunet_segmentation.predict.predictor import segment
from lannunet_segmentation.predict.targets import check_targets
from lannunet_segmentation.session import start_session
from lannunet_segmentation.types import SegmentationDataset, SegmentedCase


def predict(request: PredictRequest) -> list[SegmentedCase]:
    """Segment image files, and write a label file a case, in the image's own geometry.

    Several channels of a case are files that end in `_0000`, `_0001` ….
    """
    request.refuse("segmentation", "also", "spacing", "calibration", "coverage")
    model, images, folder = request.model, request.images, request.folder
    refuse_folder(folder, "--output", None if request.overwrite else "replace it (--overwrite)")
    refuse_to_empty(folder, "--output", [model])
    session = open_model(model, start_session, plugins=request.plugins)
    run, config = session.run, session.config
    if request.tta is not None:
        config = config.model_copy(
            update={"inference": config.inference.model_copy(update={"tta": request.tta})}
        )
        session.loaded = replace(session.loaded, run=config)
    cases = loose_cases(images, run.in_channels, run.dimensions, session.files)
    dataset = SegmentationDataset(
        path=model,
        name=model.name,
        layout="raw2",
        dimensions=run.dimensions,
        channel_names=tuple(f"channel {index}" for index in range(run.in_channels)),
        class_names=run.outputs,
        ignore=None,
        file_ending=file_ending(cases[0].images[0], session.files),
        training=(),
        testing=cases,
        files=session.files,
    )
    own = with_plugins(settings_of(config, dataset), dataset, session.hooks, session.loaded)
    settings = as_trained(own, session.trained, dataset, session.hooks, session.loaded, model)
    check_cases(cases, dataset)
    check_targets(cases, dataset, folder, folder, "--output", cases)
    claim_folder(folder)
    write_run(
        folder,
        session.loaded.resolved(),
        provenance(session.loaded, run, session.fabric.device, model=str(model)),
    )
    done = segment(session, cases, dataset, settings, folder, "given")
    print(f"{len(done)} label maps: {folder}", flush=True)
    return done
