"""The U-Nets of `dynamic-network-architectures`, for images of any size and any number of supervised levels.

Shapes: B batch, C channels, N outputs, S spatial sizes ([z,] y, x).
"""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Any

from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from torch import Tensor, nn
from torch.nn import functional


class NNUNet(nn.Module):
    """nnU-Net's U-Net, with its choice of layers and initialisation.

    Args:
        strides: One ([z,] y, x) per downsampling.
        blocks: Residual blocks or convolutions per level of the encoder.
        heads: Number of supervised resolutions.
        residual: Whether the encoder has residual blocks.
        more: Additional arguments of the library's class.
    """

    def __init__(
        self, strides: Sequence[Sequence[int]], blocks: Sequence[int], heads: int, residual: bool, **more: Any
    ) -> None:
        super().__init__()
        dimensions = len(strides[0])
        settings = {"n_stages": len(blocks), "strides": [(1,) * dimensions, *strides], **more}
        settings |= {"conv_op": getattr(nn, f"Conv{dimensions}d"), "conv_bias": True}
        settings |= {"norm_op": getattr(nn, f"InstanceNorm{dimensions}d"), "norm_op_kwargs": {"affine": True}}
        settings |= {"nonlin": nn.LeakyReLU, "nonlin_kwargs": {"inplace": True}, "deep_supervision": True}
        if residual:
            network = ResidualEncoderUNet(n_blocks_per_stage=blocks, n_conv_per_stage_decoder=1, **settings)
        else:
            network = PlainConvUNet(n_conv_per_stage=blocks, n_conv_per_stage_decoder=2, **settings)
        network.apply(network.initialize)
        # The library registers most layers under two or three names; a checkpoint needs one.
        del network.decoder.encoder
        for module in network.modules():
            if isinstance(module, ConvDropoutNormReLU):
                for name in set(module._modules) - {"all_modules"}:
                    delattr(module, name)
        self.network, self.heads = network, min(heads, len(strides))
        for unread in range(
            len(strides) - self.heads
        ):  # heads without a loss, coarsest first, get no gradient
            network.decoder.seg_layers[unread] = nn.Identity()
        axes = [accumulate(axis, mul, initial=1) for axis in zip(*strides, strict=True)]
        self.scales = list(zip(*axes, strict=True))  # ([z,] y, x) of each level, finest first

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (B, C, *S) → heads [(B, N, *S), (B, N, *⌈S/scale⌉), …], finest first."""
        size = image.shape[2:]
        margin = [-side % scale for side, scale in zip(size, self.scales[-1], strict=True)]
        # F.pad counts from the last axis; only the far sides grow, so that pixel 0 stays pixel 0.
        padded = functional.pad(image, [pad for side in reversed(margin) for pad in (0, side)])
        heads = []
        for maps, scale in zip(self.network(padded)[: self.heads], self.scales, strict=False):
            kept = (..., *(slice(-(-side // step)) for side, step in zip(size, scale, strict=True)))
            heads.append(maps[kept])
        return heads
