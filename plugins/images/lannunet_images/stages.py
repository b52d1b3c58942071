"""Runs in two stages: the second is a run of its own, whose keys of `refine` replace those of the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from lannunet_core import (
    SECOND_STAGE_FOLDER,
    STAGE_SECTIONS,
    Entry,
    KeyPath,
    LoadedConfig,
    RunConfig,
    Stage,
    UserError,
    Value,
    entries,
    located,
)

SAME_IMAGES = (
    "Both stages hold out the same images, or the second would be validated on images that the first was "
    "trained on."
)


def keys_of_refine(values: Mapping[KeyPath, Value]) -> dict[KeyPath, Value]:
    """Values that a configuration sets below `refine`, by their lower-case keys there."""
    return {
        tuple(key.casefold() for key in value.path[1:]): value
        for value in values.values()
        if value.path[0] == "refine" and len(value.path) > 1
    }


def second_stage(
    written: Sequence[Entry],
    values: Mapping[KeyPath, Value],
    first: RunConfig,
    path: Path,
    set_here: Mapping[str, Any],
    fixed: Mapping[KeyPath, str],
    equal: Mapping[KeyPath, str],
) -> Stage:
    """The first stage's entries, replaced by those of `refine`, for `lannunet_core.Task.stage`.

    The second stage writes its results into the folder `refine` of the first stage.

    Args:
        written: See `Task.stage`.
        values: See `Task.stage`.
        first: See `Task.stage`.
        path: See `Task.stage`.
        set_here: Values that the first stage determines, as nested sections; `refine` may replace them.
        fixed: Keys that `refine` cannot set, each with the reason, a sentence.
        equal: Keys that have one value in both stages, each with the reason, a sentence.

    Raises:
        UserError: A key is not the second stage's own, or has another value than in the first.
    """
    own = keys_of_refine(values)
    sections = [name for name in STAGE_SECTIONS if name in type(first).model_fields]
    for keys, value in own.items():
        if keys[0] not in sections:
            raise UserError(
                f"{value.at}: a second stage has its own {', '.join(sections)}; the rest is the first's."
            )
        if keys in fixed:
            raise UserError(f"{value.at}: {fixed[keys]} Remove this key.")
        if keys in equal and value.value != (used := reduce(getattr, keys, first)):
            raise UserError(f"{value.at}: the first stage has {used}. {equal[keys]} Remove this key.")

    def shared(entry: Entry) -> bool:
        """Whether both stages use it: not a model file, nor settings of another architecture."""
        keys = spelled(entry)
        settings = keys[0] == "model" and len(keys) > 2 and ("model", "architecture") in own
        return keys[0] != "refine" and keys[:2] != ("model", "checkpoint") and not settings

    replacing = [
        replace(
            value.entry,
            path=value.entry.path[1:],
            lines={
                place[1:]: line
                for place, line in value.entry.lines.items()
                if place[:1] == value.entry.path[:1]
            },
        )
        for value in own.values()
    ]
    # A stage ignores shared keys that do not act in it, except that inference_only acts in every stage.
    given = [
        replace(entry, suggested=spelled(entry) != ("trainer", "inference_only"))
        for entry in written
        if shared(entry)
    ]
    set_here = {**set_here, "output": {"output_dir": str(first.output.output_dir / SECOND_STAGE_FOLDER)}}
    determined = [replace(entry, suggested=True) for entry in entries(set_here, "refine", path.parent, {})]
    return Stage([*given, *determined, *replacing], (*fixed, *equal))


def spelled(entry: Entry) -> KeyPath:
    return tuple(key.casefold() for key in entry.path)


def second_model(model: Path) -> Path:
    """The folder of a run's second stage, given the model file or folder of the first."""
    model = located(model)
    return (model if model.is_dir() else model.parent.parent) / SECOND_STAGE_FOLDER


def with_model_of(second: LoadedConfig, first: LoadedConfig) -> LoadedConfig:
    """The second stage; under `inference_only` with that of the first model, unless it names its own."""
    model, used = second.run.model, first.run.model.checkpoint
    if not second.run.trainer.inference_only or model.checkpoint is not None or used is None:
        return second
    model = model.model_copy(update={"checkpoint": second_model(used)})
    return replace(second, run=second.run.model_copy(update={"model": model}))
