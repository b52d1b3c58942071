"""The Python API: the functions that the distribution `lannunet` exports.

Only `train` writes files, into the configuration's output folder. Wrong input raises a `UserError`, a run
that cannot continue a `RunFailed`; both are `LannunetError`s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from lannunet_core.errors import UserError
from lannunet_core.plugins import discovery, missing, tasks
from lannunet_core.run.progress import Listener, telling_progress
from lannunet_core.task import Predictor, Task

if TYPE_CHECKING:
    from lannunet_core.config.loaded import LoadedConfig
    from lannunet_core.plan import Plan
    from lannunet_core.plugins.api import RunInfo
    from lannunet_core.plugins.installed import InstalledPlugin

AnyPath = str | PathLike[str]
A = TypeVar("A")

DEFAULT_GB = 4.0
SHARE_OF_GPU = 0.8  # the rest is for the driver and fragmentation


class Model(Generic[A]):
    """A trained model in memory, of any task; `A` is what it returns for an image.

    Several threads may predict with it; their calls run one after the other.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    @property
    def about(self) -> RunInfo:
        """Its task, the names of its outputs, its dimensions, channels and device."""
        return self._predictor.session.run

    @overload
    def predict(
        self,
        images: list[Any] | tuple[Any, ...],
        *,
        spacing: float | Sequence[float] | None = None,
        progress: Listener | None = None,
        **options: Any,
    ) -> list[A]: ...

    @overload
    def predict(
        self,
        images: Any,
        *,
        spacing: float | Sequence[float] | None = None,
        progress: Listener | None = None,
        **options: Any,
    ) -> A: ...

    def predict(
        self,
        images: Any,
        *,
        spacing: float | Sequence[float] | None = None,
        progress: Listener | None = None,
        **options: Any,
    ) -> Any:
        """Predict an image, or each image of a list; no file is written.

        Args:
            images: A NumPy array or tensor ([z,] y, x), with channels first, or last where the last axis has
                4 or fewer; an image of Pillow or SimpleITK; a path; or a list of them.
            spacing: mm per pixel, one number or (x, y[, z]), of images that do not state it themselves.
            progress: Called with a title, the number of finished steps, and their total.
            options: Options of the model's task.

        Raises:
            UserError: An image cannot be read, or does not match the images that the model was trained on.
        """
        several = isinstance(images, (list, tuple))
        with telling_progress(progress or _nothing):
            found = list(self._predictor.predict(images if several else [images], spacing, **options))
        return found if several else found[0]


def _nothing(title: str, done: int, total: int) -> None:
    """Progress without a listener."""


@overload
def load(
    model: AnyPath,
    *,
    also: Sequence[AnyPath] = ...,
    tta: bool | None = ...,
    plugins: Sequence[AnyPath] = ...,
    device: str = ...,
) -> Model[Any]: ...


@overload
def load(
    model: AnyPath,
    answer: type[A],
    *,
    also: Sequence[AnyPath] = ...,
    tta: bool | None = ...,
    plugins: Sequence[AnyPath] = ...,
    device: str = ...,
) -> Model[A]: ...


def load(
    model: AnyPath,
    answer: type[Any] | None = None,
    *,
    also: Sequence[AnyPath] = (),
    tta: bool | None = None,
    plugins: Sequence[AnyPath] = (),
    device: str = "auto",
) -> Model[Any]:
    """Load a trained model.

    Args:
        model: A run's folder, a model file, or the folder of a cross-validated run.
        answer: The class of its predictions, for type checkers.
        also: Additional models of an ensemble.
        tta: Whether to predict mirrored images too; None: as configured in the model.
        plugins: Trusted plugin files; their code runs.
        device: auto (the best available), cpu, cuda, cuda:1 or mps.

    Raises:
        UserError: The path is not a model, its plugins are missing, or it has another class of predictions.
    """
    path = Path(model)
    task = task_of_model(path)
    if answer is not None and getattr(answer, "task", task.name) != task.name:
        raise UserError(f"{path}: is a model of task {task.name}, which returns no {answer.__name__}.")
    return Model(task.load(path, also=_paths(also), tta=tta, plugins=_paths(plugins), device=device))


def task_of_model(path: Path) -> Task:
    """The task of a model file, or of a run's folder."""
    from lannunet_core.run import checkpoint
    from lannunet_core.run.models import models_of

    first = models_of(path)[0]
    return tasks.find(checkpoint.load_checkpoint(first).run["task"], str(first))


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: Folder with its model, which `load` takes, its tables and its report.
        results: The task's results of the evaluated split.
    """

    folder: Path
    results: Any


def train(
    config: AnyPath | Mapping[str, Any] | Plan | LoadedConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    plugins: Sequence[AnyPath] = (),
    progress: Listener | None = None,
) -> Trained:
    """Train, and evaluate with the best model.

    Args:
        config: Path of a YAML; nested dicts, with paths relative to the working directory; or a `plan`.
        resume: Continue with the run in the output folder.
        overwrite: Replace the run in the output folder.
        plugins: Trusted plugin files; their code runs.
        progress: Listener as in `Model.predict`; None: bars on the terminal.

    Raises:
        UserError: The configuration or the data are wrong.
        RunFailed: The run cannot continue.
    """
    import yaml

    from lannunet_core.config.compose import load_config, load_values
    from lannunet_core.config.loaded import LoadedConfig
    from lannunet_core.plan import Plan
    from lannunet_core.run.processes import taking_part

    if isinstance(config, LoadedConfig):
        loaded = config
    elif isinstance(config, (Mapping, Plan)):
        values = yaml.safe_load(str(config)) if isinstance(config, Plan) else config
        loaded = load_values(values, _paths(plugins))
    else:
        loaded = load_config(Path(config), plugins=_paths(plugins))
    with telling_progress(progress), taking_part(loaded.run.trainer):
        results = tasks.find(loaded.run.task).train(loaded, resume=resume, overwrite=overwrite)
    return Trained(loaded.run.output.output_dir, results)


def plan(
    data: AnyPath,
    *,
    folder: AnyPath = "",
    task: str | None = None,
    architecture: str | InstalledPlugin | None = None,
    memory_gb: float | None = None,
    minutes: float | None = None,
    gpu: bool | None = None,
    extensions: Sequence[str] = (),
) -> Plan:
    """A configuration for training on a data set, with the reason of each choice; its `str` is the YAML.

    Args:
        data: A folder or file that a task recognises.
        folder: Folder that relative paths in it start at.
        task: Name of the task; None: the task that recognises the data set.
        architecture: The plugin that provides the network; None: the task's default.
        memory_gb: Memory of a training step; None: 4, or most of the GPU's.
        minutes: Minutes of training; None: chosen from the data.
        gpu: Plan for a GPU or for the CPU; None: for this machine.
        extensions: Plugins to train with, by name.
    """
    from lannunet_core.config.choosing import default_architecture
    from lannunet_core.plan import PlanRequest, find_gpu

    dataset = Path(data)
    planner = task_of_dataset(dataset, task)
    wanted = architecture or default_architecture(planner)
    if not wanted:
        raise UserError(f"task {planner.name} has no default architecture: name one (architecture).")
    network = discovery.find(wanted) if isinstance(wanted, str) else wanted
    found_gpu = None if gpu is False else find_gpu()
    gpu_name, gpu_gb = found_gpu or ("", DEFAULT_GB / SHARE_OF_GPU)
    return planner.plan(
        PlanRequest(
            dataset,
            folder=Path(folder),
            architecture=(network, network.load()),
            memory_gb=memory_gb or round(SHARE_OF_GPU * gpu_gb, 1),
            minutes=minutes,
            gpu=gpu or found_gpu is not None,
            gpu_name=gpu_name,
            extensions={plugin: plugin.load() for plugin in map(discovery.find, extensions)},
        )
    )


def read_dataset(path: AnyPath, *, task: str | None = None) -> Any:
    """Read a data set with its task; see `plan` for the choice of the task."""
    return task_of_dataset(Path(path), task).read_dataset(Path(path))


def evaluate(predictions: Any, truth: Any, *, task: str | None = None, **options: Any) -> dict[str, Any]:
    """The metrics of predictions against annotations, as in `summary.json`.

    Args:
        predictions: What `Model.predict` returned for several images, or a file that the task recognises.
        truth: The annotations of these images in their order, or a data set.
        task: Name of the task; None: chosen by the predictions, or the data set.
        options: Options of the task.
    """
    first = predictions[0] if isinstance(predictions, Sequence) and predictions else None
    named = task or getattr(first, "task", None)
    if named is None and not isinstance(truth, (str, PathLike)):
        raise UserError("evaluate: name the task of these predictions, as in task='NAME'.")
    found = tasks.find(named, "task") if named else task_of_dataset(Path(truth))
    return found.evaluate(predictions, truth, **options)


def task_of_dataset(dataset: Path, named: str | None = None) -> Task:
    """The named task, or the task that recognises the data set."""
    if named:
        return tasks.find(named, "task")
    every = tasks.every()
    known = [task for task in every if task.recognises(dataset)]
    if len(known) == 1:
        return known[0]
    if not every:
        raise UserError(f"No task is installed. {missing.for_a_run(discovery.installed())}")
    if not known:
        raise UserError(
            f"{dataset}: no installed task makes a plan for it (tasks: {', '.join(t.name for t in every)}). "
            "Inspect the path, or name the task (task)."
        )
    raise UserError(f"{dataset}: may be for {' or '.join(t.name for t in known)}. Name the task (task).")


def _paths(given: Sequence[AnyPath]) -> tuple[Path, ...]:
    return tuple(map(Path, given))
