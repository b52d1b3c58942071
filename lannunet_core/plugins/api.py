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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pluggy
from pydantic import BaseModel, ConfigDict

hookimpl = pluggy.HookimplMarker("lannunet")


class PluginConfig(BaseModel):
    """Base of a plugin's settings: unknown keys are refused, values do not change during a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def idle_keys(self, task: str) -> Mapping[str, str]:
        """The keys that do nothing beside the value of another one, each with that one.

        Keys of this section by their name (`{"radius": "shape"}`), others dotted (`{"model.gauss_sigma":
        "model.architecture"}`). A user who sets one is asked to remove it.
        """
        return {}


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
        regions: Where outputs may overlap, the label values of each, as it is written first; else empty.
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
    regions: tuple[tuple[int, ...], ...] = ()


class ImageReader(Protocol):
    """Reads the image files of one suffix. It travels to loader workers, so it pickles."""

    def __call__(self, path: Path) -> tuple[Any, Sequence[float] | None]:
        """An image file's pixels (C, [z,] y, x), a NumPy array, and mm per pixel (x, y[, z]) or None."""


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
        tasks: Names of those that the plugin serves; a run of another one refuses it before anything is made.
            None: every task.
        config: The validated section of the run's YAML, an instance of the class's own `Config`.
        run: What is known of the run.
    """

    Config: ClassVar[type[PluginConfig]] = PluginConfig
    tasks: ClassVar[tuple[str, ...] | None] = None

    @classmethod
    def suggestions(cls, task: str) -> Mapping[str, Any]:
        """Values for keys of the configuration where the user gives none, such as `{"solver.base_lr": 1e-3}`.

        Asked before anything else. What the user sets wins; of two plugins, the one listed last.
        """
        return {}

    @classmethod
    def image_readers(cls) -> Mapping[str, ImageReader]:
        """Readers of image files that the core does not read, or reads otherwise, by suffix (`.img`)."""
        return {}

    @classmethod
    def data_formats(cls, task: str) -> Mapping[str, Callable[..., Any]]:
        """Additional names for `dataset.format`, each with what opens such a data set.

        It takes, by name, what it needs of `config` (the `dataset` section), `fold` (of `trainer`) and
        `settings` (the plugin's own section), and returns the data set as the task knows it.
        """
        return {}

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
        """What `lannunet plan` chooses from for this architecture, the most capable network first.

        If no plugin implements the hook, it plans with the defaults of the architecture's settings, and
        guesses what a step costs.
        """
        return ()

    @classmethod
    def notes(cls, name: str, config: Any) -> Sequence[str]:
        """What to tell, before a run, a user who lists this extension by `name`, with this section.

        Such as what the program that an additional name comes from does otherwise.
        """
        return ()

    def __init__(self, config: Any, run: RunInfo) -> None:
        self.config = config
        self.run = run
