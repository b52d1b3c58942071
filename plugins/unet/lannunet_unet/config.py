"""The settings of `model.unet`."""

from typing import Annotated, Literal

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
        description="An axis is halved until it would fall under this; without strides of your own.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the feature maps that is left out at random in training, one draw a level.",
    )
    strides: list[Stride] | Literal["auto"] | None = Field(
        "auto",
        description="One (x, y[, z]) a downsampling, as [2, 2, 1] where z is left alone; auto: axes stop one "
        "by one, coarse ones wait, as nnU-Net plans it; null: all axes are halved together, until the "
        "smallest stops.",
    )
    kernels: Literal["spacing", "strides"] = Field(
        "spacing",
        description="What makes kernels 1 along an axis at fine levels: spacing, pixels twice as long as the "
        "shortest; strides, that no downsampling has shortened it.",
        json_schema_extra={"before": "strides"},
    )

    def idle_keys(self, task: str) -> dict[str, str]:
        return {"min_feature_resolution": "strides"} if isinstance(self.strides, list) else {}
