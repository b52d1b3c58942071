"""The network of Schobs et al. (ISBI 2021), on the backbone of Noothout et al. (2018).

Shapes: B batch, C channels, F features, N landmarks, D dimensions, S image sizes ([z,] y, x), P patches per
axis, ⌈S / 2^k⌉.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}

FEATURES = 32
BRANCH_FEATURES = (64, 96)
CONVOLUTIONS_OF_PATCHES = 3  # after the last pooling


def convolution(dimensions: int, inputs: int, outputs: int, width: int = 3) -> nn.Sequential:
    """(B, inputs, *S) → (B, outputs, *S)."""
    return nn.Sequential(
        CONVOLUTION[dimensions](inputs, outputs, width, padding=width // 2),
        NORM[dimensions](outputs),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two convolutions with a shortcut (He et al. 2016): (B, inputs, *S) → (B, outputs, *S)."""

    def __init__(self, dimensions: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(dimensions, inputs, outputs),
            CONVOLUTION[dimensions](outputs, outputs, 3, padding=1),
            NORM[dimensions](outputs),
        )
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else CONVOLUTION[dimensions](inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


class PHDNet(nn.Module):
    """A heatmap value and a displacement vector for every patch and landmark.

    Args:
        in_channels: C.
        landmarks: N.
        dimensions: D.
        halvings: k; a patch is 2^k pixels wide.
        residual: Whether the backbone has residual blocks instead of convolutions.
        heatmap: Whether there is a heatmap branch.
        displacement: Whether there is a displacement branch.
        displacement_unit: The displacement in the output for a value of 1 in the last layer.
    """

    def __init__(
        self,
        in_channels: int,
        landmarks: int,
        dimensions: int,
        halvings: int = 3,
        residual: bool = False,
        heatmap: bool = True,
        displacement: bool = True,
        displacement_unit: float = 1.0,
    ) -> None:
        super().__init__()
        self.halvings = halvings
        self.displacement_unit = displacement_unit
        block = ResidualBlock if residual else convolution
        layers: list[nn.Module] = []
        for number in range(halvings + CONVOLUTIONS_OF_PATCHES):
            layers.append(block(dimensions, FEATURES if number else in_channels, FEATURES))
            if number < halvings:
                layers.append(POOLING[dimensions](2))
        self.backbone = nn.Sequential(*layers)
        outputs = {"heatmap": landmarks * heatmap, "displacement": landmarks * dimensions * displacement}
        self.branches = nn.ModuleDict(
            {name: branch(dimensions, channels) for name, channels in outputs.items() if channels}
        )

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Image (B, C, *S) → `heatmap` (B, N, *P) and `displacement` (B, N · D, *P), (x, y[, z]) of each."""
        multiple = 2**self.halvings
        # F.pad counts from the last axis; only the far sides grow, so that patch 0 starts at pixel 0.
        margin = [pad for side in reversed(image.shape[2:]) for pad in (0, (-side) % multiple)]
        features = self.backbone(functional.pad(image, margin))
        outputs = {name: module(features) for name, module in self.branches.items()}
        if "displacement" in outputs:
            outputs["displacement"] = outputs["displacement"] * self.displacement_unit
        return outputs


def branch(dimensions: int, outputs: int) -> nn.Sequential:
    """(B, F, *P) → (B, outputs, *P), separately for each patch."""
    first, second = BRANCH_FEATURES
    return nn.Sequential(
        convolution(dimensions, FEATURES, first, width=1),
        convolution(dimensions, first, second, width=1),
        CONVOLUTION[dimensions](second, outputs, 1),
    )
