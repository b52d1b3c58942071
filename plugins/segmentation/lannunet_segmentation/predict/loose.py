"""`lannunet predict` for segmentation: segment standalone images with a trained model."""

from __future__ import annotations

from typing import Any

from lannunet_images import second_model

from lannunet_core import (
    PredictRequest,
    UserError,
    claim_folder,
    echo,
    models_of,
    provenance,
    refuse_folder,
    refuse_to_empty,
    write_run,
)
from lannunet_segmentation.data.cases import file_ending
from lannunet_segmentation.data.headers import check_cases
from lannunet_segmentation.data.label_files import read_prediction
from lannunet_segmentation.data.loose import loose_cases
from lannunet_segmentation.predict.dicom_seg import FORMAT, check_sources, write_dicom_seg
from lannunet_segmentation.predict.members import run_of
from lannunet_segmentation.predict.model import SegmentationModel
from lannunet_segmentation.predict.postprocessing import read_postprocessing
from lannunet_segmentation.predict.probabilities import probability_paths
from lannunet_segmentation.predict.targets import check_targets
from lannunet_segmentation.types import SegmentedCase


def predict(request: PredictRequest) -> list[SegmentedCase]:
    """Segment image files, and write a label file per case, in the image's own geometry.

    Several channels of a case are files that end in `_0000`, `_0001` ….

    Raises:
        UserError: Something cannot be predicted. Where only the voxels of some cases cannot be read, the
            others are written before.
    """
    request.refuse("segmentation", "spacing", "calibration", "coverage")
    model, images, folder = request.model, request.images, request.folder
    refuse_folder(folder, "--output", None if request.overwrite else "replace it (--overwrite)")
    models = [path for named in (model, *request.also) for path in models_of(named)]
    refuse_to_empty(folder, "--output", [*models, *map(second_model, models)])
    opened = SegmentationModel(model, request.also, request.tta, request.plugins, request.device)
    session, run = opened.session, opened.session.run
    cases = loose_cases(images, run.in_channels, run.dimensions, session.files)
    dataset = opened.dataset(cases, session.files, file_ending(cases[0].images[0], session.files))
    check_cases(cases, dataset)
    if request.format not in (None, FORMAT):
        raise UserError(f"--format: there is no format {request.format!r}; there is {FORMAT}.")
    segs = check_sources(cases, session.files, folder) if request.format else {}
    further = probability_paths(cases, folder) if request.save_probabilities else []
    check_targets(cases, dataset, folder, folder, "--output", cases, [*further, *segs.values()])
    if request.postprocess and run.regions:
        raise UserError(f"--postprocess: is for classes, and {model} finds regions. Leave it out.")
    largest = read_postprocessing(model, run.outputs) if request.postprocess else ()
    claim_folder(folder)
    used: dict[str, Any] = {"model": str(model)}
    if opened.others:
        used["also"] = [str(run_of(path)) for path in opened.others]
    write_run(
        folder,
        session.loaded.resolved(),
        provenance(session.loaded, run, session.fabric.device, **used),
    )
    damaged: list[UserError] = []
    done = opened.write(dataset, folder, largest, request.save_probabilities, damaged)
    if len(damaged) == len(cases):
        claim_folder(folder)  # removes the record of a prediction without label maps
        raise damaged[0]
    for case in done:  # a plugin may have changed their order
        if case.id in segs:
            sources = session.files.parts(case.images[0])
            write_dicom_seg(segs[case.id], read_prediction(case), sources, dataset.compared)
    echo(f"{len(done)} label maps: {folder}")
    for error in damaged[:-1]:
        echo(f"warning: {error}", err=True)
    if damaged:
        raise UserError(
            f"{damaged[-1]} {len(damaged)} of {len(cases)} cases are not predicted. Repair or remove their "
            "files, and predict them into another folder."
        )
    return done
