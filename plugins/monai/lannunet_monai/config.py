"""The settings of `model.monai`."""

from typing import Any

from pydantic import Field

from lannunet_core import PluginConfig


class MonaiConfig(PluginConfig):
    network: str = Field("SegResNet", description="Class of monai.networks.nets, by name.")
    arguments: dict[str, Any] = Field(
        {},
        description="Arguments of that class by name, with axes in MONAI's order ([z,] y, x). Dimensions, "
        "channels, outputs and image size follow from the data.",
    )
