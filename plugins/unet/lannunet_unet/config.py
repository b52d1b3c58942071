"""The settings of `model.unet`."""

from pydantic import Field

from lannunet_core import PluginConfig


class UNetConfig(PluginConfig):
    init_features: int = Field(32, ge=1, le=1024, description="Features at full resolution.")
    max_features: int = Field(512, ge=1, le=4096, description="Features double a level up to this many.")
    min_feature_resolution: int = Field(
        4, ge=2, le=256, description="Levels are added until the smaller side would fall under this."
    )
