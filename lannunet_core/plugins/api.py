"""The names that a plugin author imports. Needs neither torch nor NumPy.

A complete plugin:

    from lannunet_core import Plugin, hookimpl

    class TinyNet(Plugin):
        @hookimpl def network(self):
            from torch import nn return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 9, padding=4)

and in its pyproject.toml:

    [project.entry-points."lannunet.plugins"] tiny = "my_package:TinyNet"
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pluggy
from pydantic import BaseModel, ConfigDict

hookimpl = pluggy.HookimplMarker("lannunet")


class PluginConfig(BaseModel):
    """Base of a plugin's settings: unknown keys are refused, values are constant during a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def idle_keys(self, task: str) -> Mapping[str, str]:
        """The keys without effect because of another key's value, each with that key.

        Keys of this section by their name (`{"radius": "shape"}`), others dotted (`{"model.gauss_sigma":
        "model.architecture"}`). A user who sets one is asked to remove it.
        """
        return {}


@dataclass(frozen=True)
class RunInfo:
    """A read-only description of the run of a plugin.

    Attributes:
        task: Name of the task.
        dimensions: D, 2 or 3.
        in_channels: C, channels of the image.
        outputs: Names of the network's output channels, in their order.
        input_size: Size of the tensor that the network is trained on, (x, y[, z]).
        spacing: mm per input pixel (x, y[, z]), the training set's median; None: unknown.
        supervised_resolutions: How many resolutions to supervise, 1 without deep supervision.
        device: `cpu`, `cuda` or `mps`.
        seed: The run's seed.
        regions: For overlapping outputs, the label values of each, the written one first; else empty.
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
    """Reads the image files of one suffix. It is sent to loader workers, so it must pickle."""

    def __call__(self, path: Path) -> tuple[Any, Sequence[float] | None]:
        """An image file's pixels (C, [z,] y, x), a NumPy array, and mm per pixel (x, y[, z]) or None."""


@dataclass(frozen=True)
class NetworkRequest:
    """The request of `lannunet plan` for networks of an architecture.

    Attributes:
        sides: Approximate size of an image or patch, (x, y[, z]).
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
    """A network that an architecture offers, and its cost.

    Attributes:
        size: Size (x, y[, z]) of the image or patch that it is trained on, close to the requested one.
        settings: The keys of the architecture's section, each with its value and the reason.
        products: Multiplications of a forward pass of one sample.
        numbers: Numbers that a forward pass of one sample stores for the backward pass.
    """

    size: tuple[int, ...]
    settings: Mapping[str, tuple[Any, str]]
    products: float
    numbers: float


class Plugin:
    """Base class of a plugin. The core creates one instance per run.

    Attributes:
        tasks: Names of the tasks that the plugin supports; other tasks' runs refuse it before anything is
            created. None: every task.
        config: The validated section of the run's YAML, an instance of the class's own `Config`.
        run: Description of the run.
    """

    Config: ClassVar[type[PluginConfig]] = PluginConfig
    tasks: ClassVar[tuple[str, ...] | None] = None

    @classmethod
    def suggestions(cls, task: str) -> Mapping[str, Any]:
        """Values for keys that the user does not set, such as `{"solver.base_lr": 1e-3}`.

        It is called before anything else. The user's values win; of two plugins, the one listed last.
        """
        return {}

    @classmethod
    def image_readers(cls) -> Mapping[str, ImageReader]:
        """Readers of image files that the core does not read, or reads differently, by suffix (`.img`)."""
        return {}

    @classmethod
    def data_formats(cls, task: str) -> Mapping[str, Callable[..., Any]]:
        """Additional names for `dataset.format`, each with a function that opens such a data set.

        The function takes, by name, those that it needs of `config` (the `dataset` section), `fold` (of
        `trainer`) and `settings` (the plugin's own section), and returns the data set in the task's form.
        """
        return {}

    @classmethod
    def plan(cls, image_size: Sequence[float], patch_size: Sequence[int]) -> Mapping[str, tuple[Any, str]]:
        """Keys that `lannunet plan` sets in this extension's section, each with its value and the reason.

        Args:
            image_size: Size of the median image, resampled as planned, (x, y[, z]).
            patch_size: Planned size of a patch, (x, y[, z]).
        """
        return {}

    @classmethod
    def networks(cls, request: NetworkRequest) -> Sequence[PlannedNetwork]:
        """The networks that `lannunet plan` can choose from for this architecture, the most capable first.

        If the plugin has none, the plan uses the architecture's default settings, and estimates the cost.
        """
        return ()

    @classmethod
    def notes(cls, name: str, config: Any) -> Sequence[str]:
        """Messages before a run for users who list this extension by `name`, with this section.

        For example, differences from the program that an additional name comes from.
        """
        return ()

    def __init__(self, config: Any, run: RunInfo) -> None:
        self.config = config
        self.run = run
