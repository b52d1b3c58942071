"""The definition of a task: its data, its labels, and its results.

A task is found by its entry point in the group `lannunet.tasks` and chosen by `task:` in the YAML:

    [project.entry-points."lannunet.tasks"] boxes = "my_package.task:Boxes"

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
"""The validation error, in any unit, named `validation_error` if there are other metrics; None: there is
nothing to validate on. A list of names, such as outputs that are not learned yet, is printed and recorded
with them."""


class TrainingSet(Protocol):
    """A data set indexed by (epoch, draw, index). Its items are sent from loader workers."""

    @property
    def sampling(self) -> Sampling:
        """The positions of samples in their images."""

    @property
    def entries(self) -> Sequence[Any]:
        """The data set's own record of each sample."""

    @property
    def fills(self) -> Mapping[str, float]:
        """Padding values of smaller items in a batch, by key; 0 by default."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: tuple[int, int, int]) -> dict[str, Any]: ...

    def on_device(self, batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
        """A collated batch on the device, as the network gets it, augmented unless the workers did so."""


S = TypeVar("S", bound="Session", contravariant=True)


class Work(Protocol[S]):
    """The task's part of a run: its data, its samples, its validation and its results."""

    def describe(self, device: str) -> RunInfo:
        """The description of the run for plugins."""

    def read(self, session: S) -> None:
        """Read everything that the run will use, so that damaged files are found before the training."""

    def training_samples(self, session: S) -> TrainingSet: ...

    def validation(self, session: S) -> Callable[[], Validated] | None:
        """A function that returns the model's current error; None: there is no validation data."""

    def evaluate(
        self, session: S, history: list[dict[str, Any]], resolved: dict[str, Any], description: dict[str, Any]
    ) -> dict[str, Any]:
        """Predict the evaluated split, write all results, and return the summary."""


@dataclass(frozen=True)
class Stage:
    """The configuration of a second stage.

    Attributes:
        entries: Entries of its configuration.
        fixed: The keys that the first stage sets.
    """

    entries: Sequence[Entry]
    fixed: tuple[KeyPath, ...]


@dataclass(frozen=True)
class PredictRequest:
    """The request of `lannunet predict`.

    Attributes:
        model: A model file, a run's folder, or the folder of a cross-validated run.
        images: Image files, and folders of them.
        folder: Folder of the results.
        also: Additional models of an ensemble.
        spacing: mm per pixel, for files that do not state it.
        calibration: File of `lannunet calibrate`.
        coverage: The probability with which a region contains the truth.
        tta: Whether to predict mirrored images too; None: as configured in the model.
        overwrite: Replace earlier results there.
        plugins: Trusted plugin files.
        save_probabilities: Also write the probabilities of all outputs.
        postprocess: Apply the post-processing that helped in a cross-validation of the model.
        device: As `trainer.device`.
        format: Additional format of results, by a name of the task.
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
        """Raise a UserError for options without a meaning in a task."""
        for name in names:
            if getattr(self, name) not in (None, (), False):
                option = name.replace("_", "-")
                raise UserError(
                    f"--{option}: has no meaning for {self.model}, of `task: {task}`; leave it out."
                )


class Predictor(Protocol):
    """A trained model, loaded once; `lannunet.load` returns it. Several threads may call it."""

    @property
    def session(self) -> Session:
        """The session of the model: task, outputs, channels, dimensions."""

    def predict(self, images: Sequence[Any], spacing: float | Sequence[float] | None) -> Sequence[Any]:
        """Predict each image, without writing a file; a task may take additional options by name.

        Args:
            images: NumPy arrays, tensors, Pillow's or SimpleITK's images, or paths.
            spacing: mm per pixel (x, y[, z]) of images that do not state it themselves.
        """


class Task(ABC):
    """Base class of a task; one object is used for every run.

    Attributes:
        name: Value of `task:`, set when it is loaded.
        config: Class of its configuration; its `model` section may have a default architecture.
        hooks: Hooks that its runs call, typed.
        defaults: Default implementations.
        error_unit: Unit of the validation error in messages; empty: it has none.
        hookspecs: Modules with its own specifications, in addition to the core's.
        names: Keys whose value is a name, each with the hook for additional names, and the task's own names.
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
        """Our key and value for one of a predecessor, and a message for the user, or None.

        Args:
            key: Dotted, lower-case.
            value: As written.
            foreign: Whether the key is written in upper case, as LaNNU-Net's are.
        """
        return key, value, None

    def convert(self, values: Mapping[str, Any], foreign: Collection[str]) -> Mapping[str, tuple[Any, str]]:
        """Convert values that a predecessor's YAML defines in other units, each with a remark.

        Args:
            values: Values by our dotted keys.
            foreign: The keys that are written in upper case, at least one.
        """
        return {}

    def why_dropped(self, key: str) -> str | None:
        """Why an unknown key is ignored with a warning; None: it is an error."""
        return None

    def import_config(self, path: Path) -> tuple[str, list[tuple[str, str]]]:
        """Convert a predecessor's YAML to ours; also return the dropped keys, each with the reason."""
        raise UserError(f"task {self.name} imports no configurations of other programs.")

    def stage(
        self, written: Sequence[Entry], values: Mapping[KeyPath, Value], first: RunConfig, path: Path
    ) -> Stage:
        """The configuration of a second stage (the key `refine`).

        Args:
            written: All entries of the configuration.
            values: The effective ones, by our spelling of their keys.
            first: The first stage's configuration.
            path: Path of the configuration, for messages.
        """
        raise UserError(f"{path}: refine: task {self.name} has no second stage.")

    @abstractmethod
    def check(self, loaded: LoadedConfig) -> None:
        """Open the data set's own files, and raise the errors that `lannunet train` would raise.

        `check_names` does the same for names.

        Raises:
            UserError: Something in the configuration does not exist, or is inconsistent.
        """

    # A run

    @abstractmethod
    def start_session(self, loaded: LoadedConfig, run: RunInfo, fabric: Fabric) -> Session:
        """Start a run with plugins, network and loss; the same seed gives the same weights."""

    @abstractmethod
    def train(self, loaded: LoadedConfig, *, resume: bool = False, overwrite: bool = False) -> Any:
        """Train as configured, then evaluate with the best model.

        With `resume` the run in the output folder is continued, with `overwrite` it is replaced.
        """

    def as_trained(self, loaded: LoadedConfig, recorded: Mapping[str, Any]) -> LoadedConfig:
        """The configuration with the values that a finished run determined at its start."""
        return loaded

    def check_fold(self, loaded: LoadedConfig) -> None:  # noqa: B027  (most tasks have none)
        """Raise a UserError for a fold that cannot be trained, before the first fold is trained."""

    def after_folds(self, folders: Sequence[Path], base: Path) -> str | None:
        """A message for the user after a cross-validation."""
        return None

    # A model in use

    @abstractmethod
    def predict(self, request: PredictRequest) -> Any:
        """Predict images with a trained model, and write the results."""

    def load(
        self,
        model: Path,
        *,
        also: Sequence[Path] = (),
        tta: bool | None = None,
        plugins: Sequence[Path] = (),
        device: str = "auto",
    ) -> Predictor:
        """Load a trained model for Python; the arguments are those of `PredictRequest`."""
        raise UserError(f"{model}: task {self.name} predicts only on the command line.")

    # Outside of runs

    def read_dataset(self, path: Path) -> Any:
        """Open a data set of its own format."""
        raise UserError(f"{path}: task {self.name} reads no data set by itself.")

    def evaluate(self, predictions: Any, truth: Any) -> dict[str, Any]:
        """The metrics of predictions, from its predictors or from files, against annotations."""
        raise UserError(f"task {self.name} evaluates only runs.")

    def recognises(self, dataset: Path) -> bool:
        """Whether a path seems to be one of its data sets, for `lannunet plan`."""
        return False

    def dataset_name(self, dataset: Path) -> str:
        """The name of a planned YAML for a data set."""
        return dataset.resolve().stem

    def plan(self, request: PlanRequest) -> Plan:
        """A configuration with the reason of each choice, from an inspection of a data set."""
        raise UserError(f"task {self.name} makes no plans.")

    def bench(self) -> Bench | None:
        """The task's runs and test classes for the conformance kit; None: plugins are not tested in it."""
        return None
