"""Predicting loose images with a trained model: what `lannunet predict` does."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lannunet_core import (
    IMAGE_FILES,
    ImageFiles,
    PredictRequest,
    RunInfo,
    State,
    UserError,
    claim_folder,
    models_of,
    provenance,
    refuse_folder,
    refuse_to_empty,
    terminal_text,
    write_run,
)
from lannunet_landmarks.evaluation.calibration import Calibration, read_calibration
from lannunet_landmarks.evaluation.coverage import coverage_summary
from lannunet_landmarks.evaluation.results import write_landmark_results
from lannunet_landmarks.predict.ensemble import together
from lannunet_landmarks.predict.evaluator import Evaluator
from lannunet_landmarks.predict.models import open_members, open_model
from lannunet_landmarks.predict.stages import second_model
from lannunet_landmarks.session import LandmarkSession, prepare_images
from lannunet_landmarks.types import Prediction, Sample

MOST_SHOWN = 5  # names in a message
PIXELS = (".raw", ".zraw")  # of MetaImages, which are headers


def predict(request: PredictRequest) -> list[Prediction]:
    """Predict loose images with a trained model, or with several together.

    Returns:
        The main method's predictions.
    """
    model, folder, spacing, coverage = request.model, request.folder, request.spacing, request.coverage
    for path in request.images:
        if path.resolve() == folder.resolve():
            raise UserError(f"--output: {folder} is where the images lie; name another folder.")
    refuse_folder(folder, "--output", None if request.overwrite else "replace it (--overwrite)")
    known = None if request.calibration is None else read_calibration(request.calibration)
    first, *others = [path for named in (model, *request.also) for path in models_of(named)]
    refuse_to_empty(folder, "--output", (first, *others))
    session = open_model(first, plugins=request.plugins)
    mirror(session, request.tta)
    if others and session.loaded.refine is not None:
        raise UserError(f"{model}: predicts alone; models that look in two stages are no ensemble.")
    names = session.run.outputs
    members = [session, *open_members(session, others)]
    samples = loose_samples(request.images, session.run, session.files)
    inputs = (*(one.image for one in samples), *request.plugins, request.calibration)
    refuse_to_empty(folder, "--output", filter(None, inputs))
    if spacing is not None:
        samples = [
            sample
            if session.files.header(sample.image, session.run.dimensions).spacing
            else replace(sample, spacing=(spacing,) * session.run.dimensions)
            for sample in samples
        ]
    if known is not None:
        files, dimensions = session.files, session.run.dimensions
        known.check(
            names, {one.id: one.spacing or files.header(one.image, dimensions).spacing for one in samples}
        )
    for member in members:
        recalibrate(member, known)
    prepared = prepare_images(session, samples, "given", reference=model)
    locate = together(members)
    claim_folder(folder)
    debug = folder / "debug" if session.config.inference.debug else None
    methods = Evaluator(session, prepared, samples, "given").predict(locate, debug)
    if session.loaded.refine is not None:
        centres = {one.id: one.coordinates for one in next(iter(methods.values()))}
        session = open_model(second_model(model), centres, plugins=request.plugins)
        mirror(session, request.tta)
        recalibrate(session, known)
        prepared = prepare_images(session, samples, "given", reference=model)
        methods = Evaluator(session, prepared, samples, "given").predict(together([session]))
    loaded, summary = session.loaded, None
    if known is not None:
        main = next(iter(methods))
        coverage = coverage or session.config.inference.coverage
        methods |= {main: known.apply(methods[main], names, coverage)}
        summary = coverage_summary(known, methods[main], names, coverage)
        for line in known.missing(names, coverage):
            print(f"warning: {line}", file=sys.stderr)
    models = {"model": str(model), **({"also": [str(path) for path in others]} if others else {})}
    description = provenance(loaded, session.run, session.fabric.device, **models)
    resolved = loaded.resolved()
    write_run(folder, resolved, description)
    write_landmark_results(
        session, methods, folder, f"Predictions of {model}", [], resolved, description, summary
    )
    return next(iter(methods.values()))


def mirror(session: LandmarkSession, tta: bool | None) -> None:
    """Have a session look at mirrored images too, or not; None: as its configuration says."""
    if tta is not None:
        run = session.config
        inference = run.inference.model_copy(update={"tta": tta})
        session.loaded = replace(session.loaded, run=run.model_copy(update={"inference": inference}))


def recalibrate(session: LandmarkSession, known: Calibration | None) -> None:
    """Have a session's confidences, as it gives them, go through a calibration, member by member.

    So that members of an ensemble that disagree lower what the calibration says, rather than the other way.
    """
    if known is not None and known.confidence is not None:
        session.calibrations = (*session.calibrations, known.confidence)


def loose_samples(images: Sequence[Path], run: RunInfo, readers: ImageFiles = IMAGE_FILES) -> list[Sample]:
    """Samples without annotation for image files, and folders of them."""
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            files += images_in(path, readers)
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"{terminal_text(path)}: there is no such image or folder.")
    files = list(dict.fromkeys(files))
    count, dimensions = len(run.outputs), run.dimensions
    for folder in dict.fromkeys(file.parent for file in files):
        check_series(folder, [file for file in files if file.parent == folder], dimensions, readers)
    often = Counter(file.name for file in files)
    return [
        Sample(
            id=terminal_text(file.name if often[file.name] == 1 else file),
            image=file,
            coordinates=np.full((count, dimensions), math.nan),
            states=np.full(count, State.UNLABELLED, np.int64),
        )
        for file in files
    ]


def images_in(folder: Path, readers: ImageFiles) -> list[Path]:
    """The images of a folder, whatever their kinds; what else lies there is named, but for hidden files.

    Raises:
        UserError: There are none.
    """
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    images = {path for path in found if path.is_file() and readers.knows(path)}
    folders = [path.name for path in found if path.is_dir()]
    if not images:
        below = f" Folders in it are not looked into ({shown(folders)}); name them." if folders else ""
        raise UserError(
            f"{terminal_text(folder)}: there are no images in this folder; known are "
            f"{', '.join(readers.suffixes)}, and DICOM.{below}"
        )
    if left := [path.name for path in found if path not in images and path.suffix.lower() not in PIXELS]:
        print(f"warning: {folder}: left out, as they are no images: {shown(left)}", file=sys.stderr)
    return sorted(images)


def shown(names: Sequence[str]) -> str:
    return ", ".join(map(terminal_text, names[:5])) + (
        f" and {len(names) - 5} more" if len(names) > 5 else ""
    )


def check_series(folder: Path, files: Sequence[Path], dimensions: int, readers: ImageFiles) -> None:
    """Refuse slices where the model takes volumes; say that they are slices where it takes pictures."""
    slices = readers.largest_series(files)
    if len(slices) < 2:
        return
    text = f"{terminal_text(folder)}: {len(slices)} files are slices of one DICOM series"
    if dimensions == 2:
        print(f"warning: {text}; each is predicted as an image of its own.", file=sys.stderr)
    elif readers.header(slices[0], 3).size[2] == 1:
        raise UserError(f"{text}, which is not read as a volume. Convert it to one file (.nii.gz, .mha).")
