"""The files written for a set of predictions: tables, summary and report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

from lannunet_images import prepare_image
from numpy.typing import NDArray

from lannunet_core import METHODS_FOLDER, SECOND_STAGE_FOLDER, echo, terminal_text, write_text
from lannunet_landmarks.data.proportions import pixel_in
from lannunet_landmarks.evaluation.mean_position import not_learned
from lannunet_landmarks.evaluation.pictures import file_name
from lannunet_landmarks.evaluation.predictions import write_predictions, write_workbook
from lannunet_landmarks.evaluation.reliability import confidence_summary, say_confidence
from lannunet_landmarks.evaluation.report import Report, write_report
from lannunet_landmarks.evaluation.summary import MEAN_POSITION, print_summary, summarise_errors
from lannunet_landmarks.session import LandmarkSession, pixel_shape
from lannunet_landmarks.types import Prediction


def write_landmark_results(
    session: LandmarkSession,
    methods: Mapping[str, Sequence[Prediction]],
    folder: Path,
    title: str,
    history: Sequence[Mapping[str, Any]],
    resolved: Mapping[str, Any],
    description: Mapping[str, Any],
    calibration: dict[str, Any] | None = None,
    by_mean: Sequence[Prediction] | None = None,
) -> dict[str, Any]:
    """Write tables, summary and report of the predictions of `methods`, the main one first.

    Returns the summary.

    `calibration` is the main method's `coverage_summary`, `by_mean` the mean position in the same images.
    predictions.csv is the main one's; the others' are in the folder `methods`.
    """
    config, names = session.config, session.run.outputs
    radii, seed = config.output.success_radii, session.run.seed
    (main, predictions), *others = methods.items()
    summary = summarise_errors(predictions, names, radii, seed)
    if calibration is not None:
        summary["calibration"] = calibration
    points = session.calibrations[-1].points if session.calibrations else None
    summary["confidence"] = confidence_summary(predictions, points)
    comparison = {name: summarise_errors(other, names, radii, seed) for name, other in others}
    annotated = any(prediction.target is not None for prediction in predictions)
    if by_mean is not None and annotated:
        summary[MEAN_POSITION] = summarise_errors(by_mean, names, radii, seed)["overall"]
        summary["not_learned"] = not_learned(predictions, by_mean, names)
    write_predictions(folder / "predictions.csv", predictions, names)
    if others:
        (folder / METHODS_FOLDER).mkdir(exist_ok=True)
        summary |= {"method": main, "methods": comparison}
    for name, other in others:
        write_predictions(folder / METHODS_FOLDER / f"{file_name(name)}.csv", other, names)
    if config.output.xlsx:
        write_workbook(folder / "predictions.xlsx", methods, names)
    # The predictions are kept if a plugin fails here.
    figures = {name: float(value) for name, value in session.hooks.metrics(predictions=predictions).items()}
    if figures:
        summary["metrics"] = {name: value if isfinite(value) else None for name, value in figures.items()}
    final = SECOND_STAGE_FOLDER if session.loaded.refine is not None else None
    if final is not None:
        summary["final"] = f"{final}/summary.json"
    write_text(folder / "summary.json", json.dumps(summary, indent=1))
    report = Report(
        title=title,
        predictions=predictions,
        summary=summary,
        landmark_names=names,
        image=partial(shown_image, session),
        history=history,
        config=resolved,
        provenance=description,
        comparison=comparison,
        parts=session.hooks.report(predictions=predictions),
        final=None if final is None else f"{final}/report.html",
        by_mean=by_mean if annotated else None,
        full=config.output.full_report,
    )
    write_report(folder / "report.html", report)
    if annotated:
        print_summary(summary, title, comparison)
    for name, value in figures.items():
        echo(f"{terminal_text(name)}: {value:.4g}")
    echo(say_confidence(summary["confidence"]))
    echo(f"report: {folder / 'report.html'}")
    return summary


def shown_image(session: LandmarkSession, prediction: Prediction) -> NDArray[Any]:
    """The pixels (C, *S) of a prediction's image, in the frame of its coordinates."""
    config, run = session.config, session.run
    pixels = session.files.read(prediction.image, run.dimensions).pixels
    if config.inference.evaluation_mode == "use_input_size":
        sampler, pixel = config.sampler, pixel_in(prediction.original_spacing, pixel_shape(config, run))
        pixels, _ = prepare_image(pixels, sampler.image_size, sampler.resize, pixel=pixel)
    return pixels
