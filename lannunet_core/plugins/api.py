"""What a plugin author imports. Needs neither torch nor NumPy.

A complete plugin:

    from lannunet_core import Plugin, hookimpl

    class TinyNet(Plugin):
        @hookimpl
        def network(self):
            from torch import nn
            return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 9, padding=4)

and in its pyproject.toml:

    [project.entry-points."lannunet.plugins"]
    tiny = "my_package:TinyNet"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pluggy
from pydantic import BaseModel, ConfigDict

hookimpl = pluggy.HookimplMarker("lannunet")


class PluginConfig(BaseModel):
    """Base of a plugin's settings: unknown keys are refused, values do not change during a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class RunInfo:
    """A read-only description of the run that a plugin serves.

    Attributes:
        task: Its name.
        dimensions: D, 2 or 3.
        in_channels: C, channels of the image.
        outputs: Names of the network's output channels, in their order: of what is located, or of classes.
        input_size: Size of the tensor that the network is trained on, (x, y[, z]).
        spacing: mm per input pixel (x, y[, z]), the training set's median; None where unknown.
        supervised_resolutions: How many resolutions to supervise, 1 without deep supervision.
        device: `cpu`, `cuda` or `mps`.
        seed: The run's seed.
    """

    task: str
    dimensions: int
    in_channels: int
    outputs: tuple[str, ...]
    input_size: tuple[int, ...]
    spacing: tuple[float, ...] | None
    supervised_resolutions: int
    device: str
    seed: int


@dataclass(frozen=True)
class NetworkRequest:
    """What an architecture is asked to fit, by `lannunet plan`.

    Attributes:
        sides: About how large an image or patch is, (x, y[, z]).
        spacing: mm per pixel (x, y[, z]); ones where unknown.
        in_channels: C.
        outputs: N.
    """

    sides: tuple[float, ...]
    spacing: tuple[float, ...]
    in_channels: int
    outputs: int


@dataclass(frozen=True)
class PlannedNetwork:
    """A network that an architecture offers, and what it costs.

    Attributes:
        size: Of the image or patch that it is trained on, (x, y[, z]): about what was asked for.
        settings: The keys of the architecture's section, each with its value and the reason.
        products: Multiplications of a forward pass of one sample.
        numbers: Numbers that a forward pass of one sample keeps for the backward one.
    """

    size: tuple[int, ...]
    settings: Mapping[str, tuple[Any, str]]
    products: float
    numbers: float


class Plugin:
    """Base class of a plugin. The core makes one instance a run.

    Attributes:
        tasks: Names of those that the plugin serves; a run of another one refuses it before anything is made. None:
            every task.
        config: The validated section of the run's YAML, an instance of the class's own `Config`.
        run: What is known of the run.
    """

    Config: ClassVar[type[PluginConfig]] = PluginConfig
    tasks: ClassVar[tuple[str, ...] | None] = None

    @classmethod
    def plan(cls, image_size: Sequence[float], patch_size: Sequence[int]) -> Mapping[str, tuple[Any, str]]:
        """What `lannunet plan` sets in this extension's section, each key with its value and the reason.

        Args:
            image_size: Of the median image, resampled as planned, (x, y[, z]).
            patch_size: As planned, (x, y[, z]).
        """
        return {}

    @classmethod
    def networks(cls, request: NetworkRequest) -> Sequence[PlannedNetwork]:
        """What `lannunet plan` chooses from for this architecture, the most able network first.

        Without an answer, it plans with the defaults of the architecture's settings, and guesses what a step costs.
        """
        return ()

    def __init__(self, config: Any, run: RunInfo) -> None:
        self.config = config
        self.run = run
