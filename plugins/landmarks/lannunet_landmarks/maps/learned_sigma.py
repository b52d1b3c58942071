r"""Heatmap widths that are learned with the network: one sigma per landmark, or a whole covariance.

Notation: an annotation is at t = (true place) + jitter, the jitter has covariance J; its label is the
Gaussian g around t with covariance Σ = W², W symmetric (W = σ·1 for one sigma), |·| the determinant. The best
network can only predict the mean over the jitter, so its minimal loss is a function of Σ and J alone.

**kl.** Normalised labels q average to the Gaussian of covariance Σ + J, so the minimal cross-entropy is

    CE = ½ log|Σ + J| + const,        the entropy of the label is      H(q) = ½ log|Σ| + const.

CE alone falls as Σ → 0: sigma collapses. KL(q ‖ p) = CE − H(q) falls as Σ → ∞: sigma explodes. Their mean,

    ½ (CE + KL) = CE − ½ H(q) = ½ log|Σ + J| − ¼ log|Σ| + const,

has in the eigenvalues e^u of J^-½ Σ J^-½ the terms ½ log(1 + e^u) − ¼ u, each convex in u with its minimum at
u = 0: **Σ = J is the only stationary point**, from every start, and ½ is the only share of the entropy with
this property. There is no weight to choose. H is computed from the label on the map, so that it is correct
for labels that are cut by the border: with ½ log|Σ| instead, a sigma near the map's size would explode, as
the cross-entropy cannot exceed the log of the number of pixels. Where the rule of the levels, max(W / 2^l,
1), sets the width, both terms of a level are constant, so each level has the same minimum, whatever its
weight. Deviations that the network cannot predict count as jitter; deviations that it has memorised do not.

**mse.** Maps have a fixed peak A. By integrals of Gaussians over a map of P pixels, the minimal error is

    A² π^(D/2) / P · |W| · F,     F = 1 − (|Σ| / |Σ + J|)^½ between 0 (no jitter) and 1 (nothing is found),

which grows with Σ: sigma collapses, the faster with LaNNU-Net's penalty on σ². No multiple of −log|Σ| helps:
in 2D the error levels off, so that large sigmas explode. Payer et al. and Thaler et al. avoid this with
Gaussians of a fixed volume, of height ∝ 1 / |W|, and a penalty on the widths. Here the peaks stay fixed
(decoders and confidences rely on them) and the error is divided by the square of the volume instead, which is
equivalent up to the scale of the output:

    |W|^-1 F + w (tr Σ / D)^(D/2),      w = solver.regress_sigma_loss_weight, in 1 / pixel^(2D).

The first part is infinite where Σ vanishes, the second where any of its axes is infinite, so there is a
minimum between, for every w > 0. (A penalty on |W| would not prevent one axis from growing while another
shrinks.) For one sigma it is the only one: the derivative in σ^D grows from −∞ to w. It is not an estimate of
J: σ ends below w^(-1/2D) (in 2D and with w = 0.005: 3.8 px), in 2D at about (2 J / w)^(1/6) for a small
variance J (2.7 px for 1 px²), so it follows the jitter, but less than proportionally.

**Bounds.** A width below one pixel of the finest level gives the same label as one pixel, so it is set to one
pixel before each step: otherwise no gradient could increase it again. Before a network has learned to locate
landmarks, the jitter is as large as the image. Labels of that width are flat: growing costs nothing more, and
nothing can be learned from them. So widths are fixed for the first tenth of the steps, and never exceed an
eighth of the smallest side.

Sources: C. Payer, M. Urschler, H. Bischof, D. Štern, "Uncertainty Estimation in Landmark Localization Based
on Gaussian Heatmaps", UNSURE 2020; F. Thaler, C. Payer, M. Urschler, D. Štern, "Modeling Annotation
Uncertainty with Gaussian Heatmaps in Landmark Localization", MELBA 2021. They use squared errors; the
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
"""Learning rate of widths, in base learning rates: widths have far to go, in few steps."""
MOMENTUM = 0.9
"""Momentum of widths in SGD: with the network's 0.99 a single parameter oscillates for hundreds of steps."""
HOLD = 0.1
"""Share of the steps during which widths are fixed."""
WIDEST = 1 / 8
"""Largest width, as a share of the smallest side of the network's input."""
MARGIN = 1e-4
"""Margin of a width above one pixel, so that rounding does not put it below."""


class LearnedSigma(nn.Module):
    """The learned parameters: logarithms, so that every value is a valid width.

    Args:
        names: Names of the landmarks.
        dimensions: D.
        start: Initial sigma of all landmarks, in input pixels.
        covariance: Learn one symmetric matrix per landmark instead of one number.
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
        """Clamp widths, or those along principal axes, to this range; `least` wins if the range is empty."""
        low = math.log(least) + MARGIN
        high = max(math.log(most), low)
        if self.log.ndim == 1:
            self.log.clamp_(low, high)
        else:
            values, axes = eigen((self.log + self.log.mT) / 2)
            self.log.copy_((axes * values.clamp(low, high)[:, None]) @ axes.mT)

    def figures(self) -> dict[str, Any]:
        """For each landmark `sigma` in input pixels, one number or one per principal axis, and
        `covariance`."""
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
    """|W| of widths or matrices, for each level: (L, N).

    Args:
        sigmas: As passed to `generate_labels`: (L, N) or (L, N, D, D).
        dimensions: D.
    """
    if sigmas.ndim == 2:
        return sigmas**dimensions
    determinants: Tensor = torch.linalg.det(sigmas)
    return determinants


def penalties(sigmas: Tensor, dimensions: int) -> Tensor:
    """(tr Σ / D)^(D/2) of widths or matrices, for each level: (L, N). For isotropic ones it is the volume."""
    if sigmas.ndim == 2:
        return sigmas**dimensions
    return (sigmas.square().sum((-2, -1)) / dimensions) ** (dimensions / 2)  # W is symmetric


def entropy(heatmaps: Tensor) -> Tensor:
    """Entropy of maps (B, N, *S) as distributions over their positions: (B, N), in nats; 0 for an empty
    map."""
    values = heatmaps.flatten(2)
    logs = values.clamp(min=torch.finfo(values.dtype).tiny).log()  # no gradient for underflowed values
    mass = values.sum(-1)
    mass = torch.where(mass > 0, mass, 1)
    return mass.log() - (values * logs).sum(-1) / mass
