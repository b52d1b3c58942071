"""Each check finds the fault that is planted in a plugin's results of the hooks of landmarks.

A sound plugin for each kind of hook stands here in full; a fault is one change of its text.
"""

import pytest
from lannunet_landmarks.conformance import DecodeConformance, LabelConformance, LandmarkLossConformance

from lannunet_core.testing import SamplingConformance

LABELS = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("landmarks",)

    @hookimpl
    def generate_labels(self, landmarks, states, level_sizes, image_size, sigmas, lambda_scale):
        import torch
        visible = (states == 0)[..., None]
        landmarks = torch.where(visible, landmarks, 0)
        heatmaps = []
        for level, size in enumerate(level_sizes):
            points = (landmarks + 0.5) * torch.tensor(size) / torch.tensor(image_size) - 0.5
            axes = [torch.arange(side).float() for side in size[::-1]]
            grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)
            distance = (grid - points.reshape(*states.shape, *[1] * len(size), -1)).square().sum(-1)
            shape = (*states.shape, *[1] * len(size))
            width = sigmas[level].reshape(1, -1, *[1] * len(size))
            heatmaps.append(lambda_scale * visible.reshape(shape) * torch.exp(-distance / (2 * width**2)))
        return {"state": states, "heatmaps": heatmaps}
"""
LOSS = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("landmarks",)

    @hookimpl
    def loss(self):
        from parts import Loss
        return Loss()
"""
LOSS_PARTS = """
import torch
from torch import nn

class Loss(nn.Module):
    def forward(self, outputs, labels):
        weight = (labels["state"] != 3).float() * labels.get("weight", 1)
        error = (outputs[0] - labels["heatmaps"][0] / 100).square().flatten(2).mean(-1)
        return {"squares": (weight * error).sum() / weight.sum().clamp(min=1)}

    def activation(self, outputs):
        return outputs[0]
"""
SAMPLING = """
from dataclasses import dataclass
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("landmarks",)

    @hookimpl
    def sampling(self):
        from parts import Patches
        return Patches((24, 16, 8)[:self.run.dimensions])
"""
SAMPLING_PARTS = """
from dataclasses import dataclass
import numpy as np

@dataclass
class Patches:
    output_size: tuple[int, ...]

    def centre(self, rng, image_size, landmarks, states, transform, sample, affine):
        visible = landmarks[states == 0]
        if len(visible) and rng.random() < 0.5:
            return visible[rng.integers(len(visible))].copy()
        return rng.uniform(0, np.array(image_size) - 1)
"""
DECODE = """
from lannunet_core import Coordinates, Plugin, hookimpl

class Model(Plugin):
    tasks = ("landmarks",)

    @hookimpl
    def get_coords_from_heatmap(self, heatmaps):
        import torch
        maps = heatmaps if torch.is_tensor(heatmaps) else heatmaps[0]
        peak = maps.flatten(2).max(-1).values
        axes = torch.meshgrid(*[torch.arange(side) for side in maps.shape[2:]], indexing="ij")[::-1]
        near = torch.where(maps > 0.01 * peak.reshape(*peak.shape, *[1] * len(axes)), maps, 0)
        mass = near.flatten(2).sum(-1)
        points = torch.stack([(near * axis).flatten(2).sum(-1) / mass for axis in axes], -1)
        return Coordinates(points, peak.clamp(0, 1))
"""

SOUND = {
    "labels": (LabelConformance, LABELS, ""),
    "loss": (LandmarkLossConformance, LOSS, LOSS_PARTS),
    "sampling": (SamplingConformance, SAMPLING, SAMPLING_PARTS),
    "decode": (DecodeConformance, DECODE, ""),
}

# kind: the check that finds it, the text that is changed, into what, and what is said of it.
FAULTS = {
    # labels
    "labels transposed": (
        "labels",
        "labels_decode_back",
        "[::-1], -1)",
        ", -1)",
        "the axes are in reverse order",
    ),
    "labels rounded": (
        "labels",
        "labels_follow_subpixel_moves",
        "landmarks, 0)",
        "landmarks.round(), 0)",
        "rounded",
    ),
    "labels half a pixel off": (
        "labels",
        "labels_decode_back",
        "/ torch.tensor(image_size) - 0.5",
        "/ torch.tensor(image_size)",
        "shifted by half a pixel",
    ),
    "label for a missing landmark": (
        "labels",
        "missing_landmarks_leave_no_label",
        "visible = (states == 0)[..., None]",
        "visible = (states == states)[..., None]\n        landmarks = landmarks.nan_to_num()",
        "label of an unlabelled or absent landmark depends on its coordinates",
    ),
    "NaN reaches the label": (
        "labels",
        "missing_landmarks_leave_no_label",
        "landmarks = torch.where(visible, landmarks, 0)",
        "pass",
        "NaN or infinite where landmarks without a point are given at NaN",
    ),
    "states changed": (
        "labels",
        "labels_hold_states",
        '"state": states',
        '"state": states.clamp(max=1)',
        "labels['state'] is",
    ),
    "width detached": (
        "labels",
        "gradients_reach_sigmas",
        "sigmas[level]",
        "sigmas[level].detach()",
        "detached from `sigmas`",
    ),
    "noise on labels": (
        "labels",
        "labels_are_a_function_of_the_batch",
        '"state": states,',
        '"noise": torch.rand(1), "state": states,',
        "draws from, or seeds, the global generator of torch",
    ),
    # loss
    "no gradient": (
        "loss",
        "loss_is_differentiable",
        "(outputs[0] - labels",
        "((outputs[0] > 0.5).float() - labels",
        "do not depend on the outputs",
    ),
    "unlabelled counts": (
        "loss",
        "unlabelled_contributes_nothing",
        '(labels["state"] != 3).float()',
        'torch.ones_like(labels["state"]).float()',
        "a sample without any label gets a gradient",
    ),
    "empty mean": (
        "loss",
        "nothing_labelled_is_finite",
        ".clamp(min=1)",
        "",
        "must not make 0/0",
    ),
    "weights ignored": (
        "loss",
        "weights_count",
        ' * labels.get("weight", 1)',
        "",
        "a sample of weight 0 gets a gradient",
    ),
    "no activation": (
        "loss",
        "terms_are_named_scalars",
        "def activation",
        "def active",
        "a method 'activation'",
    ),
    "activation in units of the peak": (
        "loss",
        "activation_is_a_map",
        "return outputs[0]",
        "return outputs[0] * 100",
        "should be 1",
    ),
    "activation with a pedestal": (
        "loss",
        "activation_is_a_map",
        "return outputs[0]",
        "return 0.3 + 0.7 * outputs[0]",
        "background",
    ),
    "absence not trained": (
        "loss",
        "known_negatives_are_learned",
        '(labels["state"] != 3)',
        '(labels["state"] == 0)',
        "a sample with all landmarks absent has no gradient",
    ),
    "terms of a batch": (
        "loss",
        "terms_are_named_scalars",
        "(weight * error).sum()",
        "(weight * error)",
        "should be a scalar tensor",
    ),
    "parameters outside of a module": (
        "loss",
        "learnable_loss_is_a_module",
        "class Loss(nn.Module):\n    def forward",
        "class Loss:\n    def __init__(self):\n        self.width = nn.Parameter(torch.ones(1))\n\n"
        "    def __call__",
        "Loss holds width and is not an nn.Module",
    ),
    # sampling
    "global generator": (
        "sampling",
        "sampling_draws_from_rng_only",
        "rng.uniform(0",
        "np.random.uniform(0",
        "sampling draws from, or seeds, the global generator of numpy.random",
    ),
    "generator of its own": (
        "sampling",
        "sampling_draws_from_rng_only",
        "rng.uniform(0",
        "np.random.default_rng().uniform(0",
        "the same rng gave",
    ),
    "centre (y, x)": (
        "sampling",
        "samples_show_their_image",
        "np.array(image_size) - 1)",
        "np.array(image_size) - 1)[::-1]",
        "is it (y, x)?",
    ),
    "does not pickle": (
        "sampling",
        "sampling_pickles",
        "return Patches(",
        "return type('Local', (Patches,), {})(",
        "does not pickle",
    ),
    "needs a landmark": (
        "sampling",
        "sampling_does_without_labels",
        "len(visible) and ",
        "",
        "it raises ValueError",
    ),
    "changes its arguments": (
        "sampling",
        "sampling_does_without_labels",
        "visible = ",
        "landmarks += 1\n        visible = ",
        "`centre` changes 'landmarks'",
    ),
    "asks for what there is not": (
        "sampling",
        "sampling_is_complete",
        ", transform",
        ", transforms",
        "`centre` asks for 'transforms'; it may ask for rng, ",
    ),
    "a corner for the centre": (
        "sampling",
        "samples_show_their_image",
        "return rng.uniform(0, np.array(image_size) - 1)",
        "return -np.array(self.output_size) + 0.0",
        "shows nothing",
    ),
    # decoding
    "decoder transposed": (
        "decode",
        "decodes_to_the_point",
        "for axis in axes]",
        "for axis in axes[::-1]]",
        "the axes are in reverse order",
    ),
    "decoder rounds": (
        "decode",
        "decodes_to_the_point",
        "Coordinates(points,",
        "Coordinates(points.round(),",
        "whole numbers",
    ),
    "flat map named": (
        "decode",
        "flat_maps_have_no_point",
        "/ mass for",
        "/ mass.clamp(min=1) for",
        "a map of zeros decodes to [0.0, 0.0]",
    ),
    "confidence above 1": (
        "decode",
        "confidence_is_a_share",
        "peak.clamp(0, 1)",
        "peak",
        "it should lie in 0 … 1",
    ),
    "uncertainty for confidence": (
        "decode",
        "confidence_is_a_share",
        "peak.clamp(0, 1)",
        "1 - peak.clamp(0, 1)",
        "perfect maps have the low confidence",
    ),
    "shapes of one landmark": (
        "decode",
        "decoded_shapes",
        "peak.clamp(0, 1))",
        "peak.clamp(0, 1), torch.zeros(1, 2, 2, 2))",
        "covariance is (1, 2, 2, 2)",
    ),
    "decoded by the batch": (
        "decode",
        "samples_are_decoded_alone",
        "Coordinates(points,",
        "Coordinates(points + points[:1] * 1e-3,",
        "in another order",
    ),
}


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_plugin_passes(check_sound, kind):
    check_sound(*SOUND[kind])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(check_found, fault):
    kind, *found = FAULTS[fault]
    check_found(SOUND[kind], found)
