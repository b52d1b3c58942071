"""What a task is: one object that says what is learned, from which data, and what comes of it.

A task is found by its entry point in the group `lannunet.tasks` and chosen by `task:` in the YAML:

    [project.entry-points."lannunet.tasks"]
    boxes = "my_package.task:Boxes"

The module of the class imports without torch; a method imports what it needs when it is called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.config.problems import Value
from lannunet_core.config.schema import KeyPath, RunConfig
from lannunet_core.config.yaml import Entry
from lannunet_core.errors import UserError
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.defaults import Defaults
from lannunet_core.plugins.hooks import Hooks

if TYPE_CHECKING:
    import torch
    from lightning_fabric import Fabric

    from lannunet_core.hookspecs import Sampling
    from lannunet_core.plan import Plan, PlanRequest
    from lannunet_core.run.session import Session
    from lannunet_core.testing.bench import Bench

Validated = float | Mapping[str, float | Sequence[str]] | None
"""The validation error, whose unit does not matter; beside other figures it is `validation_error`; None where
there is nothing to validate on. A list of names, such as of what has not been learned yet, is reported and
recorded with them."""


class TrainingSet(Protocol):
    """A data set whose items are asked for by (epoch, draw, index). Its items travel from loader workers."""

    @property
    def sampling(self) -> Sampling:
        """Where samples are cut."""

    @property
    def entries(self) -> Sequence[Any]:
        """The data set's own record of each sample."""

    @property
    def fills(self) -> Mapping[str, float]:
        """What lies beyond a smaller item of a batch, by key; 0 where nothing is said."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: tuple[int, int, int]) -> dict[str, Any]: ...

    def on_device(self, batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
        """A collated batch as the network gets it: moved, and augmented unless the workers did so."""


S = TypeVar("S", bound="Session", contravariant=True)


class Work(Protocol[S]):
    """What a task provides to a run: its data, its samples, how far off a model is, and its results."""

    def describe(self, device: str) -> RunInfo:
        """What plugins receive of the run."""

    def read(self, session: S) -> None:
        """Read all that the run will use, so that what is damaged is not found after hours of training."""

    def training_samples(self, session: S) -> TrainingSet: ...

    def validation(self, session: S) -> Callable[[], Validated] | None:
        """Gives the model's present error; None: nothing is held out."""

    def evaluate(
        self, session: S, history: list[dict[str, Any]], resolved: dict[str, Any], description: dict[str, Any]
    ) -> dict[str, Any]:
        """Predict the evaluated split, write all results, and answer the summary."""


@dataclass(frozen=True)
class Stage:
    """What a second stage is read from.

    Attributes:
        entries: Of its configuration.
        fixed: The keys that the first stage sets.
    """

    entries: Sequence[Entry]
    fixed: tuple[KeyPath, ...]


@dataclass(frozen=True)
class PredictRequest:
    """What `lannunet predict` was asked for.

    Attributes:
        model: A model file, a run's folder, or the folder of a cross-validated run.
        images: Image files, and folders of them.
        folder: Where results go.
        also: Additional models, to predict together with the first.
        spacing: mm per pixel where the files do not say.
        calibration: What `lannunet calibrate` wrote.
        coverage: The probability with which a region is to hold the truth.
        tta: Whether to predict mirrored images too; None: as the model's configuration says.
        overwrite: Replace earlier results there.
        plugins: Files with plugins that the user trusts.
        save_probabilities: Also write those of all outputs.
        postprocess: Post-process as a cross-validation of the model has shown to help.
        device: As `trainer.device`.
        format: A further format of results, by a name of the task.
    """

    model: Path
    images: Sequence[Path]
    folder: Path
    also: Sequence[Path] = ()
    spacing: float | None = None
    calibration: Path | None = None
    coverage: float | None = None
    tta: bool | None = None
    overwrite: bool = False
    plugins: Sequence[Path] = ()
    save_probabilities: bool = False
    postprocess: bool = False
    device: str = "auto"
    format: str | None = None

    def refuse(self, task: str, *names: str) -> None:
        """Refuse options that mean nothing in a task."""
        for name in names:
            if getattr(self, name) not in (None, (), False):
                option = name.replace("_", "-")
                raise UserError(
                    f"--{option}: means nothing for {self.model}, of `task: {task}`; leave it out."
                )


class Predictor(Protocol):
    """A trained model, loaded once; `lannunet.load` gives it to users. Several threads may call it."""

    @property
    def session(self) -> Session:
        """Says what the model is: task, outputs, channels, dimensions."""

    def predict(self, images: Sequence[Any], spacing: float | Sequence[float] | None) -> Sequence[Any]:
        """An answer for each image, without a file; a task may take additional options by name.

        Args:
            images: NumPy arrays, tensors, Pillow's or SimpleITK's images, or paths.
            spacing: mm per pixel (x, y[, z]) of those that do not say it themselves.
        """


class Task(ABC):
    """Base class of a task; one object serves every run.

    Attributes:
        name: As in `task:`, set when it is loaded.
        config: Its configuration. Its `model` section says the default architecture, if there is one.
        hooks: The hooks that its runs ask for, typed.
        defaults: The defaults at the bottom.
        error_unit: Unit of the validation error, for people; empty: it has none.
        hookspecs: Modules with specifications of its own, beside the core's.
        names: Keys that choose by name, each with the hook with which plugins provide additional names, and
            the task's own.
    """

    name: str
    config: ClassVar[type[RunConfig]]
    hooks: ClassVar[type[Hooks]] = Hooks
    defaults: ClassVar[type[Defaults]]
    error_unit: ClassVar[str] = ""
    hookspecs: ClassVar[tuple[ModuleType, ...]] = ()
    names: ClassVar[Mapping[str, tuple[str, tuple[str, ...]]]] = {}

    # The configuration

    def translate(self, key: str, value: Any, foreign: bool) -> tuple[str, Any, str | None]:
        """Our key and value for one of a predecessor's, and what to tell the user, if anything.

        Args:
            key: Dotted, lower-case.
            value: As written.
            foreign: Whether the key is written in upper case, as LaNNU-Net's are.
        """
        return key, value, None

    def convert(self, values: Mapping[str, Any], foreign: Collection[str]) -> Mapping[str, tuple[Any, str]]:
        """Our values for what a predecessor's YAML counts in other units, each with a remark that follows it.

        Args:
            values: By our spelling of their keys, dotted.
            foreign: The keys of those that are written in upper case; there are some.
        """
        return {}

    def why_dropped(self, key: str) -> str | None:
        """Why an unknown key is ignored with a warning; None: it is an error."""
        return None

    def import_config(self, path: Path) -> tuple[str, list[tuple[str, str]]]:
        """A predecessor's YAML as ours, and the keys that were dropped, each with the reason."""
        raise UserError(f"task {self.name} imports no configurations of other programs.")

    def stage(
        self, written: Sequence[Entry], values: Mapping[KeyPath, Value], first: RunConfig, path: Path
    ) -> Stage:
        """What a second stage (the key `refine`) is read from.

        Args:
            written: All entries of the configuration.
            values: Those that count, by our spelling of their keys.
            first: The first stage's configuration.
            path: Of the configuration, for messages.
        """
        raise UserError(f"{path}: refine: task {self.name} has no second stage.")

    @abstractmethod
    def check(self, loaded: LoadedConfig) -> None:
        """Open the data set's own files, and refuse what `lannunet train` would before its first image.

        `check_names` does so for names.

        Raises:
            UserError: Something named in the configuration does not exist, or does not go together.
        """

    # A run

    @abstractmethod
    def start_session(self, loaded: LoadedConfig, run: RunInfo, fabric: Fabric) -> Session:
        """Plugins, network and loss of a run; the same seed gives the same weights."""

    @abstractmethod
    def train(self, loaded: LoadedConfig, *, resume: bool = False, overwrite: bool = False) -> Any:
        """Train as configured, then evaluate with the best model.

        With `resume` it continues with the run in the output folder, with `overwrite` it replaces it.
        """

    def as_trained(self, loaded: LoadedConfig, recorded: Mapping[str, Any]) -> LoadedConfig:
        """The configuration with what a run decides at its start, as a finished run recorded it."""
        return loaded

    def check_fold(self, loaded: LoadedConfig) -> None:  # noqa: B027  (most tasks have none)
        """Refuse a fold of a cross-validation that cannot be trained, before the first one is."""

    def after_folds(self, folders: Sequence[Path], base: Path) -> str | None:
        """What to tell the user after a cross-validation."""
        return None

    # A model in use

    @abstractmethod
    def predict(self, request: PredictRequest) -> Any:
        """Predict images with a trained model, and write what was found."""

    def load(
        self,
        model: Path,
        *,
        also: Sequence[Path] = (),
        tta: bool | None = None,
        plugins: Sequence[Path] = (),
        device: str = "auto",
    ) -> Predictor:
        """A trained model for use from Python; the arguments are those of `PredictRequest`."""
        raise UserError(f"{model}: task {self.name} predicts on the command line alone.")

    # Beside runs

    def read_dataset(self, path: Path) -> Any:
        """A data set of its own format."""
        raise UserError(f"{path}: task {self.name} reads no data set by itself.")

    def evaluate(self, predictions: Any, truth: Any) -> dict[str, Any]:
        """The figures of predictions, as its predictors answer them or in files, against annotations."""
        raise UserError(f"task {self.name} evaluates runs alone.")

    def recognises(self, dataset: Path) -> bool:
        """Whether a path looks like one of its data sets, for `lannunet plan`."""
        return False

    def dataset_name(self, dataset: Path) -> str:
        """What to call a YAML that is planned for a data set."""
        return dataset.resolve().stem

    def plan(self, request: PlanRequest) -> Plan:
        """A configuration with the reason of each choice, from an inspection of a data set."""
        raise UserError(f"task {self.name} makes no plans.")

    def bench(self) -> Bench | None:
        """What plugins are tried in by the conformance kit, with the task's suites; None: they are not."""
        return None
