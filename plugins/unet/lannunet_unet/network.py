"""The network (Ronneberger et al. 2015, with the choices of nnU-Net, Isensee et al. 2021).

Shapes: B batch, C channels, F features, N outputs, S spatial sizes ([z,] y, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
SLOPE = 0.01


def double_convolution(dimensions: int, inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """(B, inputs, *S) → (B, outputs, *S / stride)."""
    layers: list[nn.Module] = []
    for channels, step in ((inputs, stride), (outputs, 1)):
        layers += [
            CONVOLUTION[dimensions](channels, outputs, 3, step, padding=1),
            NORM[dimensions](outputs, affine=True),
            nn.LeakyReLU(SLOPE, inplace=True),
        ]
    return nn.Sequential(*layers)


def count_downsamplings(input_size: Sequence[int], min_feature_resolution: int) -> int:
    """How often the smaller side can be halved without falling under `min_feature_resolution`."""
    count = 0
    while min(input_size) / 2 ** (count + 1) >= min_feature_resolution:
        count += 1
    return count


class UNet(nn.Module):
    """Encoder and decoder with skip connections and a 1×1 head at every supervised resolution.

    Args:
        in_channels: C.
        out_channels: N.
        input_size: Size (x, y[, z]) that the depth is chosen for; other sizes are accepted too.
        init_features: Features at full resolution.
        max_features: Features double a level and stop here.
        min_feature_resolution: No level has a smaller side than this.
        supervised_resolutions: How many outputs, finest first; fewer where the network is not as deep.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: Sequence[int],
        init_features: int = 32,
        max_features: int = 512,
        min_feature_resolution: int = 4,
        supervised_resolutions: int = 5,
    ) -> None:
        super().__init__()
        dimensions = len(input_size)
        self.downsamplings = count_downsamplings(input_size, min_feature_resolution)
        features = [min(init_features * 2**level, max_features) for level in range(self.downsamplings + 1)]

        self.encoder = nn.ModuleList([double_convolution(dimensions, in_channels, features[0])])
        self.upsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for fine, coarse in pairwise(features):
            self.encoder.append(double_convolution(dimensions, fine, coarse, stride=2))
            self.upsample.append(TRANSPOSED[dimensions](coarse, fine, 2, 2))
            self.decoder.append(double_convolution(dimensions, 2 * fine, fine))
        self.heads = nn.ModuleList(
            CONVOLUTION[dimensions](width, out_channels, 1) for width in features[:supervised_resolutions]
        )
        self.apply(initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (B, C, *S) → heads [(B, N, *S), (B, N, *⌈S/2⌉), …], finest first."""
        size = image.shape[2:]
        multiple = 2**self.downsamplings
        margin = [(-side) % multiple for side in size]
        # F.pad counts from the last axis; only the far sides grow, so that pixel 0 stays pixel 0.
        x = functional.pad(image, [pad for side in reversed(margin) for pad in (0, side)])

        skips = []  # finest first
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)

        outputs = []  # coarsest first
        for level in range(self.downsamplings, -1, -1):
            if level < self.downsamplings:
                x = torch.cat([skips[level], self.upsample[level](x)], dim=1)
                x = self.decoder[level](x)
            if level < len(self.heads):
                kept = (..., *(slice(-(-side // 2**level)) for side in size))
                outputs.append(self.heads[level](x)[kept])
        return outputs[::-1]


def initialise(module: nn.Module) -> None:
    """Kaiming initialisation (He et al. 2015) of every convolution."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
