"""The configuration of a cascade: a first stage at a coarse spacing, a second one that sees its segmentation.

`solver.budget_minutes` is the time of both stages together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import Any

from lannunet_images import SAME_IMAGES, second_stage

from lannunet_core import Entry, KeyPath, LoadedConfig, Stage, UserError, Value
from lannunet_segmentation.schema import RunConfig

FIXED: Mapping[KeyPath, str] = {
    ("preprocess", "previous_stage"): "a second stage sees what the first one segments."
}
EQUAL: Mapping[KeyPath, str] = {
    ("trainer", "fold"): SAME_IMAGES,
    ("trainer", "inference_only"): "Both stages are trained, or neither: they make one model.",
}
BUDGET = "solver.budget_minutes"


def full_resolution(
    written: Sequence[Entry], values: Mapping[KeyPath, Value], first: RunConfig, path: Path
) -> Stage:
    """See `Task.stage`. The second stage gets half of the time, unless `refine` gives its part.

    Raises:
        UserError: A key is not the second stage's own, or the run is to predict with additional models.
    """
    if first.inference.ensemble_inference:
        raise UserError(
            f"{path}: refine: inference.ensemble_inference is for runs in one stage. Leave it out, and "
            "predict with several models: lannunet predict RUN IMAGES --also RUN."
        )
    if first.preprocess.previous_stage is not None:
        raise UserError(
            f"{path}: refine: a run with preprocess.previous_stage is a second stage, and has none itself. "
            "Remove one of the two keys."
        )
    trained = first.model.checkpoint if first.trainer.inference_only else None
    set_here: dict[str, Any] = {
        "preprocess": {"previous_stage": str(trained or first.output.output_dir)},
        "solver": {"budget_minutes": first.solver.budget_minutes / 2},
    }
    equal = EQUAL
    if first.dataset.split_seed is None:
        equal = {**equal, ("solver", "seed"): SAME_IMAGES}
    return second_stage(written, values, first, path, set_here, FIXED, equal)


@contextmanager
def naming_second() -> Iterator[None]:
    """Add to errors that they are of the second stage."""
    try:
        yield
    except UserError as error:
        raise UserError(f"refine (the second stage): {error}") from None


def minutes_of_first(loaded: LoadedConfig) -> float:
    """Minutes of the first stage, if both stages are trained for a time."""
    total, second = loaded.run.solver.budget_minutes, loaded.refine
    if second is None or BUDGET in loaded.idle or BUDGET in second.idle:
        return total
    return total - second.run.solver.budget_minutes


def divided(loaded: LoadedConfig) -> LoadedConfig:
    """The first stage with its part of the time.

    Raises:
        UserError: The second stage takes all of it.
    """
    minutes = minutes_of_first(loaded)
    if minutes <= 0 and loaded.refine is not None:
        total, second = loaded.run.solver.budget_minutes, loaded.refine
        raise UserError(
            f"{second.given.get(BUDGET, loaded.path)}: refine.{BUDGET}: "
            f"{second.run.solver.budget_minutes:g} minutes of the second stage are part of the {total:g} of "
            f"both ({BUDGET}). Give it less."
        )
    return with_minutes(loaded, minutes)


def as_recorded(loaded: LoadedConfig, recorded: Mapping[str, Any]) -> LoadedConfig:
    """The first stage with its own part of the time, if the run recorded that; see `Task.as_trained`."""
    minutes, was = minutes_of_first(loaded), recorded["solver"].get("budget_minutes")
    return with_minutes(loaded, minutes) if was is not None and isclose(minutes, was) else loaded


def with_minutes(loaded: LoadedConfig, minutes: float) -> LoadedConfig:
    solver = loaded.run.solver.model_copy(update={"budget_minutes": minutes})
    return replace(loaded, run=loaded.run.model_copy(update={"solver": solver}))
