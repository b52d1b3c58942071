"""The settings of `model.resenc`."""

from typing import Annotated, Literal

from pydantic import Field

from lannunet_core import PluginConfig

Stride = Annotated[tuple[Annotated[int, Field(ge=1, le=3)], ...], Field(min_length=2, max_length=3)]


class ResEncConfig(PluginConfig):
    encoder: Literal["residual", "plain"] = Field("residual", description="Blocks of the encoder.")
    init_features: int = Field(32, ge=1, le=1024, description="Features at full resolution.")
    max_features: int = Field(320, ge=1, le=4096, description="Features double per level up to this many.")
    blocks: list[Annotated[int, Field(ge=1, le=32)]] | None = Field(
        None,
        min_length=1,
        description="Residual blocks (plain: convolutions) per level of the encoder; the last number is "
        "repeated for deeper levels; null: [1, 3, 4, 6] (plain: [2]).",
    )
    strides: list[Stride] | Literal["auto"] = Field(
        "auto", description="One (x, y[, z]) per downsampling; auto: by nnU-Net's rules."
    )
