"""A second stage: the run of the first with the keys of `refine` laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lannunet_core.config.loaded import STAGE_SECTIONS
from lannunet_core.config.problems import Value
from lannunet_core.config.schema import KeyPath, RunConfig
from lannunet_core.config.yaml import Entry, entries
from lannunet_core.errors import UserError
from lannunet_core.task import Task


@dataclass(frozen=True)
class Stage:
    """What a second stage is read from.

    Attributes:
        entries: Of its configuration.
        fixed: The keys that the first stage sets.
    """

    entries: list[Entry]
    fixed: tuple[KeyPath, ...]


def second_stage(
    task: Task, written: list[Entry], values: Mapping[KeyPath, Value], first: RunConfig, path: Path
) -> Stage:
    """The entries of the first stage with those of `refine` over them, and what the task sets.

    Raises:
        UserError: A key is not the second stage's own, or the first stage cannot be refined.
    """
    own = {
        tuple(key.casefold() for key in value.path[1:]): value
        for value in values.values()
        if value.path[0] == "refine" and len(value.path) > 1
    }
    settings, fixed = task.stage(first, set(own))
    for keys, value in own.items():
        if keys[0] not in STAGE_SECTIONS:
            raise UserError(
                f"{value.at}: a second stage has its own {', '.join(STAGE_SECTIONS)}; "
                "the rest is the first's."
            )
        if keys in fixed:
            raise UserError(
                f"{value.at}: a second stage looks around the first's predictions. Remove this key."
            )

    def shared(entry: Entry) -> bool:
        """Not what the first stage has for itself: its model file, and settings of another architecture."""
        keys = tuple(key.casefold() for key in entry.path)
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
    folder = {"output": {"output_dir": str(first.output.output_dir / "refine")}}
    every = [entry for entry in written if shared(entry)] + laid_over
    return Stage(every + entries({**settings, **folder}, "refine", path.parent, {}), fixed)
