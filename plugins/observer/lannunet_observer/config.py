"""The settings of `trainer.observer`."""

from pydantic import Field

from lannunet_core import PluginConfig


class ObserverConfig(PluginConfig):
    tensorboard: bool = Field(False, description="Also write event files for TensorBoard.")
    radius: float = Field(
        2.0,
        gt=0,
        description="An image counts as found when no landmark is further off; mm, px if no spacing.",
    )

    def idle_keys(self, task: str) -> dict[str, str]:
        return {} if task == "landmarks" else {"radius": "task"}
