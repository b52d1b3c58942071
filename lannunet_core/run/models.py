"""Find and open trained models."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lightning_fabric import Fabric

from lannunet_core.config.compose import load_resolved
from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.errors import UserError
from lannunet_core.plugins import recorded
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.references import located
from lannunet_core.run.checkpoint import best_model, load_checkpoint, load_weights
from lannunet_core.run.session import Session, make_fabric

S = TypeVar("S", bound=Session)


def open_model(
    path: Path,
    start: Callable[[LoadedConfig, RunInfo, Fabric], S],
    change: Callable[[LoadedConfig], LoadedConfig] = lambda loaded: loaded,
    plugins: Sequence[Path] = (),
    device: str | Fabric = "auto",
    task: str | None = None,
) -> S:
    """Open a trained model on the device.

    Args:
        path: A model file or a run's folder.
        start: Starts a session, like `Task.start_session`.
        change: Changes the model's configuration before it is used.
        plugins: Trusted plugin files.
        device: As `trainer.device`, or the device of another model.
        task: Required task of the model; None: any task.

    Raises:
        UserError: Plugins of the model are missing, or have another major version; or it has another task.
    """
    trained = load_checkpoint(path)
    found = trained.run_info().task
    if task is not None and found != task:
        raise UserError(f"{path}: is a model of `task: {found}`. Name one of `task: {task}`.")
    recorded.require(trained.plugins, str(path))
    loaded = change(load_resolved(trained.config, str(path), plugins))
    fabric = make_fabric(loaded.run, device) if isinstance(device, str) else device
    run = replace(trained.run_info(), device=fabric.device.type)
    session = start(loaded, run, fabric)
    load_weights(session.learner, trained, run, loaded.architecture.installed.name, path)
    session.recall(trained.learned)
    fabric.to_device(session.learner)
    return session


def folds_of(folder: Path) -> list[Path]:
    """The best model of each fold of a cross-validated run."""
    folds = [path for path in folder.glob("fold*") if path.name[4:].isdecimal()]
    models = [best_model(path) for path in sorted(folds, key=lambda path: int(path.name[4:]))]
    return [model for model in models if model is not None]


def models_of(path: Path) -> list[Path]:
    """The model at a path, or those of all folds of a cross-validated run."""
    path = located(path)
    return [path] if path.is_file() or best_model(path) else folds_of(path) or [path]
