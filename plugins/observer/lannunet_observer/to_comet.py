"""Comet. It reads key, workspace and online mode from COMET_… variables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import comet_ml

from lannunet_observer.tracker import Start

QUIET: dict[str, Any] = {  # nothing of the machine, the source or the terminal is sent
    "log_code": False,
    "log_graph": False,
    "log_git_metadata": False,
    "log_git_patch": False,
    "log_env_details": False,
    "parse_args": False,
    "auto_output_logging": False,
    "auto_param_logging": False,
    "auto_metric_logging": False,
    "auto_log_co2": False,
    "display_summary_level": 0,
}


class Comet:
    def __init__(self, given: Start) -> None:
        offline = os.environ.get("COMET_OFFLINE_DIRECTORY", str(given.folder / "comet"))
        self._experiment = comet_ml.start(
            project_name=given.project,
            experiment_key=given.known,
            experiment_config=comet_ml.ExperimentConfig(**QUIET, offline_directory=offline, name=given.name),
        )
        self.run: str = self._experiment.get_key()
        self._experiment.log_parameters(dict(given.config))

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        self._experiment.log_metrics(dict(figures), step=epoch, epoch=epoch)

    def results(self, figures: Mapping[str, float], pictures: Sequence[Path], report: Path) -> None:
        self._experiment.log_metrics(dict(figures))
        for picture in pictures:
            self._experiment.log_image(str(picture), name=picture.stem, copy_to_tmp=True)
        self._experiment.log_asset(str(report), file_name=report.name, copy_to_tmp=True)

    def close(self, failed: bool) -> None:
        self._experiment.log_other("failed", failed)
        self._experiment.end()
