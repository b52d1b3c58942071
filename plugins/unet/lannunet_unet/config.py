"""The settings of `model.unet`."""

from typing import Annotated, Literal

from pydantic import Field

from lannunet_core import PluginConfig

Stride = Annotated[tuple[Annotated[int, Field(ge=1, le=3)], ...], Field(min_length=2, max_length=3)]


class UNetConfig(PluginConfig):
    init_features: int = Field(32, ge=1, le=1024, description="Features at full resolution.")
    max_features: int = Field(512, ge=1, le=4096, description="Features double per level up to this many.")
    min_feature_resolution: int = Field(
        4,
        ge=2,
        le=256,
        description="Axes are halved while this many pixels remain; has no effect with a list of strides.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the feature maps that is dropped at random in training, drawn per level.",
    )
    strides: list[Stride] | Literal["auto"] | None = Field(
        "auto",
        description="One (x, y[, z]) per downsampling, such as [2, 2, 1] to keep z; auto: by nnU-Net's "
        "rules, each axis as often as possible, coarse axes later; null: all axes are halved together, until "
        "the smallest stops.",
    )
    kernels: Literal["spacing", "strides"] = Field(
        "spacing",
        description="Criterion for kernels of 1 along an axis at fine levels: spacing, pixels at least twice "
        "as long as the shortest; strides, no downsampling along it so far.",
        json_schema_extra={"before": "strides"},
    )

    def idle_keys(self, task: str) -> dict[str, str]:
        return {"min_feature_resolution": "strides"} if isinstance(self.strides, list) else {}
