"""A run in experiment trackers: common contents; each tracker has its own module."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from lannunet_core import Event, UserError, dotted, without_places, write_text
from lannunet_observer.records import scalars
from lannunet_observer.tracker import Start, Tracker

if TYPE_CHECKING:
    from lannunet_observer.config import TrackerName

KNOWN_RUNS = "trackers.json"
"""The file in the run's folder with each tracker's id of the run, for resumed runs."""


def start(name: TrackerName, given: Start) -> Tracker:
    """Start the run in a tracker, whose package is imported here.

    Raises:
        UserError: The package, or an environment variable of the tracker, is missing.
    """
    where = f"trainer.observer.trackers: {name}"
    module = {"mlflow": "mlflow", "comet": "comet_ml", "wandb": "wandb"}[name]
    if importlib.util.find_spec(module) is None:
        raise UserError(
            f"{where}: the package {module} is not installed. Remove the name, or: "
            f"lannunet plugins install 'lannunet-observer[{name}]'"
        )
    if name == "mlflow":
        need(where, "MLFLOW_TRACKING_URI", "the address of your server, such as http://127.0.0.1:5000")
        from lannunet_observer.to_mlflow import MLflow

        return MLflow(given)
    if name == "comet":
        if os.environ.get("COMET_START_ONLINE", "").casefold() not in ("0", "false", "no"):
            need(where, "COMET_API_KEY", "your key, or COMET_START_ONLINE to false for an offline run")
        from lannunet_observer.to_comet import Comet

        return Comet(given)
    if os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
        need(where, "WANDB_API_KEY", "your key, or WANDB_MODE to offline")
    from lannunet_observer.to_wandb import WandB

    return WandB(given)


def need(where: str, variable: str, value: str) -> None:
    """Refuse to start without an environment variable; no library may ask at a prompt."""
    if not os.environ.get(variable):
        raise UserError(f"{where}: set the environment variable {variable} to {value}.")


class Trackers:
    """A run in its trackers.

    Args:
        names: Names of the trackers.
        project: The experiment, or project.
        folder: The run's folder.
        done: Epochs before a resume.
    """

    def __init__(self, names: Sequence[TrackerName], project: str, folder: Path, done: int) -> None:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        if config.get("output", {}).get("provenance") != "full":
            config = without_places(config)
        flat = {key: value for key, value in dotted(config) if value is not None}
        known = known_runs(folder / KNOWN_RUNS) if done else {}
        self._trackers: list[Tracker] = []
        try:
            for name in dict.fromkeys(names):
                given = Start(project, folder.name, folder, flat, known.get(name))
                self._trackers.append(start(name, given))
                known[name] = self._trackers[-1].run
        except BaseException:
            self.close(failed=True)
            raise
        write_text(folder / KNOWN_RUNS, json.dumps(known, indent=1))

    def log(self, row: Mapping[str, float]) -> None:
        """Log an epoch: the losses, the learning rate, and metrics of a validation."""
        figures = {key: value for key, value in row.items() if key != "epoch"}
        self._in_each(lambda tracker: tracker.log(figures, int(row["epoch"])))

    def end(self, event: Event, predictions: Sequence[Any]) -> None:
        """Log the results of a run that ended, and end it in the trackers."""
        from lannunet_observer.pictures import draw_predictions

        figures = {f"summary/{key}": value for key, value in scalars(event.values).items()}
        report = event.output_dir / "report.html"
        with TemporaryDirectory() as folder:
            try:
                pictures = draw_predictions(predictions, Path(folder), event.output_dir)
                self._in_each(lambda tracker: tracker.results(figures, pictures, report))
            finally:
                self.close(failed=False)  # while the uploaded files exist

    def close(self, failed: bool) -> None:
        try:
            self._in_each(lambda tracker: tracker.close(failed))
        finally:
            self._trackers = []

    def _in_each(self, do: Callable[[Tracker], None]) -> None:
        """Call all trackers, also after one fails; its error is raised at the end."""
        with ExitStack() as stack:
            for tracker in reversed(self._trackers):
                stack.callback(do, tracker)


def known_runs(path: Path) -> dict[str, str]:
    """The ids that an earlier start wrote."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"{path}: is damaged. Remove it; the trackers then have a new run.") from error
    return {name: run for name, run in dict(found).items() if isinstance(run, str)}
