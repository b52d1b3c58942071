"""A plan: a configuration with the reason of each choice, as YAML with comments."""

import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lannunet_core.config.yaml import inline_yaml
from lannunet_core.plugins.api import Plugin

LINE = 110


@dataclass(frozen=True)
class PlanRequest:
    """What `lannunet plan` was asked for.

    Attributes:
        dataset: The data set.
        folder: Where the YAML will be: relative paths in it start there.
        memory_gb: That a training step may take.
        minutes: Of training; None: as the data suggest.
        gpu: Plan for a GPU, not for two CPU cores.
        architecture: The plugin that brings the network, and its name.
        extensions: Plugins to train with, by name; each may have a say.
    """

    dataset: Path
    folder: Path
    architecture: tuple[str, type[Plugin]]
    memory_gb: float = 4.0
    minutes: float | None = None
    gpu: bool = False
    extensions: Mapping[str, type[Plugin]] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The data set as the YAML names it."""
        path = self.dataset
        return (path if path.is_absolute() else Path(os.path.relpath(path, self.folder))).as_posix()


@dataclass(frozen=True)
class Choice:
    """A line of the configuration.

    Attributes:
        key: Such as `solver.budget_minutes`.
        value: A number, a string, or a list of them.
        reason: Why; may be empty.
    """

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """A configuration with its reasons.

    Attributes:
        about: What was found, a paragraph each.
        choices: In the order in which they are written.
    """

    about: tuple[str, ...]
    choices: tuple[Choice, ...]

    def __getitem__(self, key: str) -> Any:
        return next(choice.value for choice in self.choices if choice.key == key)


def as_yaml(plan: Plan) -> str:
    """Each choice is a line, with its reason as a comment."""
    lines = [line for paragraph in plan.about for line in _comment(paragraph, "")]
    open_sections: tuple[str, ...] = ()
    for choice in plan.choices:
        *sections, key = choice.key.split(".")
        for depth, section in enumerate(sections):
            if open_sections[: depth + 1] != tuple(sections[: depth + 1]):
                lines.append(f"{'  ' * depth}{section}:")
        open_sections = tuple(sections)
        indent = "  " * len(sections)
        line = f"{indent}{key}: {inline_yaml(choice.value)}"
        beside = f"{line}  # {choice.reason}"
        if not choice.reason:
            lines.append(line)
        elif len(beside) <= LINE:
            lines.append(beside)
        else:
            lines += [*_comment(choice.reason, indent), line]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> list[str]:
    mark = f"{indent}# "
    return textwrap.wrap(
        " ".join(text.split()), LINE, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False
    )
