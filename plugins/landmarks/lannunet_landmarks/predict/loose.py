"""`lannunet predict` for landmarks: predict standalone images with a trained model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lannunet_images import IMAGE_FILES, ImageFiles, image_name, is_series, second_model

from lannunet_core import (
    BEST_MODEL,
    PredictRequest,
    RunInfo,
    UserError,
    claim_folder,
    echo,
    models_of,
    provenance,
    refuse_folder,
    refuse_to_empty,
    terminal_text,
    write_run,
)
from lannunet_landmarks.data.proportions import SQUARE
from lannunet_landmarks.evaluation.calibration import read_calibration
from lannunet_landmarks.evaluation.coverage import coverage_summary
from lannunet_landmarks.evaluation.results import write_landmark_results
from lannunet_landmarks.predict.model import LandmarkModel, kept_calibration
from lannunet_landmarks.session import LandmarkSession
from lannunet_landmarks.types import Prediction, Sample, unannotated

MOST_SHOWN = 5  # names in a message
PIXELS = (".raw", ".zraw")  # data files of MetaImage headers


def predict(request: PredictRequest) -> list[Prediction]:
    """Predict standalone images with a trained model, or with several together.

    Returns:
        The main method's predictions.
    """
    request.refuse("landmarks", "save_probabilities", "postprocess")
    model, folder, spacing, coverage = request.model, request.folder, request.spacing, request.coverage
    request.refuse("landmarks", "format")
    for path in request.images:
        if path.resolve() == folder.resolve():
            raise UserError(f"--output: {folder} is the folder of the images; name another folder.")
    refuse_folder(folder, "--output", None if request.overwrite else "replace it (--overwrite)")
    calibration = request.calibration or kept_calibration(model)
    known = None if calibration is None else read_calibration(calibration)
    if calibration is not None:
        echo(
            f"calibrated by {calibration.name}{'' if request.calibration else ', which came with the model'}"
        )
    models = [path for named in (model, *request.also) for path in models_of(named)]
    refuse_to_empty(folder, "--output", [*models, *map(second_model, models)])
    opened = LandmarkModel(model, request.also, request.tta, known, request.plugins, request.device)
    session = opened.session
    names = session.run.outputs
    samples = loose_samples(request.images, session.run, session.files, session.pixel)
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
    if line := assumed(session, samples):
        echo(f"note: {line}", err=True)
    prepared = opened.prepare(session, samples)
    claim_folder(folder)
    debug = folder / "debug" if session.config.inference.debug else None
    methods = opened.locate(samples, prepared, debug=debug)
    session, others = opened.last, opened.others
    loaded, summary = session.loaded, None
    if known is not None:
        main = next(iter(methods))
        coverage = coverage or session.config.inference.coverage
        methods |= {main: known.apply(methods[main], names, coverage)}
        summary = coverage_summary(known, methods[main], names, coverage)
        for line in known.missing(names, coverage):
            echo(f"warning: {line}", err=True)
    used = {"model": str(model), **({"also": [str(run_of(path)) for path in others]} if others else {})}
    description = provenance(loaded, session.run, session.fabric.device, **used)
    resolved = loaded.resolved()
    write_run(folder, resolved, description)
    write_landmark_results(
        session, methods, folder, f"Predictions of {description['model']}", [], resolved, description, summary
    )
    return next(iter(methods.values()))


def run_of(model: Path) -> Path:
    """The folder of the run whose best model this is; for other model files, the file itself."""
    return model.parents[1] if model.parts[-2:] == BEST_MODEL.parts else model


def loose_samples(
    images: Sequence[Path],
    run: RunInfo,
    readers: ImageFiles = IMAGE_FILES,
    pixel: tuple[float, ...] | None = None,
) -> list[Sample]:
    """Samples without annotation for image files, and folders of them; for `pixel` see `Sample`."""
    files: list[Path] = []
    for path in images:
        if path.is_dir():
            files += images_in(path, run.dimensions, readers)
        elif path.exists() or is_series(path):
            files.append(path)
        else:
            raise UserError(f"{terminal_text(path)}: there is no such image or folder.")
    files = list(dict.fromkeys(files))
    for folder in dict.fromkeys(file.parent for file in files):
        readers.check_series(folder, [file for file in files if file.parent == folder], run.dimensions)
    ids = map(terminal_text, named_apart(files))
    return [unannotated(name, file, run, pixel) for name, file in zip(ids, files, strict=True)]


def assumed(session: LandmarkSession, samples: Sequence[Sample]) -> str | None:
    """A message about images whose pixels are assumed to have another shape than squares or cubes."""
    if session.pixel is None or max(session.pixel) <= SQUARE or session.config.sampler.image_size is None:
        return None
    files, dimensions = session.files, session.run.dimensions
    unknown = [one for one in samples if not (one.spacing or files.header(one.image, dimensions).spacing)]
    if not unknown:
        return None
    shape = "×".join(f"{side:.3g}" for side in session.pixel)
    return (
        f"{len(unknown)} of {len(samples)} images state no spacing ({terminal_text(unknown[0].id)}): their "
        f"pixels are assumed to have the shape of those in training, {shape}."
    )


def named_apart(files: Sequence[Path]) -> list[str]:
    """The images' names; if two share a name, their paths below the common folder."""
    names = [image_name(file) for file in files]
    often = Counter(names)
    if max(often.values(), default=1) == 1:
        return names
    absolute = [file.absolute() for file in files]
    shared = Path(os.path.commonpath([file.parent for file in absolute]))
    return [
        name if often[name] == 1 else str(file.relative_to(shared))
        for name, file in zip(names, absolute, strict=True)
    ]


def images_in(folder: Path, dimensions: int, readers: ImageFiles) -> list[Path]:
    """The images of a folder, of any format; other files are named in a warning, except hidden ones.

    DICOM slices are joined to volumes if the model needs these.

    Raises:
        UserError: There are none.
    """
    found = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    images = {path for path in found if path.is_file() and readers.knows(path)}
    folders = [path.name for path in found if path.is_dir()]
    if not images:
        below = f" Folders in it are not searched ({shown(folders)}); name them." if folders else ""
        raise UserError(
            f"{terminal_text(folder)}: there are no images in this folder; known formats are "
            f"{', '.join(readers.suffixes)}, and DICOM.{below}"
        )
    if left := [path.name for path in found if path not in images and path.suffix.lower() not in PIXELS]:
        echo(f"warning: {folder}: left out, as they are not images: {shown(left)}", err=True)
    return readers.volumes(folder, sorted(images)) if dimensions == 3 else sorted(images)


def shown(names: Sequence[str]) -> str:
    return ", ".join(map(terminal_text, names[:5])) + (
        f" and {len(names) - 5} more" if len(names) > 5 else ""
    )
