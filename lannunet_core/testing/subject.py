"""What a plugin is tested in: small runs of every shape that it claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import SkipTest

from lannunet_core import __version__
from lannunet_core.config.schema import RunConfig
from lannunet_core.plugins import discovery, manager
from lannunet_core.plugins.api import Plugin, PluginConfig, RunInfo
from lannunet_core.plugins.discovery import InstalledPlugin

if TYPE_CHECKING:
    from lannunet_core.config.compose import ChosenPlugin
    from lannunet_core.training.session import Session


class Broken(AssertionError):
    """The plugin breaks a contract; the message says what was found."""


class NotClaimed(SkipTest):
    """The contract is about something that the plugin does not claim. pytest and unittest report a skip."""


class Subject:
    """A plugin under test. An author's test class sets these attributes.

    Attributes:
        plugin: Its entry-point name.
        config: Its section of the YAML; a small model makes quick tests.
        architecture: For an extension, the installed architecture that it is laid over; None: a small one of
            the kit's own.
        loss_function: `solver.loss_function`, for a plugin that brings further names.
        decoder: `inference.decoder`, likewise.
        supports_2d: Whether it does images. True claims it; False says that it does not, and then it must say
            so itself with a UserError; None takes such a UserError for an answer.
        supports_3d: Whether it does volumes, likewise.
        supports_patches: Whether its network takes other image sizes than that of the run.
        supports_deep_supervision: Whether its network gives several resolutions when the run asks for them.
        supports_weights: Whether its loss reads `labels["weight"]`.
        supports_learned_sigma: Whether its labels carry gradients to `sigmas`.
        size_2d: Image size (x, y) of the tests.
        size_3d: Volume size (x, y, z) of the tests.
        overfit_steps: Optimizer steps in which four images must be learned.
        overfit_error: Mean error in pixels by which they count as learned.
        decoding_error: Pixels by which perfect outputs may miss their landmarks.
    """

    plugin: str
    config: ClassVar[Mapping[str, Any]] = {}
    architecture: str | None = None
    loss_function: str | None = None
    decoder: str | None = None
    supports_2d: bool | None = True
    supports_3d: bool | None = True
    supports_patches: bool | None = True
    supports_deep_supervision: bool | None = True
    supports_weights: bool | None = True
    supports_learned_sigma: bool | None = True
    size_2d: tuple[int, int] = (64, 48)
    size_3d: tuple[int, int, int] = (32, 24, 16)
    overfit_steps: int = 300
    overfit_error: float = 1.0
    decoding_error: float = 0.1

    def perfect_outputs(self, labels: Mapping[str, Any], outputs: Any) -> Any:
        """What a perfect network would have answered; None stands for what minimises the plugin's own loss.

        Args:
            labels: Of the plugin's `generate_labels`.
            outputs: What the network did answer: the same nest, shapes and dtypes are wanted.
        """
        return None

    def installed(self) -> InstalledPlugin:
        return discovery.find(self.plugin)

    def plugin_class(self) -> type[Plugin]:
        return self.installed().load()

    def answers(self, *hooks: str) -> bool:
        """Whether the plugin, or the architecture it is laid over, has a say in one of these hooks."""
        return any(
            hook in manager.implemented_hooks(chosen.plugin_class)
            for chosen in self._chosen()
            for hook in hooks
        )

    def has_own_outputs(self) -> bool:
        """Whether labels or loss of its runs are not the core's: then only they know what outputs mean."""
        named = self.loss_function is not None and self.answers("losses")
        return named or self.answers("generate_labels", "loss")

    def has_own_decoder(self) -> bool:
        named = self.decoder is not None and self.answers("decoders")
        return named or self.answers("get_coords_from_heatmap")

    def session(
        self,
        dimensions: int,
        *,
        channels: int = 1,
        landmarks: int = 2,
        supervised: int = 3,
        seed: int = 0,
    ) -> Session:
        """A run's plugins, network and loss, built as `lannunet train` builds them, on the CPU.

        The global random numbers are moved as the plugin moves them.
        """
        from lightning_fabric import Fabric

        from lannunet_core.config.compose import LoadedConfig
        from lannunet_core.training.session import start_session

        size = self.size_2d if dimensions == 2 else self.size_3d
        names: dict[str, dict[str, Any]] = {
            "solver": {"loss_function": self.loss_function},
            "inference": {"decoder": self.decoder},
        }
        named = {
            section: {key: name for key, name in keys.items() if name} for section, keys in names.items()
        }
        config = RunConfig.model_validate(
            {
                "dataset": {"src_targets": "conformance.json"},
                "output": {"output_dir": "conformance"},
                "sampler": {"input_size": size},
                **named,
            }
        )
        architecture, *extensions = self._chosen()
        config.model.architecture = architecture.installed.name
        loaded = LoadedConfig(config, architecture, tuple(extensions), Path("conformance.yaml"), {})
        run = RunInfo(
            task="landmarks",
            dimensions=dimensions,
            in_channels=channels,
            outputs=tuple(f"landmark {n}" for n in range(landmarks)),
            input_size=size,
            spacing=None,
            supervised_resolutions=supervised,
            device="cpu",
            seed=seed,
        )
        return start_session(loaded, run, Fabric(accelerator="cpu", devices=1))

    def dimensions(self) -> Iterator[int]:
        """The numbers of dimensions that the plugin works in; that these are those it claims is a check."""
        failures = {dimensions: self.failure(dimensions) for dimensions in (2, 3)}
        if failures[2] is not None and failures[3] is not None:
            raise failures[2]
        yield from (dimensions for dimensions, failure in failures.items() if failure is None)

    def failure(self, dimensions: int) -> Exception | None:
        """What building a run of so many dimensions and looking at one image raises."""
        import torch

        from lannunet_core.testing.running import isolated

        try:
            with isolated(), torch.no_grad():
                session = self.session(dimensions)
                session.learner.eval().network(torch.zeros(1, 1, *reversed(session.run.input_size)))
        except Exception as error:
            return error
        return None

    def _chosen(self) -> list[ChosenPlugin]:
        """The architecture, then the extension if the plugin is one."""
        from lannunet_core.config.compose import ChosenPlugin

        def chosen(installed: InstalledPlugin, config: Mapping[str, Any]) -> ChosenPlugin:
            plugin_class = installed.load()
            return ChosenPlugin(installed, plugin_class, plugin_class.Config.model_validate(config))

        subject = chosen(self.installed(), self.config)
        if manager.implemented_hooks(subject.plugin_class).get("network") is False:
            return [subject]
        if self.architecture is not None:
            return [chosen(discovery.find(self.architecture), {}), subject]
        from lannunet_core.testing.probe import Probe

        ours = InstalledPlugin(
            "probe", (), "lannunet-core", __version__, "lannunet_core.testing.probe:Probe", None
        )
        return [ChosenPlugin(ours, Probe, PluginConfig()), subject]


def claimed(flag: bool | None, works: bool, what: str, reason: str = "") -> None:
    """Raises `Broken` for what is claimed and does not work, `NotClaimed` for what is not claimed."""
    if works:
        return
    if flag:
        raise Broken(f"it claims {what}, but {reason}")
    raise NotClaimed(f"{what} is not claimed" + (f": {reason}" if reason else ""))
