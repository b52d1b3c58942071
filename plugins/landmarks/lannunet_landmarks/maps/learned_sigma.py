r"""Widths of the heatmaps that are learned with the network: one sigma a landmark, or a whole covariance.

Notation: an annotation lies at t = (true place) + jitter, the jitter has covariance J; its label is the
Gaussian g around t with covariance Σ = W², W symmetric (W = σ·1 for one sigma), |·| the determinant. The best
network can only answer the mean over the jitter, so what its loss ends at is a function of Σ and J alone.

**kl.** Normalised labels q average to the Gaussian of covariance Σ + J, so the cross-entropy ends at

    CE = ½ log|Σ + J| + const,        the entropy of the label is      H(q) = ½ log|Σ| + const.

CE alone falls as Σ → 0: sigma collapses. KL(q ‖ p) = CE − H(q) falls as Σ → ∞: sigma explodes. Their mean,

    ½ (CE + KL) = CE − ½ H(q) = ½ log|Σ + J| − ¼ log|Σ| + const,

has in the eigenvalues e^u of J^-½ Σ J^-½ the terms ½ log(1 + e^u) − ¼ u, each convex in u with its minimum at
u = 0: **Σ = J is the only stationary point**, from every start, and ½ is the only share of the entropy that
gives it. There is no weight to choose. H is taken from the label as it is on the map, so that it is right for
labels that the border cuts: with ½ log|Σ| in its place a sigma near the map's size would explode, as the
cross-entropy cannot exceed the log of the number of pixels. The rule of the levels, max(W / 2^l, 1), keeps
both terms of a level constant where it holds Σ up, so each level has the same minimum, whatever its weight.
What the network cannot predict counts as jitter; what it has memorised does not.

**mse.** Maps have a fixed peak A. With Gaussians' integrals, over a map of P pixels, the error ends at

    A² π^(D/2) / P · |W| · F,     F = 1 − (|Σ| / |Σ + J|)^½ between 0 (no jitter) and 1 (nothing is found),

which grows with Σ: sigma collapses, the faster with LaNNU-Net's penalty on σ². No multiple of −log|Σ| helps:
in 2D the error levels off, so that large sigmas explode. Payer et al. and Thaler et al. avoid this by
Gaussians of a fixed volume, of height ∝ 1 / |W|, and a penalty on the widths. Here peaks stay (decoders and
confidences count on them) and the error is divided by the square of the volume instead, which is the same up
to the scale of the output:

    |W|^-1 F + w (tr Σ / D)^(D/2),      w = solver.regress_sigma_loss_weight, in 1 / pixel^(2D).

The first part is infinite where Σ vanishes, the second where any of its axes is infinite, so there is a
minimum between, for every w > 0. (A penalty on |W| would not see one axis grow while another shrinks.) For
one sigma it is the only one: the derivative in σ^D grows from −∞ to w. That is no estimate of J: σ ends below
w^(-1/2D) (in 2D and with w = 0.005: 3.8 px), in 2D at about (2 J / w)^(1/6) for a small variance J (2.7 px
for 1 px²), so it follows the jitter, but less than proportionally.

**Bounds.** A width below one pixel of the finest level makes the same label as one of a pixel, so it is set
to that before each step: otherwise no gradient could bring it back. And before a network has learned where
to look, all of the image is jitter. Labels as wide as that are flat: they cost nothing more when they grow,
and nothing can be learned from them. So widths are held for the first tenth of the steps, and never exceed
an eighth of the smallest side.

Sources: C. Payer, M. Urschler, H. Bischof, D. Štern, "Uncertainty Estimation in Landmark Localization Based
on Gaussian Heatmaps", UNSURE 2020; F. Thaler, C. Payer, M. Urschler, D. Štern, "Modeling Annotation
Uncertainty with Gaussian Heatmaps in Landmark Localization", MELBA 2021. They learn with squared errors; the
result for `kl` and the arguments for convergence are derived here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_landmarks.maps.symmetric import eigen, exponential

RATE = 5.0
"""Their learning rate, in base learning rates: widths have far to go, and few steps."""
MOMENTUM = 0.9
"""Theirs in SGD: with the network's 0.99 a lone parameter swings for hundreds of steps."""
HOLD = 0.1
"""They stay where they are for this share of the steps."""
WIDEST = 1 / 8
"""Their most, in smallest sides of what the network sees."""
MARGIN = 1e-4
"""How far above one pixel a width is kept, so that rounding does not put it below."""


class LearnedSigma(nn.Module):
    """The parameters: logarithms, so that every value is a width.

    Args:
        names: Of the landmarks.
        dimensions: D.
        start: Sigma of all, in input pixels.
        covariance: One symmetric matrix a landmark rather than one number.
    """

    def __init__(self, names: Sequence[str], dimensions: int, start: float, covariance: bool) -> None:
        super().__init__()
        self.names, self.dimensions = tuple(names), dimensions
        one = torch.eye(dimensions) if covariance else torch.ones(())
        # (N,) log σ, or (N, D, D) the matrix logarithm of W
        self.log = nn.Parameter((math.log(start) * one).repeat(len(names), *[1] * one.ndim))

    def forward(self) -> Tensor:
        """σ (N,) or W (N, D, D), symmetric, W² the covariance; in input pixels."""
        if self.log.ndim == 1:
            return self.log.exp()
        return exponential((self.log + self.log.mT) / 2)

    @torch.no_grad()
    def keep_between(self, least: float, most: float) -> None:
        """Bring widths, those along principal axes, between these; `least` counts where both cannot hold."""
        low = math.log(least) + MARGIN
        high = max(math.log(most), low)
        if self.log.ndim == 1:
            self.log.clamp_(low, high)
        else:
            values, axes = eigen((self.log + self.log.mT) / 2)
            self.log.copy_((axes * values.clamp(low, high)[:, None]) @ axes.mT)

    def figures(self) -> dict[str, Any]:
        """Of each landmark `sigma` in input pixels, a number or those of principal axes, and `covariance`."""
        with torch.no_grad():
            widths = self().double().cpu()
        if widths.ndim == 1:
            return {"sigma": dict(zip(self.names, widths.tolist(), strict=True))}
        sides = ("minor", "major") if self.dimensions == 2 else ("minor", "middle", "major")
        along = torch.linalg.eigvalsh(widths).tolist()
        return {
            "sigma": {
                name: dict(zip(sides, row, strict=True)) for name, row in zip(self.names, along, strict=True)
            },
            "covariance": dict(zip(self.names, (widths @ widths).tolist(), strict=True)),
        }


def parameter_groups(module: nn.Module, base_lr: float) -> list[dict[str, Any]]:
    """A module's parameters for an optimizer; learned widths, if any, in a group of their own."""
    widths = [p for part in module.modules() if isinstance(part, LearnedSigma) for p in part.parameters()]
    if not widths:
        return [{"params": list(module.parameters())}]
    others = [p for p in module.parameters() if not any(p is width for width in widths)]
    return [{"params": others}, {"params": widths, "lr": RATE * base_lr, "weight_decay": 0.0}]


def volumes(sigmas: Tensor, dimensions: int) -> Tensor:
    """|W| of widths or matrices, of each level: (L, N).

    Args:
        sigmas: As `generate_labels` gets them: (L, N) or (L, N, D, D).
        dimensions: D.
    """
    if sigmas.ndim == 2:
        return sigmas**dimensions
    determinants: Tensor = torch.linalg.det(sigmas)
    return determinants


def penalties(sigmas: Tensor, dimensions: int) -> Tensor:
    """(tr Σ / D)^(D/2) of widths or matrices, of each level: (L, N). It is the volume of round ones."""
    if sigmas.ndim == 2:
        return sigmas**dimensions
    return (sigmas.square().sum((-2, -1)) / dimensions) ** (dimensions / 2)  # W is symmetric


def entropy(heatmaps: Tensor) -> Tensor:
    """Of maps (B, N, *S) as distributions over their positions: (B, N), in nats; 0 for an empty map."""
    values = heatmaps.flatten(2)
    logs = values.clamp(min=torch.finfo(values.dtype).tiny).log()  # no gradient where it has underflowed
    mass = values.sum(-1)
    mass = torch.where(mass > 0, mass, 1)
    return mass.log() - (values * logs).sum(-1) / mass
