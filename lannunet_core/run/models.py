"""Trained models, found and opened for use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lightning_fabric import Fabric

from lannunet_core.config.loaded import LoadedConfig
from lannunet_core.plugins.api import RunInfo
from lannunet_core.run import checkpoint as model_file
from lannunet_core.run.checkpoint import BEST_MODEL
from lannunet_core.run.session import Session, make_fabric

S = TypeVar("S", bound=Session)


def open_model(
    path: Path,
    start: Callable[[LoadedConfig, RunInfo, Fabric], S],
    change: Callable[[LoadedConfig], LoadedConfig] = lambda loaded: loaded,
) -> S:
    """A trained model on the device.

    Args:
        path: A model file or a run's folder.
        start: Makes a session, as `Task.start_session` does.
        change: Of the model's configuration, before anything is made of it.
    """
    trained = model_file.load_checkpoint(path)
    loaded = change(trained.loaded_config(path))
    fabric = make_fabric(loaded.run)
    run = replace(trained.run_info(), device=fabric.device.type)
    session = start(loaded, run, fabric)
    model_file.load_weights(session.learner, trained, run, loaded.architecture.installed.name, path)
    session.recall(trained.learned)
    fabric.to_device(session.learner)
    return session


def folds_of(folder: Path) -> list[Path]:
    """The best model of each fold of a cross-validated run."""
    folds = [
        path for path in folder.glob("fold*") if path.name[4:].isdecimal() and (path / BEST_MODEL).exists()
    ]
    return [path / BEST_MODEL for path in sorted(folds, key=lambda path: int(path.name[4:]))]


def models_of(path: Path) -> list[Path]:
    """The model that a path names, or those of all folds where it is a cross-validated run."""
    return [path] if path.is_file() or (path / BEST_MODEL).exists() else folds_of(path) or [path]
