"""The plugin: the hook `network`. Labels, loss, decoding and training are the task's and the core's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

from lannunet_images import choose_strides, kernels_by_spacing

from lannunet_core import NetworkRequest, PlannedNetwork, Plugin, UserError, hookimpl
from lannunet_unet.config import UNetConfig

if TYPE_CHECKING:
    from lannunet_unet.network import UNet

ALONE = 3.0
"""An axis is halved alone while it has at least this many times min_feature_resolution pixels (nnU-Net)."""


class UNetPlugin(Plugin):
    """U-Net with instance normalisation, leaky ReLU and deep supervision, 2D and 3D."""

    Config = UNetConfig
    config: UNetConfig

    @classmethod
    def networks(cls, request: NetworkRequest) -> Sequence[PlannedNetwork]:
        from lannunet_unet.plan import planned_networks

        return planned_networks(request)

    @cached_property
    def strides(self) -> Sequence[tuple[int, ...]]:
        """(x, y[, z]) of each downsampling."""
        size, least = self.run.input_size, self.config.min_feature_resolution
        if self.config.strides is None:
            from lannunet_unet.network import count_downsamplings

            return [(2,) * len(size)] * count_downsamplings(size, least)
        if self.config.strides == "auto":
            return choose_strides(size, self.run.spacing, least, ALONE)
        return self.config.strides

    @hookimpl
    def network(self) -> UNet:
        from lannunet_unet.network import UNet

        dimensions = len(self.run.input_size)
        for number, stride in enumerate(self.strides):
            if len(stride) != dimensions:
                raise UserError(
                    f"model.unet.strides.{number}: {list(stride)} is for {len(stride)} axes, but the images "
                    f"have {dimensions}. Give one number per axis, such as {[2] * dimensions}."
                )
        network = UNet(
            in_channels=self.run.in_channels,
            out_channels=len(self.run.outputs),
            input_size=self.run.input_size,
            init_features=self.config.init_features,
            max_features=self.config.max_features,
            min_feature_resolution=self.config.min_feature_resolution,
            supervised_resolutions=self.run.supervised_resolutions,
            strides=self.strides,
            dropout=self.config.dropout,
            kernels=kernels_by_spacing(self.strides, self.run.spacing, dimensions)
            if self.config.kernels == "spacing"
            else None,
        )
        coarsest = [
            -(-side // scale)
            for side, scale in zip(self.run.input_size, network.scales[-1][::-1], strict=True)
        ]
        if prod(coarsest) == 1:  # instance normalisation needs several pixels
            size = "×".join(map(str, self.run.input_size))
            raise UserError(
                f"model.unet: with samples of {size}, its strides (or min_feature_resolution) leave one "
                "pixel at the coarsest level. Set fewer or smaller strides, or larger samples."
            )
        return network
