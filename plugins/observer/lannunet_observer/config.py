"""The settings of `trainer.observer`."""

from typing import Literal

from pydantic import Field

from lannunet_core import PluginConfig

TrackerName = Literal["mlflow", "comet", "wandb"]


class ObserverConfig(PluginConfig):
    tensorboard: bool = Field(False, description="Also write event files for TensorBoard.")
    trackers: list[TrackerName] = Field([], description="Trackers for the run.")
    project: str = Field(
        "lannunet", min_length=1, description="Name of the experiment, or project, in the trackers."
    )
    radius: float = Field(
        2.0,
        gt=0,
        description="An image counts as found if no error is larger; in mm, or in pixels without a spacing.",
    )

    def idle_keys(self, task: str) -> dict[str, str]:
        idle = {} if task == "landmarks" else {"radius": "task"}
        return idle if self.trackers else idle | {"project": "trackers"}
