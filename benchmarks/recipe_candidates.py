"""What `benchmarks.recipe` tries beyond the configuration's keys, as a plugin of one file."""

import math
from dataclasses import replace
from typing import Literal

import torch
from lannunet_landmarks import SoftmaxCrossEntropy
from pydantic import Field
from torch.nn import functional

from lannunet_core import (
    Plugin,
    PluginConfig,
    RandomAffine,
    RandomElastic,
    RandomIntensity,
    RandomScheme,
    SomeOf,
    State,
    hookimpl,
    levels,
)

EVERY_SAMPLE = RandomAffine(rotation=30, scale_each=(0.85, 1.15), translation=0.07)
UPRIGHT = RandomAffine(rotation=15, scale=(0.85, 1.15), scale_each=(0.9, 1.1), translation=0.05)
GREY = SomeOf(
    (
        RandomIntensity("contrast", {"factor": (0.8, 1.2)}),
        RandomIntensity("add", {"amplitude": (0.0, 0.1)}),
    ),
    fewest=2,
    most=2,
)
ELASTIC = RandomElastic(alpha=(0, 50), sigma=(5, 9), probability=0.5)


class RecipeCandidates(Plugin):
    class Config(PluginConfig):
        schedule: Literal["", "warm-up", "one-cycle"] = ""
        weight_decay: float | None = Field(None, ge=0)

    @hookimpl
    def augmentations(self):
        return {
            "EverySample": lambda: RandomScheme(EVERY_SAMPLE, intensity=(GREY,)),
            "EverySampleElastic": lambda: RandomScheme(EVERY_SAMPLE, elastic=ELASTIC, intensity=(GREY,)),
            "AnyRotation": lambda: RandomScheme(replace(UPRIGHT, rotation=180), intensity=(GREY,)),
        }

    @hookimpl
    def losses(self):
        dimensions = self.run.dimensions
        return {
            "narrowing": lambda: Narrowing(2.0, dimensions),
            "expectation": lambda: Expectation(2.0, dimensions),
        }

    @hookimpl(wrapper=True)
    def optimizer_and_scheduler(self, total_steps):
        optimizer, scheduler = yield
        if self.config.weight_decay is not None:
            for group in optimizer.param_groups:
                group["weight_decay"] = self.config.weight_decay
        if self.config.schedule:
            factor = {"warm-up": warm_up, "one-cycle": one_cycle}[self.config.schedule]

            class Changed(type(scheduler)):
                def get_lr(self):
                    return [rate * factor(self.last_epoch, self.total_steps) for rate in super().get_lr()]

            scheduler = Changed(optimizer, total_steps)
        return optimizer, scheduler


def warm_up(step, total):
    return min(1.0, (step + 1) / 20)


def one_cycle(step, total):
    """Over the polynomial decay: up to twice the rate after a quarter, then down by a cosine."""
    share = step / total
    rise = min(share / 0.25, 1.0)
    fall = 0.5 * (1 + math.cos(math.pi * max(share - 0.25, 0.0) / 0.75))
    return (0.1 + 1.9 * rise) * fall / max((1 - share) ** 0.9, 1e-3)


class Narrowing(SoftmaxCrossEntropy):
    """`kl` with labels that narrow from twice the sigma to half of it."""

    def __init__(self, sigma, dimensions):
        super().__init__(sigma, dimensions)
        self.register_buffer("share", torch.zeros(()))

    def forward(self, outputs, labels):
        # 4^-1 at the start, 4 at the end of the run: the width goes with the root.
        power = 4.0 ** (2 * float(self.share) - 1)
        self.share += (1 - self.share) / 300 if self.training else 0
        narrowed = [heatmap.pow(power) for heatmap in labels["heatmaps"]]
        return super().forward(outputs, {**labels, "heatmaps": narrowed})


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
