"""The common interface of trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Start:
    """The data for starting a tracker.

    Attributes:
        project: Its experiment, or project.
        name: Name of the run.
        folder: The run's folder.
        config: The run's configuration, flat, with dotted keys.
        known: The tracker's id of a resumed run.
    """

    project: str
    name: str
    folder: Path
    config: Mapping[str, Any]
    known: str | None


class Tracker(Protocol):
    """One run in one tracker."""

    @property
    def run(self) -> str:
        """The tracker's id of the run."""

    def log(self, figures: Mapping[str, float], epoch: int) -> None:
        """Log the numbers of an epoch."""

    def results(self, figures: Mapping[str, float], pictures: Sequence[Path], report: Path) -> None:
        """Log the metrics of the summary, pictures of predictions (PNG) and the report (HTML)."""

    def close(self, failed: bool) -> None:
        """End the run in the tracker."""
