"""MLflow. Its client reads the server's address, name and password from MLFLOW_… variables.

The client is used instead of `mlflow.start_run`, which has one run per process; a process may train several.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from lannunet_core import UserError
from lannunet_observer.tracker import Start

PARAMETERS_A_CALL, LONGEST_PARAMETER = 100, 6000  # limits of MLflow's interface
METRICS_A_CALL, LONGEST_NAME = 1000, 250


def mlflow_name(name: str) -> str:
    """A name that MLflow accepts: letters, digits and `_ - . /`, spaces; others as `_` and their code."""
    return re.sub(r"[^\w\-. /]", lambda found: f"_{ord(found.group()):x}", name)[:LONGEST_NAME]


class MLflow:
    def __init__(self, given: Start) -> None:
        try:
            self._client = MlflowClient()
            experiment = self._client.get_experiment_by_name(given.project)
            number = experiment.experiment_id if experiment else self._client.create_experiment(given.project)
            if given.known is not None:
                self._client.update_run(given.known, status="RUNNING")
            self.run: str = given.known or self._client.create_run(number, run_name=given.name).info.run_id
        except MlflowException as error:
            raise UserError(f"trainer.observer.trackers: mlflow: {error}") from error
        if given.known is None:  # they cannot be written twice
            parameters = [
                Param(mlflow_name(key), str(value)[:LONGEST_PARAMETER]) for key, value in given.config.items()
            ]
            for first in range(0, len(parameters), PARAMETERS_A_CALL):
                self._client.log_batch(self.run, params=parameters[first : first + PARAMETERS_A_CALL])

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(mlflow_name(name), value, now, epoch) for name, value in figures.items()]
        for first in range(0, len(metrics), METRICS_A_CALL):
            self._client.log_batch(self.run, metrics=metrics[first : first + METRICS_A_CALL])

    def results(self, figures: Mapping[str, float], pictures: Sequence[Path], report: Path) -> None:
        self.log(figures, epoch=0)
        for picture in pictures:
            self._client.log_artifact(self.run, str(picture), "predictions")
        self._client.log_artifact(self.run, str(report))

    def close(self, failed: bool) -> None:
        self._client.set_terminated(self.run, "FAILED" if failed else "FINISHED")
