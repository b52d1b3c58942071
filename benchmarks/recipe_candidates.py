"""Candidates of `benchmarks.recipe` that are not keys of the configuration, as a plugin in one file."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from lannunet_landmarks import SoftmaxCrossEntropy
from torch.nn import functional

from lannunet_core import (
    Plugin,
    PluginConfig,
    RandomAffine,
    RandomElastic,
    RandomIntensity,
    RandomScheme,
    Scheme,
    SomeOf,
    State,
    hookimpl,
    levels,
    make_scheme,
)

EVERY_SAMPLE = RandomAffine(rotation=30, scale_each=(0.85, 1.15), translation=0.07)
STRONGER = RandomAffine(rotation=30, scale=(0.75, 1.3), scale_each=(0.85, 1.15), translation=0.05)
GREY = SomeOf(
    (
        RandomIntensity("contrast", {"factor": (0.8, 1.2)}),
        RandomIntensity("add", {"amplitude": (0.0, 0.1)}),
    ),
    fewest=2,
    most=2,
)


class RecipeCandidates(Plugin):
    class Config(PluginConfig):
        one_cycle: bool = False
        warm_up: int = 0  # batches

    @hookimpl
    def augmentations(self):
        return {
            "EverySample": lambda: RandomScheme(EVERY_SAMPLE, intensity=(GREY,)),
            "NnunetWithoutMirrors": WithoutMirrors,
            "ElasticMirrored": LeftRight,
            "NnunetStronger": lambda: NnunetIntensities(
                RandomScheme(STRONGER, elastic=RandomElastic(alpha=(0, 100), sigma=(3, 6)))
            ),
            "UprightNnunet": lambda: NnunetIntensities(make_scheme("Upright")),
        }

    @hookimpl
    def losses(self):
        dimensions = self.run.dimensions
        return {
            "expectation": lambda: Expectation(2.0, dimensions),
        }

    @hookimpl(wrapper=True)
    def optimizer_and_scheduler(self, total_steps):
        optimizer, scheduler = yield
        if self.config.one_cycle:

            class OneCycle(type(scheduler)):
                def get_lr(self):
                    factor = one_cycle(self.last_epoch / self.total_steps)
                    return [rate * factor for rate in super().get_lr()]

            scheduler = OneCycle(optimizer, total_steps)
        if steps := self.config.warm_up:

            class WarmUp(type(scheduler)):
                def get_lr(self):
                    factor = min((self.last_epoch + 1) / steps, 1.0)
                    return [rate * factor for rate in super().get_lr()]

            scheduler = WarmUp(optimizer, total_steps)
        return optimizer, scheduler


class WithoutMirrors:
    """nnU-Net's scheme without mirroring."""

    def __init__(self):
        from lannunet_segmentation.data.nnunet_scheme import NnunetScheme

        self.scheme = NnunetScheme()

    def draw(self, rng, size, sample=None):
        drawn = self.scheme.draw(rng, size, sample)
        spatial = drawn.spatial
        # mirrors change the sign of a column, whose diagonal is positive for turns under 90 degrees
        linear = spatial.linear * np.sign(np.diag(spatial.linear))
        return replace(drawn, spatial=replace(spatial, linear=linear))


class LeftRight:
    """`UprightElastic`, with every other sample mirrored along x."""

    scheme = make_scheme("UprightElastic")

    def draw(self, rng, size):
        drawn = self.scheme.draw(rng, size)
        sign = np.where((np.arange(len(size)) == 0) & (rng.random() < 0.5), -1.0, 1.0)
        return replace(drawn, spatial=replace(drawn.spatial, linear=drawn.spatial.linear * sign))


@dataclass(frozen=True)
class NnunetIntensities:
    """The moves of a scheme, with nnU-Net's changes of intensity."""

    moves: Scheme

    def draw(self, rng, size, sample=None):
        from lannunet_segmentation.data.nnunet_scheme import draw_changes

        case = sample if hasattr(sample, "channels") else None  # an image with landmarks has one
        return replace(self.moves.draw(rng=rng, size=size), intensity=draw_changes(rng, case, None))


def one_cycle(share):
    """One cycle instead of the polynomial decay: to twice the rate after a quarter, then down as a cosine."""
    rise = min(share / 0.25, 1.0)
    fall = 0.5 * (1 + math.cos(math.pi * max(share - 0.25, 0.0) / 0.75))
    return (0.1 + 1.9 * rise) * fall / max((1 - share) ** 0.9, 1e-3)


class Expectation(SoftmaxCrossEntropy):
    """`kl`, and the distance of the expected position from the landmark (Nibali et al. 2018), in pixels."""

    WEIGHT = 0.05

    def forward(self, outputs, labels):
        terms = super().forward(outputs, labels)
        logits = levels(outputs)[0].float()
        sizes = logits.shape[2:]
        mass = logits.flatten(2).softmax(-1).reshape(logits.shape)
        target = labels["heatmaps"][0].float()
        target = target / target.flatten(2).sum(-1).clamp(min=1e-6).reshape(
            *target.shape[:2], *[1] * len(sizes)
        )
        distance = 0.0
        for axis, size in enumerate(sizes):
            others = [2 + one for one in range(len(sizes)) if one != axis]
            steps = torch.arange(size, device=logits.device, dtype=torch.float32)
            distance = distance + functional.smooth_l1_loss(
                (mass.sum(others) * steps).sum(-1), (target.sum(others) * steps).sum(-1), reduction="none"
            )
        seen = (labels["state"] == State.VISIBLE).float()
        terms["expectation"] = self.WEIGHT * (distance * seen).sum() / seen.sum().clamp(min=1)
        return terms
