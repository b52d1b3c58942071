"""A second stage: the first stage's configuration with the keys of `refine` applied on top of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lannunet_core import STAGE_SECTIONS, Entry, KeyPath, Stage, UserError, Value, entries
from lannunet_landmarks.schema import RunConfig

FIXED = (("sampler", "sample_mode"), ("sampler", "patch", "centres"))
"""Keys that only the first stage sets."""


def second_stage(
    written: Sequence[Entry], values: Mapping[KeyPath, Value], first: RunConfig, path: Path
) -> Stage:
    """The entries of the first stage, with those of `refine` applied on top.

    Raises:
        UserError: A key is not the second stage's own, or the first stage cannot be refined.
    """
    if first.inference.evaluation_mode == "use_input_size":
        raise UserError(
            f"{path}: refine: the first stage has to predict in original pixels, so "
            "inference.evaluation_mode cannot be use_input_size."
        )
    own = {
        tuple(key.casefold() for key in value.path[1:]): value
        for value in values.values()
        if value.path[0] == "refine" and len(value.path) > 1
    }
    for keys, value in own.items():
        if keys[0] not in STAGE_SECTIONS:
            raise UserError(
                f"{value.at}: a second stage has its own {', '.join(STAGE_SECTIONS)}; "
                "the rest is the first's."
            )
        if keys in FIXED:
            raise UserError(
                f"{value.at}: a second stage uses the first's predictions as centres. Remove this key."
            )

    def shared(entry: Entry) -> bool:
        """Whether both stages share it: not the first stage's model file, nor settings of another
        architecture."""
        keys = spelled(entry)
        settings = keys[0] == "model" and len(keys) > 2 and ("model", "architecture") in own
        return keys[0] != "refine" and keys[:2] != ("model", "checkpoint") and not settings

    laid_over = [
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
    sampler: dict[str, Any] = {"sample_mode": "patch_centred"}
    if ("sampler", "patch", "resolution_to_sample_from") not in own:
        sampler["patch"] = {"resolution_to_sample_from": "full"}
    fixed = {"sampler": sampler, "output": {"output_dir": str(first.output.output_dir / "refine")}}
    # A stage ignores shared keys that do not act in it, except that inference_only acts in every stage.
    given = [
        replace(entry, suggested=spelled(entry) != ("trainer", "inference_only"))
        for entry in written
        if shared(entry)
    ]
    set_here = [replace(entry, suggested=True) for entry in entries(fixed, "refine", path.parent, {})]
    return Stage([*given, *set_here, *laid_over], FIXED)


def spelled(entry: Entry) -> KeyPath:
    return tuple(key.casefold() for key in entry.path)
