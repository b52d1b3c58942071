"""A plan: a configuration with the reason of each choice, as YAML with comments."""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lannunet_core.config.yaml import inline_yaml
from lannunet_core.errors import UserError
from lannunet_core.plugins.api import NetworkRequest, PlannedNetwork, Plugin
from lannunet_core.plugins.hooks import ask_class
from lannunet_core.plugins.installed import InstalledPlugin

LINE = 110
MULTIPLE = 32  # sides are multiples of it, for an architecture that offers no networks
PRODUCTS_A_PIXEL, NUMBERS_A_PIXEL = 3e5, 1000.0  # of a wide U-Net, for the same architectures


@dataclass(frozen=True)
class PlanRequest:
    """The request of `lannunet plan`.

    Attributes:
        dataset: The data set.
        folder: Folder of the YAML: relative paths in it start there.
        memory_gb: Memory of a training step.
        minutes: Minutes of training; None: chosen from the data.
        gpu: Plan for a GPU, not for CPU cores.
        gpu_name: Name of the GPU that was found; empty: there is none, or none is wanted.
        architecture: The plugin that provides the network, and its class.
        extensions: Plugins to train with, and their classes; each may set keys.
    """

    dataset: Path
    folder: Path
    architecture: tuple[InstalledPlugin, type[Plugin]]
    memory_gb: float = 4.0
    minutes: float | None = None
    gpu: bool = False
    gpu_name: str = ""
    extensions: Mapping[InstalledPlugin, type[Plugin]] = field(default_factory=dict)

    @property
    def root(self) -> str:
        """The path of the data set in the YAML."""
        path = self.dataset
        return (path if path.is_absolute() else Path(os.path.relpath(path, self.folder))).as_posix()

    def networks(self, asked: NetworkRequest) -> Sequence[PlannedNetwork]:
        """The networks that the architecture offers, the most capable first; else an estimate.

        Raises:
            UserError: It offers a network for other dimensions.
            RunFailed: The plugin fails.
        """
        found = self.offered(asked) or [guessed_network(asked)]
        if other := [network.size for network in found if len(network.size) != len(asked.sides)]:
            raise UserError(
                f"the architecture {self.architecture[0].name} offers a network for "
                f"{'×'.join(map(str, other[0]))} where images have {len(asked.sides)} dimensions. Plan for "
                "another architecture, or report it to its author."
            )
        return found

    def offered(self, asked: NetworkRequest) -> Sequence[PlannedNetwork]:
        """The networks that the architecture offers, if any."""
        plugin, found = self.architecture
        return ask_class(plugin, found.networks, asked)

    def choices_of_extensions(self, image_size: Sequence[float], patch_size: Sequence[int]) -> "list[Choice]":
        """The keys that the extensions set in their sections; see `Plugin.plan`."""
        return [
            Choice(f"trainer.{plugin.name}.{key}", *chosen)
            for plugin, found in self.extensions.items()
            for key, chosen in ask_class(plugin, found.plan, image_size, patch_size).items()
        ]


@dataclass(frozen=True)
class Choice:
    """A line of the configuration.

    Attributes:
        key: Dotted key, such as `solver.budget_minutes`.
        value: A number, a string, or a list of them.
        reason: Reason; may be empty.
    """

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """A configuration with its reasons.

    Attributes:
        about: Properties of the data, one paragraph each.
        choices: The keys, in the order in which they are written.
    """

    about: tuple[str, ...]
    choices: tuple[Choice, ...]

    def __getitem__(self, key: str) -> Any:
        return next(choice.value for choice in self.choices if choice.key == key)

    def __str__(self) -> str:
        """As YAML: each choice is a line, with its reason as a comment."""
        lines = [line for paragraph in self.about for line in _comment(paragraph, "")]
        open_sections: tuple[str, ...] = ()
        for choice in self.choices:
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


def guessed_network(request: NetworkRequest) -> PlannedNetwork:
    """A network of unknown cost: with the default settings, and as costly as a wide U-Net.

    Each side is a multiple of 32; a shorter side is rounded up to a power of two that fits into it.
    """
    size = []
    for side in request.sides:
        multiple = min(MULTIPLE, 2 ** int(math.log2(max(side, 1))))
        size.append(math.ceil(side / multiple) * multiple)
    pixels = math.prod(size)
    numbers = pixels * (NUMBERS_A_PIXEL + 6 * request.outputs)
    return PlannedNetwork(tuple(size), {}, pixels * PRODUCTS_A_PIXEL, numbers)


def find_gpu() -> tuple[str, float] | None:
    """Name and GB of the GPU that a run would train on; None: it would train on the CPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(0)
    return found.name, found.total_memory / 1e9


def _comment(text: str, indent: str) -> list[str]:
    mark = f"{indent}# "
    return textwrap.wrap(
        " ".join(text.split()), LINE, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False
    )
