"""The runs in which a plugin is tested: small ones of every shape that it claims, in every task it
supports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from lannunet_core.errors import UserError
from lannunet_core.plugins import discovery, manager, tasks
from lannunet_core.plugins.api import Plugin, PluginConfig, RunInfo
from lannunet_core.plugins.hooks import WrongAnswer
from lannunet_core.plugins.installed import InstalledPlugin
from lannunet_core.run.processes import now
from lannunet_core.task import Task
from lannunet_core.testing.bench import Bench
from lannunet_core.testing.outcomes import Broken, NotClaimed
from lannunet_core.testing.randomness import isolated
from lannunet_core.version import __version__

if TYPE_CHECKING:
    from lannunet_core.config.loaded import ChosenPlugin
    from lannunet_core.run.session import Session


@dataclass(frozen=True)
class Kind:
    """A kind of run that a plugin is tested in."""

    task: str
    dimensions: int

    def __str__(self) -> str:
        return f"{self.dimensions}D {self.task}"


class Subject:
    """A plugin under test. An author's test class sets these attributes.

    It is tested in all installed tasks that it supports (its own `tasks`), and that have a bench.

    Attributes:
        plugin: Entry-point name.
        config: Section in the YAML; a small model makes fast tests.
        architecture: For an extension, the installed architecture that it is applied on top of; None: a small
            one of the kit.
        task: Only this one of its tasks; None: all.
        loss_function: `solver.loss_function`, for a plugin that provides additional names.
        choices: Other dotted keys of the YAML whose value is a name that the plugin provides:
            `{"inference.decoder": "mine"}`.
        supports_2d: Whether it supports images. True claims it; False states that it does not, and then it
            must raise a UserError; None accepts either.
        supports_3d: Whether the plugin supports 3D, as for 2D.
        supports_patches: Whether its network accepts other image sizes than that of the run.
        supports_deep_supervision: Whether its network returns several resolutions if the run requests them.
        supports_weights: Whether its loss reads `labels["weight"]`.
        supports_learned_sigma: Whether its labels pass gradients to `sigmas`, in tasks that have them.
        size_2d: Image size (x, y) of the tests.
        size_3d: Volume size (x, y, z) of the tests.
        overfit_steps: Optimizer steps in which four images must be learned.
        overfit_goals: The metric by which they count as learned, by task; by default the bench's own.
        decoding_error: Largest distance in pixels of decoded perfect outputs from their points.
    """

    plugin: str
    config: ClassVar[Mapping[str, Any]] = {}
    architecture: str | None = None
    task: str | None = None
    loss_function: str | None = None
    choices: ClassVar[Mapping[str, str]] = {}
    supports_2d: bool | None = True
    supports_3d: bool | None = True
    supports_patches: bool | None = True
    supports_deep_supervision: bool | None = True
    supports_weights: bool | None = True
    supports_learned_sigma: bool | None = True
    size_2d: tuple[int, int] = (64, 48)
    size_3d: tuple[int, int, int] = (32, 24, 16)
    overfit_steps: int = 300
    overfit_goals: ClassVar[Mapping[str, float]] = {}
    decoding_error: float = 0.1

    def perfect_outputs(self, labels: Mapping[str, Any], outputs: Any) -> Any:
        """The outputs of a perfect network; None: those that minimise the plugin's own loss are used.

        Args:
            labels: Labels of the run.
            outputs: Outputs of the network: the result must have the same nest, shapes and dtypes.
        """
        return None

    def installed(self) -> InstalledPlugin:
        return discovery.find(self.plugin)

    def plugin_class(self) -> type[Plugin]:
        return self.installed().load()

    def chosen(self) -> dict[str, str]:
        """The chosen names, by the key of the YAML."""
        named = {"solver.loss_function": self.loss_function} if self.loss_function else {}
        return {**self.choices, **named}

    def answers(self, *hooks: str) -> bool:
        """Whether the plugin, or the architecture under it, implements one of these hooks."""
        return any(
            hook in manager.implemented_hooks(chosen.plugin_class)
            for chosen in self._plugins()
            for hook in hooks
        )

    def has_own_outputs(self, task: str) -> bool:
        """Whether its runs use other labels or losses than the task's, so that only they define the
        outputs."""
        named = "solver.loss_function" in self.chosen() and self.answers("losses")
        return named or self.answers("loss", *bench_of(task).label_hooks)

    def session(
        self,
        dimensions: int,
        *,
        task: str | None = None,
        channels: int = 1,
        things: int = 2,
        supervised: int = 3,
        seed: int = 0,
    ) -> Session:
        """A run's plugins, network and loss, built like in `lannunet train`, on the CPU.

        The global random generators are changed only by the plugin.

        Args:
            dimensions: D.
            task: Name of the task; None: the first that is supported.
            channels: C.
            things: Number of objects to be found.
            supervised: Resolutions.
            seed: Seed of the run.
        """

        from lannunet_core.config.loaded import LoadedConfig

        task = task or self.served_tasks()[0]
        bench = bench_of(task)
        size: tuple[int, ...] = self.size_2d if dimensions == 2 else self.size_3d
        architecture, *extensions = self._plugins()
        keys = {
            "task": task,
            "model.architecture": architecture.installed.name,
            "output.output_dir": "conformance",
            **self.chosen(),
        }
        loaded = LoadedConfig(
            tasks.find(task).config.model_validate(bench.configuration(size, keys)),
            architecture,
            tuple(extensions),
            Path("conformance.yaml"),
            {},
        )
        run = RunInfo(
            task=task,
            dimensions=dimensions,
            in_channels=channels,
            outputs=bench.outputs(things),
            input_size=size,
            spacing=None,
            supervised_resolutions=supervised,
            device="cpu",
            seed=seed,
        )
        session = tasks.find(task).start_session(loaded, run, now().make_fabric(accelerator="cpu", devices=1))
        with redirect_stdout(StringIO()):
            bench.prepare(session)
        return session

    def served_tasks(self) -> tuple[str, ...]:
        """The tasks that are installed with a bench, and that both the plugin and its architecture support.

        Raises:
            Broken: There is no task that both could support.
            NotClaimed: None of them is installed with a bench.
        """
        classes = [chosen.plugin_class for chosen in self._plugins()]
        tried = [task.name for task in tasks.every() if task.bench() is not None]
        declared = [set(found.tasks) for found in classes if found.tasks is not None]
        common = set.intersection(*declared) if declared else set(tried)
        if declared and not common:
            names = ", ".join(found.__name__ for found in classes)
            raise Broken(f"there is no task that all of {names} serve")
        served = tuple(name for name in tried if name in common and self.task in (None, name))
        if not served:
            wanted = " or ".join(f"`task: {name}`" for name in sorted(common)) or "any task"
            if self.task is not None:
                raise NotClaimed(f"`task: {self.task}` is not served")
            raise NotClaimed(f"plugins are not tried in {wanted}: it is not installed, or has no bench")
        return served

    def kinds(self) -> Iterator[Kind]:
        """The kinds of runs that the plugin works in; another check compares them with its claims.

        Raises:
            NotClaimed: It supports none of the tasks.
        """
        failures = self.failures
        if None not in failures.values():
            first = next(failure for failure in failures.values() if failure is not None)
            if self.task is not None and refuses(first) and self.plugin_class().tasks != (self.task,):
                raise NotClaimed(f"`task: {self.task}` is refused: {first}")
            raise first
        for kind, failure in failures.items():
            if failure is None:
                self.tried = kind
                yield kind
        self.tried = None

    tried: Kind | None = None
    """The kind of run that is being tested."""

    @cached_property
    def failures(self) -> dict[Kind, Exception | None]:
        """The failure of every kind of run, cached as all checks need it and building takes a while."""
        kinds = [Kind(task, dimensions) for task in self.served_tasks() for dimensions in (2, 3)]
        return {kind: self.failure(kind) for kind in kinds}

    def failure(self, kind: Kind) -> Exception | None:
        """The exception of building such a run and predicting one image, or None."""
        try:
            with isolated(), torch.no_grad():
                session = self.session(kind.dimensions, task=kind.task)
                session.learner.eval()
                session.learner.outputs(bench_of(kind.task).make_batch(session, 1, 0))
        except Exception as error:
            return error
        return None

    def _plugins(self) -> list[ChosenPlugin]:
        """The architecture, and the extension if the plugin is one."""
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

        ours = InstalledPlugin("probe", "lannunet-core", __version__, "lannunet_core.testing.probe:Probe")
        return [ChosenPlugin(ours, Probe, PluginConfig()), subject]


def bench_of(task: str) -> Bench:
    """The bench of an installed task that has one."""
    bench = tasks.find(task).bench()
    assert bench is not None, f"task {task} has no bench"
    return bench


def tasks_of(subject: Subject) -> list[Task]:
    """All installed tasks that the plugin supports, with or without a bench."""
    served = subject.plugin_class().tasks
    return [task for task in tasks.every() if served is None or task.name in served]


def refuses(failure: Exception) -> bool:
    """Whether the failure means that a plugin does not support such a run."""
    return isinstance(failure, UserError) and not isinstance(failure, WrongAnswer)
