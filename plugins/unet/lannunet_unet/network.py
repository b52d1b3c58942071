"""The network (Ronneberger et al. 2015, with the choices of nnU-Net, Isensee et al. 2021).

Shapes: B batch, C channels, F features, N outputs, S spatial sizes ([z,] y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTION: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
DROPOUT = {
    2: nn.Dropout2d,
    3: nn.Dropout3d,
}  # drops whole maps: neighbouring pixels are correlated (Tompson 2015)
SLOPE = 0.01


def double_convolution(
    inputs: int,
    outputs: int,
    kernel: tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    dropout: float = 0.0,
) -> nn.Sequential:
    """(B, inputs, *S) → (B, outputs, *S / stride); kernel and stride are ([z,] y, x)."""
    dimensions = len(kernel)
    layers: list[nn.Module] = []
    for channels, step in ((inputs, stride), (outputs, 1)):
        layers += [
            CONVOLUTION[dimensions](channels, outputs, kernel, step, tuple(side // 2 for side in kernel)),
            NORM[dimensions](outputs, affine=True),
            nn.LeakyReLU(SLOPE, inplace=True),
        ]
    if dropout > 0:
        layers.append(DROPOUT[dimensions](dropout))
    return nn.Sequential(*layers)


def count_downsamplings(input_size: Sequence[int], min_feature_resolution: int) -> int:
    """Number of halvings that keep the smaller side at or above `min_feature_resolution`."""
    count = 0
    while min(input_size) / 2 ** (count + 1) >= min_feature_resolution:
        count += 1
    return count


def choose_kernels(strides: Sequence[tuple[int, ...]], dimensions: int) -> list[tuple[int, ...]]:
    """The kernel of each level; there is one level more than downsamplings.

    The kernel is 1 along an axis until a downsampling, or the next one, shortens the axis: its pixels are far
    apart until then (as in nnU-Net).
    """
    levels = range(len(strides))
    kernels = [
        tuple(3 if any(s[axis] > 1 for s in strides[: level + 1]) else 1 for axis in range(dimensions))
        for level in levels
    ]
    return [*kernels, (3,) * dimensions]


class UNet(nn.Module):
    """Encoder and decoder with skip connections and a 1×1 head at every supervised resolution.

    Args:
        in_channels: C.
        out_channels: N.
        input_size: Size (x, y[, z]) that the depth is chosen for; other sizes are accepted too.
        init_features: Features at full resolution.
        max_features: Upper limit of the features, which double per level.
        min_feature_resolution: Minimum side of a level; only used without `strides`.
        supervised_resolutions: Number of outputs, finest first; fewer if the network is less deep.
        dropout: Share of the maps that each level's encoder and decoder drop in training.
        strides: One (x, y[, z]) per downsampling; None: every axis is halved, as often as
            `min_feature_resolution` allows.
        kernels: One (x, y[, z]) per level; None: by `choose_kernels`.
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
        strides: Sequence[tuple[int, ...]] | None = None,
        dropout: float = 0.0,
        kernels: Sequence[tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__()
        dimensions = len(input_size)
        if strides is None:
            strides = [(2,) * dimensions] * count_downsamplings(input_size, min_feature_resolution)
        steps = [tuple(reversed(stride)) for stride in strides]  # as tensors: ([z,] y, x)
        sides = choose_kernels(steps, dimensions)
        if kernels is not None:
            sides = [tuple(reversed(kernel)) for kernel in kernels]
        self.scales = [
            tuple(prod(step[axis] for step in steps[:level]) for axis in range(dimensions))
            for level in range(len(steps) + 1)
        ]
        features = [min(init_features * 2**level, max_features) for level in range(len(steps) + 1)]

        self.encoder = nn.ModuleList(
            [double_convolution(in_channels, features[0], sides[0], dropout=dropout)]
        )
        self.upsample = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level, ((fine, coarse), step) in enumerate(zip(pairwise(features), steps, strict=True)):
            self.encoder.append(double_convolution(fine, coarse, sides[level + 1], step, dropout))
            self.upsample.append(TRANSPOSED[dimensions](coarse, fine, step, step))
            self.decoder.append(double_convolution(2 * fine, fine, sides[level], dropout=dropout))
        self.heads = nn.ModuleList(
            CONVOLUTION[dimensions](width, out_channels, 1) for width in features[:supervised_resolutions]
        )
        self.apply(initialise)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Image (B, C, *S) → heads [(B, N, *S), (B, N, *⌈S/scale⌉), …], finest first."""
        size = image.shape[2:]
        margin = [-side % scale for side, scale in zip(size, self.scales[-1], strict=True)]
        # F.pad counts from the last axis; only the far sides grow, so that pixel 0 stays pixel 0.
        x = functional.pad(image, [pad for side in reversed(margin) for pad in (0, side)])

        skips = []  # finest first
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)

        outputs = []  # coarsest first
        for level, scale in reversed(list(enumerate(self.scales))):
            if level < len(self.upsample):
                x = torch.cat([skips[level], self.upsample[level](x)], dim=1)
                x = self.decoder[level](x)
            if level < len(self.heads):
                kept = (..., *(slice(-(-side // step)) for side, step in zip(size, scale, strict=True)))
                outputs.append(self.heads[level](x)[kept])
        return outputs[::-1]


def initialise(module: nn.Module) -> None:
    """Kaiming initialisation (He et al. 2015) of every convolution."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=SLOPE)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
