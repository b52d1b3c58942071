"""The plugin: it implements `observe` and `metrics`, and does not change the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lannunet_core import Plugin, hookimpl
from lannunet_observer.config import ObserverConfig

if TYPE_CHECKING:
    from lannunet_core import Event
    from lannunet_observer.records import TensorBoard
    from lannunet_observer.tracking import Trackers


class ObserverPlugin(Plugin):
    """Logs a run to a CSV file, TensorBoard and trackers; counts images with every landmark found."""

    Config = ObserverConfig
    config: ObserverConfig
    _tensorboard: TensorBoard | None = None
    _trackers: Trackers | None = None
    _predictions: Sequence[Any] = ()

    @hookimpl
    def observe(self, event: Event) -> None:
        from lannunet_observer.records import TensorBoard, scalars, write_row

        if event.name == "start" and self.config.trackers:
            from lannunet_observer.tracking import Trackers

            self._trackers = Trackers(
                self.config.trackers, self.config.project, event.output_dir, event.values["epoch"]
            )
        if event.name == "start" and self.config.tensorboard:
            self._tensorboard = TensorBoard(event.output_dir / "tensorboard", done=event.values["epoch"])
        if event.name == "epoch":
            row = scalars(event.values)
            write_row(event.output_dir / "observer.csv", row)
            if self._tensorboard:
                self._tensorboard.add(row)
            if self._trackers:
                self._trackers.log(row)
        if event.name == "end" and self._trackers:
            self._trackers.end(event, self._predictions)
        if event.name == "failure" and self._trackers:
            self._trackers.close(failed=True)
        if event.name in ("end", "failure") and self._tensorboard:
            self._tensorboard.close()

    @hookimpl
    def metrics(self, predictions: Sequence[Any]) -> Mapping[str, float]:
        self._predictions = predictions  # for the trackers' pictures
        if self.run.task != "landmarks":
            return {}  # the metrics are for points

        from lannunet_observer.figures import figures

        return figures(predictions, self.config.radius)
