"""Plugins that look at a run from inside, or break it."""

import sys

import pytest

WORKSHOP = '''
import math
import os
import signal

from lannunet_core import Plugin, hookimpl


class Saboteur(Plugin):
    """Signals its process (or the group) at a training step, counted in this process, or at an epoch's end.

    SABOTAGE="step 8 SIGKILL" says when and how."""

    steps = 0

    @hookimpl(wrapper=True)
    def generate_labels(self):
        labels = yield
        self.steps += 1
        strike("step", self.steps)
        return labels

    @hookimpl
    def observe(self, event):
        if event.name == "epoch":
            strike("epoch", event.values["epoch"])


def strike(what, number):
    planned, count, name = os.environ.get("SABOTAGE", "- 0 -").split()
    if (planned, int(count)) == (what, number):
        if "SABOTAGE_GROUP" in os.environ:
            os.killpg(os.getpgrp(), getattr(signal, name))
        else:
            os.kill(os.getpid(), getattr(signal, name))


class Watcher(Plugin):
    """Keeps what it was told, and what the optimizer saw at each step."""

    @hookimpl
    def observe(self, event):
        events.append(event)

    @hookimpl(wrapper=True)
    def optimizer_and_scheduler(self):
        optimizer, scheduler = yield

        def look(optimizer, *_):
            import torch

            gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
            norms.append(float(torch.nn.utils.get_total_norm([g for g in gradients if g is not None])))
            rates.append(optimizer.param_groups[0]["lr"])

        optimizer.register_step_pre_hook(look)
        optimizers.append(optimizer)
        return optimizer, scheduler


events, norms, rates, optimizers = [], [], [], []


class Losses(Plugin):
    @hookimpl
    def losses(self):
        from workshop_losses import Breaking, Learned, Steep

        return {"breaking": Breaking, "learned": Learned, "steep": Steep}


class Names(Plugin):
    @hookimpl
    def losses(self):
        return {"beside": dict}

    @hookimpl
    def decoders(self):
        return {"beside": dict}

    @hookimpl
    def augmentations(self):
        return {"beside": dict}


class Drifting(Plugin):
    """Every evaluated batch comes out further off than the one before."""

    batches = 0

    @hookimpl(wrapper=True)
    def get_coords_from_heatmap(self):
        from dataclasses import replace

        found = yield
        self.batches += 1
        return replace(found, points=found.points + 100 * self.batches)


class Blind(Plugin):
    """Finds nothing."""

    @hookimpl(wrapper=True)
    def get_coords_from_heatmap(self):
        from dataclasses import replace

        found = yield
        return replace(found, points=found.points * math.nan, confidence=found.confidence * 0)


class Stumbling(Plugin):
    """Its sampling refuses what it sees."""

    @hookimpl
    def sampling(self):
        from workshop_losses import Refusing

        return Refusing(self.run.input_size)


class Probe(Plugin):
    @hookimpl
    def network(self):
        from workshop_losses import ProbeNetwork

        return ProbeNetwork(self.run.in_channels, len(self.run.outputs))
'''

LOSSES = '''
import torch
from torch import nn

from lannunet_core.data.sampling import FullImage
from lannunet_core.errors import UserError
from lannunet_core.losses import SoftmaxCrossEntropy


class Breaking(SoftmaxCrossEntropy):
    """Its fifth loss is not a number."""

    def __init__(self):
        super().__init__(2.0, 2)
        self.calls = 0

    def forward(self, outputs, labels):
        terms = super().forward(outputs, labels)
        self.calls += 1
        return terms | {"odd": terms["kl"] * (float("nan") if self.calls == 5 else 0.0)}


class Steep(SoftmaxCrossEntropy):
    def __init__(self):
        super().__init__(2.0, 2)

    def forward(self, outputs, labels):
        return {"steep": 1e6 * super().forward(outputs, labels)["kl"]}


class Learned(SoftmaxCrossEntropy):
    """Has a parameter that is drawn to 3."""

    def __init__(self):
        super().__init__(2.0, 2)
        self.width = nn.Parameter(torch.ones(()))

    def forward(self, outputs, labels):
        return super().forward(outputs, labels) | {"width": (self.width - 3).square()}


class Refusing(FullImage):
    def centre(self, **_):
        raise UserError("a.yaml: this is refused. Do that instead.")


class Recording(torch.autograd.Function):
    seen = []

    @staticmethod
    def forward(ctx, x):
        Recording.seen.append(("forward", torch.is_autocast_enabled("cpu")))
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        Recording.seen.append(("backward", torch.is_autocast_enabled("cpu")))
        return gradient


class ProbeNetwork(nn.Module):
    """Keeps whether autocast is on where it is used; has dropout and running statistics."""

    def __init__(self, channels, outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, outputs, 1)
        )

    def forward(self, image):
        return Recording.apply(self.layers(image))
'''


@pytest.fixture
def workshop(distribution, monkeypatch):
    """Installs the plugins above; the answer gives their module when it is called (in a run, not before)."""
    names = ("Saboteur", "Watcher", "Losses", "Names", "Drifting", "Blind", "Stumbling", "Probe")
    distribution(
        "workshop",
        {name.lower(): f"workshop:{name}" for name in names},
        {"workshop.py": WORKSHOP, "workshop_losses.py": LOSSES},
    )
    return lambda name="workshop": sys.modules[name]
