"""What a plugin is tested in: small runs of every shape that it claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args
from unittest import SkipTest

from lannunet_segmentation.schema import RunConfig as SegmentationRunConfig

from lannunet_core import __version__
from lannunet_core.config.schema import RunConfig
from lannunet_core.errors import UserError
from lannunet_core.hookspecs import BalancedLoss
from lannunet_core.plugins import discovery, manager
from lannunet_core.plugins.api import Plugin, PluginConfig, RunInfo, Task
from lannunet_core.plugins.installed import InstalledPlugin

if TYPE_CHECKING:
    from lannunet_core.config.loaded import ChosenPlugin
    from lannunet_core.run.session import Session


class Broken(AssertionError):
    """The plugin breaks a contract; the message says what was found."""


class NotClaimed(SkipTest):
    """The contract is about something that the plugin does not claim. pytest and unittest report a skip."""


@dataclass(frozen=True)
class Kind:
    """A kind of run that a plugin is tested in."""

    task: Task
    dimensions: int

    def __str__(self) -> str:
        return f"{self.dimensions}D" + (" segmentation" if self.task == "segmentation" else "")


class Subject:
    """A plugin under test. An author's test class sets these attributes.

    Which tasks it is tested in, its own `tasks` say.

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
        overfit_dice: Mean Dice from which, with `task: segmentation`, they do.
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
    overfit_dice: float = 0.7
    decoding_error: float = 0.1

    def perfect_outputs(self, labels: Mapping[str, Any], outputs: Any) -> Any:
        """What a perfect network would have answered; None stands for what minimises the plugin's own loss.

        Args:
            labels: Of the plugin's `generate_labels`.
            outputs: What the network did answer: the same nest, shapes and dtypes are wanted.
        """
        return None

    def add_files(self, dataset: Path) -> None:
        """Write what the plugin's `extra_maps` looks for in an nnU-Net folder, beside images and labels.

        Args:
            dataset: A folder of version 2 with imagesTr, labelsTr and dataset.json.
        """

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
        task: Task | None = None,
        channels: int = 1,
        landmarks: int = 2,
        supervised: int = 3,
        seed: int = 0,
    ) -> Session:
        """A run's plugins, network and loss, built as `lannunet train` builds them, on the CPU.

        The global random numbers are moved as the plugin moves them. With `task: segmentation`, there are as
        many classes beside the background as there would be landmarks. No task: the first that is served.
        """
        from lannunet_landmarks.session import start_session
        from lightning_fabric import Fabric

        from lannunet_core.config.loaded import LoadedConfig

        task = task or self.served_tasks()[0]
        size = self.size_2d if dimensions == 2 else self.size_3d
        config = self._config(task, size)
        architecture, *extensions = self._chosen()
        config.model.architecture = architecture.installed.name
        loaded = LoadedConfig(config, architecture, tuple(extensions), Path("conformance.yaml"), {})
        run = RunInfo(
            task=task,
            dimensions=dimensions,
            in_channels=channels,
            outputs=class_names(landmarks)
            if task == "segmentation"
            else tuple(f"landmark {n}" for n in range(landmarks)),
            input_size=size,
            spacing=None,
            supervised_resolutions=supervised,
            device="cpu",
            seed=seed,
        )
        session = start_session(loaded, run, Fabric(accelerator="cpu", devices=1))
        if task == "segmentation" and isinstance(session.learner.loss, BalancedLoss):
            with redirect_stdout(StringIO()):
                session.learner.loss.balance([1000 // 2**n for n in range(len(run.outputs))])
        return session

    def _config(self, task: Task, size: tuple[int, ...]) -> RunConfig:
        solver = {"loss_function": self.loss_function} if self.loss_function else {}
        both: dict[str, Any] = {"solver": solver, "output": {"output_dir": "conformance"}}
        if task == "segmentation":
            sampler = {"patch": {"sample_patch_size": size}}
            return SegmentationRunConfig.model_validate(
                {**both, "dataset": {"root": "conformance"}, "sampler": sampler}
            )
        return RunConfig.model_validate(
            {
                **both,
                "dataset": {"src_targets": "conformance.json"},
                "sampler": {"input_size": size},
                "inference": {"decoder": self.decoder} if self.decoder else {},
            }
        )

    def served_tasks(self) -> tuple[Task, ...]:
        """Those that the plugin, and the architecture it is laid over, both serve."""
        classes = [chosen.plugin_class for chosen in self._chosen()]
        tasks = tuple(task for task in get_args(Task) if all(task in found.tasks for found in classes))
        if not tasks:
            names = ", ".join(found.__name__ for found in classes)
            raise Broken(f"there is no task that all of {names} serve")
        return tasks

    def kinds(self, task: Task | None = None) -> Iterator[Kind]:
        """The kinds of runs that the plugin works in; that these are those it claims is a check.

        Args:
            task: Only those of this task.

        Raises:
            NotClaimed: The plugin does not serve it.
        """
        served = self.served_tasks()
        if task not in (None, *served):
            raise NotClaimed(f"`task: {task}` is not served")
        failures = {
            kind: self.failure(kind)
            for kind in (Kind(one, dimensions) for one in served for dimensions in (2, 3))
            if task in (None, kind.task)
        }
        if None not in failures.values():
            first = next(failure for failure in failures.values() if failure is not None)
            if task is not None and len(served) > 1 and refuses(first):
                raise NotClaimed(f"`task: {task}` is refused: {first}")
            raise first
        for kind, failure in failures.items():
            if failure is None:
                self.tried = kind
                yield kind
        self.tried = None

    tried: Kind | None = None
    """Which kind of run is being tested."""

    def failure(self, kind: Kind) -> Exception | None:
        """What building such a run and looking at one image raises."""
        import torch

        from lannunet_core.testing.running import isolated

        try:
            with isolated(), torch.no_grad():
                session = self.session(kind.dimensions, task=kind.task)
                session.learner.eval().network(torch.zeros(1, 1, *reversed(session.run.input_size)))
        except Exception as error:
            return error
        return None

    def _chosen(self) -> list[ChosenPlugin]:
        """The architecture, then the extension if the plugin is one."""
        from lannunet_core.config.loaded import ChosenPlugin

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


def class_names(count: int) -> tuple[str, ...]:
    """The background and so many classes."""
    return ("background", *(f"class {n}" for n in range(1, count + 1)))


def refuses(failure: Exception) -> bool:
    """Whether a plugin says that it does not do such a run."""
    return isinstance(failure, UserError) and not isinstance(failure, manager.WrongAnswer)


def claimed(flag: bool | None, works: bool, what: str, reason: str = "") -> None:
    """Raises `Broken` for what is claimed and does not work, `NotClaimed` for what is not claimed."""
    if works:
        return
    if flag:
        raise Broken(f"it claims {what}, but {reason}")
    raise NotClaimed(f"{what} is not claimed" + (f": {reason}" if reason else ""))
