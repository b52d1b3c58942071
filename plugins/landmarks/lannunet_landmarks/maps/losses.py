"""The losses that the core provides, by name.

All take the network's outputs (one tensor, or a list with the finest resolution first) and the labels
`state` (B, N), `heatmaps` (a list of (B, N, *S_l)) and, where there are weights, `weight` (B, N). A level's
term is the weighted mean over the batch's labelled landmarks (weight 0 is as good as unlabelled, a common
factor changes nothing); levels count 1, ½, ¼ …, normalised to sum 1. `kl` and `mse` can learn the labels'
widths too: `learned_sigma` derives what they minimise then, whose second part is their term `sigma`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lannunet_core import Loss, State, levels, sum_over_processes
from lannunet_landmarks.maps.labels import level_sigmas
from lannunet_landmarks.maps.learned_sigma import entropy, penalties, volumes


class SoftmaxCrossEntropy(nn.Module):
    """`kl`: a landmark is at one of the positions of its map, or "not here", a class whose logit is 0.

    The target is the label's Gaussian, normalised over the positions of the map. For a landmark known to be
    outside or absent, all of it is "not here".

    Args:
        sigma: Width of the labels' Gaussian, in input pixels.
        dimensions: D.

    Attributes:
        stride: Input pixels to a pixel of the finest maps, see `StridedLoss`.
    """

    def __init__(self, sigma: float, dimensions: int) -> None:
        super().__init__()
        self.sigma, self.dimensions, self.stride = sigma, dimensions, 1.0
        self.widths: Callable[[], Tensor] | None = None

    def learn_sigma(self, widths: Callable[[], Tensor], start: float, weight: float) -> None:
        self.widths = widths

    def forward(self, outputs: Any, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        terms = {"kl": supervise(self.term, outputs, labels)}
        if self.widths is not None:
            terms["sigma"] = over_levels([-0.5 * entropy(target) for target in labels["heatmaps"]], labels)
        return terms

    @staticmethod
    def term(logits: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy (B, N). An all-zero target leaves −log p("not here"), as "not here" has logit 0."""
        mass = target.flatten(2).sum(-1)
        mass = torch.where(mass > 0, mass, 1)  # scores / tiny overflow on the way back to a learned width
        return log_partition(logits) - (target * logits).flatten(2).sum(-1) / mass

    def activation(self, outputs: Any) -> Tensor:
        """Probabilities of the positions, scaled so that a perfect label's peak is 1: (B, N, *S)."""
        logits = levels(outputs)[0].float()
        excess = log_partition(logits) - self.perfect_mass(logits).log()
        excess = excess.reshape(*logits.shape[:2], *[1] * (logits.ndim - 2))
        return (logits - excess).exp_()  # one map in memory beside the logits

    def perfect_mass(self, maps: Tensor) -> Tensor:
        """What makes 1 of a perfect prediction's probability at the centre, and so the sum of its map.

        One number, or (N,) where widths are learned.
        """
        if self.widths is None:
            width = max(self.sigma / self.stride, 1.0)  # no level's Gaussian is narrower than a pixel
            return torch.tensor((math.sqrt(2 * math.pi) * width) ** self.dimensions)
        dimensions = maps.ndim - 2
        finest = volumes(level_sigmas(self.widths(), [self.stride]), dimensions)[0]
        mass: Tensor = finest.to(maps) * (2 * math.pi) ** (dimensions / 2)
        return mass


class HeatmapMSE(nn.Module):
    """`mse`: LaNNU-Net's mean squared error over a map's pixels; all-zero maps for known negatives.

    Args:
        peak: The labels' value at a landmark.
    """

    def __init__(self, peak: float) -> None:
        super().__init__()
        self.peak = peak
        self.start: float | None = None
        self.weight = 0.0

    def learn_sigma(self, widths: Callable[[], Tensor], start: float, weight: float) -> None:
        self.start, self.weight = start, weight

    def forward(self, outputs: Any, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        if self.start is None:
            return {"mse": supervise(self.term, outputs, labels)}
        return self.with_learned_sigma(self.start, outputs, labels)

    def with_learned_sigma(self, start: float, outputs: Any, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        """The error over the label's squared volume, at the start the plain one, and the penalty."""
        pairs = list(zip(levels(outputs), labels["heatmaps"], strict=True))
        visible = labels["state"] == State.VISIBLE
        pixels = [target[0, 0].numel() for _, target in pairs]
        dimensions = pairs[0][1].ndim - 2
        volume = volumes(labels["sigmas"], dimensions)  # (L, N)
        at_start = [max(start * (p / pixels[0]) ** (1 / dimensions), 1.0) ** dimensions for p in pixels]
        errors = []
        for level, (output, target) in enumerate(pairs):
            scale = (at_start[level] / volume[level]) ** 2
            scale = torch.where(visible, scale, scale.detach())  # an empty map has no width
            errors.append(scale * self.term(output.float(), target.float()))
        unit = self.peak**2 * math.pi ** (dimensions / 2) / pixels[0] * at_start[0] ** 2
        penalty = self.weight * unit * penalties(labels["sigmas"], dimensions)[0] * visible
        return {"mse": over_levels(errors, labels), "sigma": over_levels([penalty], labels)}

    @staticmethod
    def term(maps: Tensor, target: Tensor) -> Tensor:
        return (maps - target).square().flatten(2).mean(-1)

    def activation(self, outputs: Any) -> Tensor:
        return levels(outputs)[0].float() / self.peak


class AdaptiveWing(nn.Module):
    """`awl`: the adaptive wing loss of Wang, Bo and Fuxin, ICCV 2019, with their weighted loss map.

    Errors on a landmark keep their gradient until they are small, those on the background fade; the pixels
    near a landmark count `1 + NEAR_WEIGHT` times. The paper's constants are made for maps of peak 1, so
    outputs and labels are divided by the labels' peak. (Outputs of peak 1 would begin with noise as high as
    that, and a network would spend its first hundreds of steps on making it disappear, and its features too.)

    Args:
        peak: The labels' value at a landmark.
    """

    ALPHA, OMEGA, EPSILON, THETA = 2.1, 14.0, 1.0, 0.5  # the paper's
    NEAR_WEIGHT, NEAR = 10.0, 0.2

    def __init__(self, peak: float) -> None:
        super().__init__()
        self.peak = peak

    def forward(self, outputs: Any, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"awl": supervise(self.term, outputs, labels)}

    def term(self, maps: Tensor, target: Tensor) -> Tensor:
        maps, target = maps / self.peak, target / self.peak
        error = (target - maps).abs()
        exponent = self.ALPHA - target
        # Each branch only ever sees errors of its own range, so neither can overflow.
        wing = self.OMEGA * (error.clamp(max=self.THETA) / self.EPSILON).pow(exponent).log1p()
        at_theta = torch.pow(self.THETA / self.EPSILON, exponent)
        slope = self.OMEGA * exponent / self.THETA * at_theta / (1 + at_theta)
        value = wing + slope * (error - self.THETA).clamp(min=0)
        dilated = functional.max_pool3d if target.ndim == 5 else functional.max_pool2d
        near = dilated(target.detach(), 3, stride=1, padding=1) >= self.NEAR
        return (value * (1 + self.NEAR_WEIGHT * near)).flatten(2).mean(-1)

    def activation(self, outputs: Any) -> Tensor:
        return levels(outputs)[0].float() / self.peak


class HardestCrossEntropy(nn.Module):
    """`bce_topk`: binary cross-entropy of every pixel with its label in 0 … 1, over the hardest of each map.

    The hardest are those furthest above the least cross-entropy that their label allows, which is not 0
    between 0 and 1: a Gaussian learned to perfection is not hard. Outputs count from the logit of `PRIOR`,
    about the share of a map that a landmark takes, so that a network starts with maps that are nearly right
    (Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, sec. 3.3), not by clearing them.

    Args:
        peak: The labels' value at a landmark.
    """

    FRACTION = 0.1  # of the pixels of a map, as in nnU-Net's top-k loss
    PRIOR = 0.01
    START = math.log(PRIOR / (1 - PRIOR))

    def __init__(self, peak: float) -> None:
        super().__init__()
        self.peak = peak

    def forward(self, outputs: Any, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"bce_topk": supervise(self.term, outputs, labels)}

    def term(self, maps: Tensor, target: Tensor) -> Tensor:
        logits, target = (maps + self.START).flatten(2), (target / self.peak).flatten(2)
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        with torch.no_grad():
            excess = entropy + torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target)
            hardest = excess.topk(math.ceil(self.FRACTION * excess.shape[-1]), sorted=False).indices
        return entropy.gather(-1, hardest).mean(-1)

    def activation(self, outputs: Any) -> Tensor:
        return (levels(outputs)[0].float() + self.START).sigmoid()


LOSSES: dict[str, Callable[[float, float, int], Loss]] = {
    "kl": lambda peak, sigma, dimensions: SoftmaxCrossEntropy(sigma, dimensions),
    "mse": lambda peak, sigma, dimensions: HeatmapMSE(peak),
    "awl": lambda peak, sigma, dimensions: AdaptiveWing(peak),
    "bce_topk": lambda peak, sigma, dimensions: HardestCrossEntropy(peak),
}
"""Builders of (peak, sigma, dimensions): `hm_lambda_scale`, the finest level's sigma in its pixels, and D."""


def log_partition(logits: Tensor) -> Tensor:
    """log(1 + Σ exp(logits)) over the positions: (B, N, *S) to (B, N). The 1 is "not here"."""
    positions = logits.flatten(2).logsumexp(-1)
    return torch.logaddexp(positions, torch.zeros_like(positions))


def supervise(term: Callable[[Tensor, Tensor], Tensor], outputs: Any, labels: Mapping[str, Any]) -> Tensor:
    """The weighted sum over levels of the mean over labelled landmarks of `term`(output, heatmap) (B, N)."""
    pairs = zip(levels(outputs), labels["heatmaps"], strict=True)
    return over_levels([term(output.float(), heatmap.float()) for output, heatmap in pairs], labels)


def over_levels(values: Sequence[Tensor], labels: Mapping[str, Any]) -> Tensor:
    """The weighted sum over levels of the mean over labelled landmarks of values (B, N), finest first."""
    weight = (labels["state"] != State.UNLABELLED).float()
    if "weight" in labels:
        weight = weight * labels["weight"]
    # Nothing labelled is 0 / tiny: a loss of exactly 0 with a gradient of 0.
    weight = weight / sum_over_processes(weight.sum()).clamp(min=torch.finfo(weight.dtype).tiny)
    shares = [0.5**level for level in range(len(values))]
    terms = [share * (weight * value).sum() for share, value in zip(shares, values, strict=True)]
    return sum_over_processes(torch.stack(terms).sum() / sum(shares))
