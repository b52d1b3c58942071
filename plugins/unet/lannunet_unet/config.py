"""The settings of `model.unet`."""

from typing import Annotated

from pydantic import Field

from lannunet_core import PluginConfig

Stride = Annotated[tuple[Annotated[int, Field(ge=1, le=3)], ...], Field(min_length=2, max_length=3)]


class UNetConfig(PluginConfig):
    init_features: int = Field(32, ge=1, le=1024, description="Features at full resolution.")
    max_features: int = Field(512, ge=1, le=4096, description="Features double a level up to this many.")
    min_feature_resolution: int = Field(
        4,
        ge=2,
        le=256,
        description="Levels are added until the smaller side would fall under this; without strides.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the feature maps that is left out at random in training, one draw a level.",
    )
    strides: list[Stride] | None = Field(
        None,
        description="One (x, y[, z]) a downsampling, as [2, 2, 1] where z is left alone; when left out, "
        "every axis is halved until min_feature_resolution.",
    )

    def idle_keys(self, task: str) -> dict[str, str]:
        return {} if self.strides is None else {"min_feature_resolution": "strides"}
