"""`lannunet calibrate PREDICTIONS -o FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lannunet_core import UserError, echo, refuse_existing

if TYPE_CHECKING:
    from lannunet_landmarks.evaluation.predictions import HeldOut
    from lannunet_landmarks.evaluation.reliability import ConfidenceCalibration

MOST_SURE = 1.5  # the height of a map may exceed 1 slightly


def command(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="The predictions.csv of annotated images that the model has not seen, such as those of a "
            "cross-validation (lannunet evaluate --runs)."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The calibration to write, a small JSON.")
    ] = Path("calibration.json"),
    coverage: Annotated[
        float, typer.Option(help="Show the radii for this coverage; the file serves every coverage.")
    ] = 0.9,
    radius: Annotated[
        float | None,
        typer.Option(
            help="Radius in mm, in px if there is no spacing: confidence becomes the probability that the "
            "error is smaller. By default the radius in the table."
        ),
    ] = None,
) -> None:
    """Calibrate error bounds and confidences of landmarks on held-out errors."""
    check_coverage(coverage)
    if radius is not None and not 0 < radius < float("inf"):
        raise UserError(f"--radius: {radius:g} is not a radius. Give a positive number, as in 2.5.")

    import numpy as np

    from lannunet_landmarks.evaluation.calibration import BinsBy, calibrate, write_calibration
    from lannunet_landmarks.evaluation.predictions import read_errors

    refuse_existing(output, "--output")
    held_out = read_errors(predictions)
    names, unit = held_out.landmark_names, held_out.unit
    spread, sure = held_out.spread, held_out.confidence
    if (sure > MOST_SURE).any():
        raise UserError(
            f"{predictions}: column 'confidence' has {np.nanmax(sure):g}, but confidences are between 0 "
            "and 1. Divide percentages by 100."
        )
    known, lines = learn(held_out, radius)
    uncertainty = 1 - (sure if known is None else known(sure)) if np.isnan(spread).all() else spread
    by: BinsBy = "confidence" if np.isnan(spread).all() else "spread"
    calibration = calibrate(held_out.errors, uncertainty, names, unit, by, known)
    missing = calibration.missing(names, coverage)
    write_calibration(output, calibration)
    for name, one in calibration.landmarks.items():
        covering = one.radius(coverage)
        if covering < float("inf"):
            echo(f"{name}: {covering:.2f} {unit} for {coverage:.1%}, from {len(one.errors)} held-out errors")
    for line in lines:
        echo(line)
    for line in missing:
        echo(f"warning: {line}", err=True)
    if known is None:
        echo(f"warning: confidence is not calibrated: {why_not(held_out, radius)}", err=True)
    usable = known is not None or any(
        one.radius(coverage) < float("inf") for one in calibration.landmarks.values()
    )
    use = f"; use it with `lannunet predict --calibration {output}`"
    echo(f"{output} is written{use if usable else ', and has nothing for this coverage'}")


def learn(held_out: HeldOut, radius: float | None) -> tuple[ConfidenceCalibration | None, list[str]]:
    """The calibration of confidence, if there are enough points, and the messages about it."""
    import numpy as np

    from lannunet_landmarks.evaluation.reliability import (
        calibrate_confidence,
        cross_calibrated,
        reliability,
    )

    radius = radius or held_out.radius
    if radius is None:
        return None, []
    raw, within = held_out.confidence, held_out.within(radius)
    known = calibrate_confidence(raw, within, radius, held_out.unit)
    if known is None:
        return None, []
    image = np.indices(raw.shape)[0]
    after = cross_calibrated(raw.ravel(), within.ravel(), image.ravel())
    errors = (reliability(one, within.ravel())["calibration_error"] for one in (raw.ravel(), after))
    before, held = (f"{error:.3f}" if error is not None else "–" for error in errors)
    return known, [
        f"confidence is the probability of lying within {radius:g} {held_out.unit}, from {known.points} "
        f"points; expected calibration error before {before}, after {held} (of images left out)"
    ]


def why_not(held_out: HeldOut, radius: float | None) -> str:
    from lannunet_landmarks.evaluation.reliability import LEAST_POINTS

    if radius is None and held_out.radius is None:
        return "the table does not state the radius. Give one with --radius."
    return f"at least {LEAST_POINTS} annotated points with a confidence are needed."


def check_coverage(coverage: float) -> None:
    if not 0 < coverage < 1:
        raise UserError(
            f"--coverage: {coverage:g} is no probability. Give a number between 0 and 1, as in 0.9."
        )
