"""`lannunet calibrate PREDICTIONS -o FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lannunet_core import UserError, refuse_existing


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
        float, typer.Option(help="Show the radii for this coverage; the file serves any.")
    ] = 0.9,
) -> None:
    """Learn from held-out errors how far off new predictions may be, landmark by landmark."""
    check_coverage(coverage)

    import sys

    from lannunet_landmarks.evaluation.calibration import calibrate, write_calibration
    from lannunet_landmarks.evaluation.predictions import read_errors

    refuse_existing(output, "--output")
    errors, confidence, names, unit = read_errors(predictions)
    calibration = calibrate(errors, 1 - confidence, names, unit)
    write_calibration(output, calibration)
    for name, one in calibration.landmarks.items():
        radius = one.radius(coverage)
        if radius < float("inf"):
            print(f"{name}: {radius:.2f} {unit} for {coverage:.1%}, from {len(one.errors)} held-out errors")
    for line in calibration.missing(names, coverage):
        print(f"warning: {line}", file=sys.stderr)
    print(f"{output} is written; use it with lannunet predict --calibration {output}")


def check_coverage(coverage: float) -> None:
    if not 0 < coverage < 1:
        raise UserError(
            f"--coverage: {coverage:g} is no probability. Give a number between 0 and 1, as in 0.9."
        )
