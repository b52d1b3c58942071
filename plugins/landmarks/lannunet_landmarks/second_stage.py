"""The second stage of a run: patches around the predictions of the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lannunet_images import SAME_IMAGES, keys_of_refine, second_stage

from lannunet_core import Entry, KeyPath, Stage, UserError, Value
from lannunet_landmarks.schema import RunConfig

AROUND = "a second stage uses the first's predictions as centres."
FIXED = {("sampler", "sample_mode"): AROUND, ("sampler", "patch", "centres"): AROUND}
EQUAL: Mapping[KeyPath, str] = {("trainer", "fold"): SAME_IMAGES}


def around_first(
    written: Sequence[Entry], values: Mapping[KeyPath, Value], first: RunConfig, path: Path
) -> Stage:
    """See `Task.stage`.

    Raises:
        UserError: A key is not the second stage's own, or the first stage cannot be refined.
    """
    if first.inference.evaluation_mode == "use_input_size":
        raise UserError(
            f"{path}: refine: the first stage has to predict in original pixels, so "
            "inference.evaluation_mode cannot be use_input_size."
        )
    sampler: dict[str, Any] = {"sample_mode": "patch_centred"}
    if ("sampler", "patch", "resolution_to_sample_from") not in keys_of_refine(values):
        sampler["patch"] = {"resolution_to_sample_from": "full"}
    return second_stage(written, values, first, path, {"sampler": sampler}, FIXED, EQUAL)
