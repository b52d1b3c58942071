"""The network of the kit's own architecture."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

WIDTH = 16


class ProbeNetwork(nn.Module):
    """Image (B, C, *S) → [(B, N, *S), (B, N, *S / 2), …]."""

    def __init__(self, dimensions: int, channels: int, outputs: int, resolutions: int) -> None:
        super().__init__()
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.layers = nn.Sequential(
            convolution(channels, WIDTH, 5, padding=2), nn.ReLU(), convolution(WIDTH, outputs, 5, padding=2)
        )
        self.pool = functional.avg_pool2d if dimensions == 2 else functional.avg_pool3d
        self.resolutions = resolutions

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = [self.layers(image)]
        for _ in range(1, self.resolutions):
            maps.append(self.pool(maps[-1], 2))
        return maps
