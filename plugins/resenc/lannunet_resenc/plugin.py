"""The plugin: the hook `network`, and the networks that `lannunet plan` chooses from."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from lannunet_images import kernels_by_spacing

from lannunet_core import NetworkRequest, PlannedNetwork, Plugin, UserError, hookimpl
from lannunet_resenc.config import ResEncConfig
from lannunet_resenc.plan import BLOCKS, levels_of, planned_networks, strides_for

if TYPE_CHECKING:
    from lannunet_resenc.network import NNUNet


class ResEncPlugin(Plugin):
    """nnU-Net's residual-encoder and plain U-Nets, from dynamic-network-architectures, 2D and 3D."""

    Config = ResEncConfig
    config: ResEncConfig

    @classmethod
    def networks(cls, request: NetworkRequest) -> Sequence[PlannedNetwork]:
        return planned_networks(request)

    @hookimpl
    def network(self) -> NNUNet:
        run, config = self.run, self.config
        strides: Sequence[tuple[int, ...]] = (
            strides_for(run.input_size, run.spacing) if config.strides == "auto" else config.strides
        )
        fits = strides and all(len(stride) == run.dimensions for stride in strides)
        if not fits or prod(run.input_size) <= prod(map(prod, strides)):
            raise UserError(
                f"model.resenc.strides: {list(map(list, strides))} do not fit samples of {run.input_size}. "
                f"Give one or more strides of {run.dimensions} numbers that leave more than one pixel, or "
                "larger samples."
            )
        from lannunet_resenc.network import NNUNet

        blocks = config.blocks or BLOCKS[config.encoder]
        levels = levels_of(config.init_features, config.max_features, blocks, len(strides))
        return NNUNet(
            strides=[stride[::-1] for stride in strides],
            blocks=[count for _, count in levels],
            heads=run.supervised_resolutions,
            residual=config.encoder == "residual",
            input_channels=run.in_channels,
            num_classes=len(run.outputs),
            features_per_stage=[features for features, _ in levels],
            kernel_sizes=[k[::-1] for k in kernels_by_spacing(strides, run.spacing, run.dimensions)],
        )
