"""Every fault that is planted is found by the check for it, and what it says names the fault.

A sound plugin for each kind of hook stands here in full; a fault is one change of its text.
"""

import pytest

from lannunet_core.testing import (
    ArchitectureConformance,
    DecodeConformance,
    ExtraMapsConformance,
    LabelConformance,
    LossConformance,
    SamplingConformance,
    SegmentationConformance,
    run,
)
from lannunet_core.testing.suites import run_one

NETWORK = """
from pydantic import Field
from lannunet_core import Plugin, PluginConfig, hookimpl

class Model(Plugin):
    class Config(PluginConfig):
        features: int = Field(8, ge=1, description="Features of the hidden layer.")

    @hookimpl
    def network(self):
        from parts import Network
        return Network(self.run, self.config.features)
"""
PARTS = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional

class Network(nn.Module):
    def __init__(self, run, features):
        super().__init__()
        self.resolutions = run.supervised_resolutions
        convolution = nn.Conv2d if run.dimensions == 2 else nn.Conv3d
        self.pool = functional.avg_pool2d if run.dimensions == 2 else functional.avg_pool3d
        self.first = convolution(run.in_channels, features, 5, padding=2)
        self.norm = (nn.BatchNorm2d if run.dimensions == 2 else nn.BatchNorm3d)(features)
        self.last = convolution(features, len(run.outputs), 5, padding=2)

    def forward(self, image):
        x = torch.relu(self.norm(self.first(image)))
        maps = [self.last(x)]
        for _ in range(1, self.resolutions):
            maps.append(self.pool(maps[-1], 2))
        return maps
"""
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
VOXEL_LABELS = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def generate_labels(self, states, level_sizes, sample):
        import torch
        label = sample["label"]
        weight = (label >= 0) * sample.get("weight", torch.ones(label.shape))
        targets, weights = [], []
        for size in level_sizes:
            places = [torch.arange(side) * (full // side) for side, full in zip(size[::-1], label.shape[1:])]
            grid = torch.meshgrid(*places, indexing="ij")
            targets.append(label[(slice(None), *grid)].long())
            weights.append(weight[(slice(None), *grid)].float())
        return {"state": states, "segmentation": targets, "weight": weights}
"""
VOXEL_LOSS_PARTS = """
import torch
from torch import nn
from torch.nn import functional

class Loss(nn.Module):
    def forward(self, outputs, labels):
        target, weight = labels["segmentation"][0], labels["weight"][0]
        voxels = functional.cross_entropy(outputs[0], target.clamp(min=0), reduction="none")
        return {"entropy": (weight * voxels).sum() / weight.sum().clamp(min=1)}

    def activation(self, outputs):
        return outputs[0].softmax(1)
"""
SEGMENTATION = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def get_segmentation(self, maps):
        sure = maps[1:].amax(0) > 0.5
        return maps.argmax(0) * sure
"""
EXTRA_MAPS = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def extra_maps(self, dataset, folder):
        import numpy as np
        from lannunet_segmentation.data.folders import read_label
        from lannunet_segmentation.types import ExtraMap
        folder.mkdir(exist_ok=True)
        files = {}
        for case in dataset.training:
            label, _ = read_label(case.label, dataset)
            files[case.id] = folder / f"{case.id}.npy"
            np.save(files[case.id], 1.0 + (label == 2))
        return [ExtraMap("rare", "weight", "linear", 0.0, files)]
"""
SAMPLING = """
from dataclasses import dataclass
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
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
VOXEL_SAMPLING_PARTS = """
from dataclasses import dataclass
import numpy as np

@dataclass
class Patches:
    output_size: tuple[int, ...]

    def centre(self, rng, image_size, landmarks, states, transform, sample, affine):
        present = [value for value in sample.classes_present if value > 0]
        voxels = sample.voxels(int(rng.choice(present))) if present else sample.annotated()
        middle = (np.array(self.output_size) - 1) / 2
        voxel = voxels.draw(rng).astype(float)
        return voxel - transform.to_source(middle, np.zeros(len(image_size)), self.output_size)
"""
DECODE = """
from lannunet_core import Plugin, hookimpl
from lannunet_core.hookspecs import Coordinates

class Model(Plugin):
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
    "network": (ArchitectureConformance, NETWORK, PARTS),
    "labels": (LabelConformance, LABELS, ""),
    "loss": (LossConformance, LOSS, LOSS_PARTS),
    "sampling": (SamplingConformance, SAMPLING, SAMPLING_PARTS),
    "voxel labels": (LabelConformance, VOXEL_LABELS, ""),
    "voxel loss": (LossConformance, LOSS.replace('"landmarks"', '"segmentation"'), VOXEL_LOSS_PARTS),
    "voxel sampling": (
        SamplingConformance,
        SAMPLING.replace("    @hookimpl", '    tasks = ("segmentation",)\n\n    @hookimpl', 1),
        VOXEL_SAMPLING_PARTS,
    ),
    "segmentation": (SegmentationConformance, SEGMENTATION, ""),
    "extra maps": (ExtraMapsConformance, EXTRA_MAPS, ""),
    "decode": (DecodeConformance, DECODE, ""),
}

# kind: the check that finds it, the text that is changed, into what, and what is said of it.
FAULTS = {
    # the package
    "no description": (
        "network",
        "config_describes_every_field",
        ', description="Features of the hidden layer."',
        "",
        "no description: features",
    ),
    "default out of range": (
        "network",
        "config_is_valid_by_default",
        "Field(8, ge=1",
        "Field(0, ge=1",
        "default of 'features' is not valid: Input should be greater than or equal to 1",
    ),
    "setting without default": (
        "network",
        "config_is_valid_by_default",
        "Field(8, ge=1",
        "Field(ge=1",
        "'features' is not valid",
    ),
    "any key accepted": (
        "network",
        "config_refuses_unknown_keys",
        "    class Config(PluginConfig):",
        '    class Config(PluginConfig):\n        model_config = {"extra": "allow"}',
        "'no_such_key: 1' was accepted",
    ),
    "torch at import": (
        "network",
        "imports_without_torch",
        "from pydantic",
        "import torch\nfrom pydantic",
        "imports torch",
    ),
    "print at import": (
        "network",
        "imports_without_torch",
        "from pydantic",
        "print('hello')\nfrom pydantic",
        "prints 'hello'",
    ),
    "misspelt hook": (
        "network",
        "hooks_are_those_of_the_core",
        "    @hookimpl",
        "    @hookimpl\n    def los(self):\n        pass\n\n    @hookimpl",
        "no hook 'los'; did you mean 'loss'",
    ),
    # the network
    "detached parameter": (
        "network",
        "gradients_reach_every_parameter",
        "self.last(x)]",
        "self.last(x.detach())]",
        "'network.first.weight' gets no gradient in 2D",
    ),
    "unused parameter": (
        "network",
        "gradients_reach_every_parameter",
        "self.last = ",
        "self.spare = nn.Parameter(torch.ones(3))\n        self.last = ",
        "'network.spare' gets no gradient",
    ),
    "parameter times zero": (
        "network",
        "gradients_reach_every_parameter",
        "maps = [self.last(x)]",
        "maps = [self.last(x) + 0 * self.first(image)[:, :1]]\n        maps = [self.last(x * 0)]",
        "the gradient of 'network.first.weight' is 0 throughout",
    ),
    "one output too many": (
        "network",
        "shapes_and_dtypes",
        "len(run.outputs)",
        "len(run.outputs) + 1",
        "one map a landmark",
    ),
    "output too small": (
        "network",
        "shapes_and_dtypes",
        "len(run.outputs), 5, padding=2)",
        "len(run.outputs), 5)",
        "the finest is as large as the image",
    ),
    "coarsest first": (
        "network",
        "shapes_and_dtypes",
        "return maps",
        "return maps[::-1]",
        "the finest is as large as the image",
    ),
    "double precision": (
        "network",
        "shapes_and_dtypes",
        "return maps",
        "return [m.double() for m in maps]",
        "float32 in, float32 out",
    ),
    "channels ignored": (
        "network",
        "shapes_and_dtypes",
        "run.in_channels",
        "1",
        "expected input",
    ),
    "no 3D, by a crash": (
        "network",
        "three_dimensions",
        "nn.Conv2d if run.dimensions == 2 else nn.Conv3d",
        "nn.Conv2d",
        "in 3D it raises RuntimeError",
    ),
    "claimed 3D refused": (
        "network",
        "three_dimensions",
        "        from parts",
        "        from lannunet_core.errors import UserError\n        if self.run.dimensions == 3:\n"
        "            raise UserError('only images')\n        from parts",
        "it claims 3D, but it refuses: only images",
    ),
    "one resolution only": (
        "network",
        "deep_supervision",
        "return maps",
        "return maps[:1]",
        "it claims deep supervision, but",
    ),
    "one size only": (
        "network",
        "other_sizes",
        "x = torch",
        "assert image.shape[-1] == 64 or image.shape[-1] == 32, 'made for one size'\n        x = torch",
        "made for one size",
    ),
    "breaks in half precision": (
        "network",
        "mixed_precision",
        "maps = [self.last(x)]",
        "maps = [self.last(x)]\n        maps[0] = torch.zeros(maps[0].shape).index_add(0, "
        "torch.arange(len(image)), maps[0])",
        "under torch.autocast",
    ),
    "segments nothing": (
        "network",
        "segments_a_tiny_problem",
        "maps = [self.last(x)]",
        "maps = [self.last(x) * (1 if self.last.out_channels == 2 else 0.001)]",
        "after 40 steps on four images their mean Dice is",
    ),
    "classes as landmarks": (
        "network",
        "shapes_and_dtypes",
        "len(run.outputs), 5",
        "len(run.outputs) - (run.task == 'segmentation'), 5",
        "there is one map a class",
    ),
    "no segmentation, by a crash": (
        "network",
        "two_dimensions",
        "        from parts",
        "        assert self.run.task == 'landmarks'\n        from parts",
        "in 2D segmentation it raises",
    ),
    "samples mixed": (
        "network",
        "images_do_not_mix",
        "(features)\n",
        "(features, track_running_stats=False)\n",
        "does a normalisation use the batch's statistics",
    ),
    "dropout in prediction": (
        "network",
        "prediction_is_deterministic",
        "maps = [self.last(x)]",
        "maps = [self.last(functional.dropout(x))]",
        "the global generator of torch",
    ),
    "other people's generator at building": (
        "network",
        "same_seed_same_result",
        "self.last = ",
        "self.register_buffer('shift', torch.tensor(np.random.rand()))\n        self.last = ",
        "building the plugin draws from, or seeds, the global generator of numpy.random",
    ),
    "other people's generator in training": (
        "network",
        "same_seed_same_result",
        "maps = [self.last(x)]",
        "maps = [self.last(x * float(np.random.rand() > 0.5))]",
        "training draws from",
    ),
    "clock for a seed": (
        "network",
        "same_seed_same_result",
        "self.last = ",
        "generator = torch.Generator()\n        generator.seed()\n"
        "        self.register_buffer('shift', torch.rand(1, generator=generator))\n        self.last = ",
        "built twice with the same seed, 'network.shift' differs",
    ),
    "seed of its own": (
        "network",
        "same_seed_same_result",
        "self.last = ",
        "torch.manual_seed(42)\n        self.last = ",
        "the run's seed does not count",
    ),
    "state not saved": (
        "network",
        "state_survives_save_and_load",
        "maps = [self.last(x)]",
        "maps = [self.last(x) * self.scale]",
        "not in the state: network.scale",
    ),
    "layers in a plain list": (
        "network",
        "state_survives_save_and_load",
        "self.last(x)]",
        "self.layers[0](x)]",
        "not in the state: network.layers",
    ),
    "does not learn": (
        "network",
        "overfits_a_tiny_problem",
        "    @hookimpl",
        "    @hookimpl\n    def optimizer_and_scheduler(self, module):\n        import torch\n"
        "        return torch.optim.SGD(module.parameters(), lr=1e-9), None\n\n    @hookimpl",
        "after 300 steps on four images their mean error is",
    ),
    "half of it optimised": (
        "network",
        "optimizer_holds_every_parameter",
        "    @hookimpl",
        "    @hookimpl\n    def optimizer_and_scheduler(self, module):\n        import torch\n"
        "        return torch.optim.SGD(module.network.last.parameters(), 0.1), None\n\n    @hookimpl",
        "does not hold network.first.weight",
    ),
    # labels
    "labels transposed": (
        "labels",
        "labels_decode_back",
        "[::-1], -1)",
        ", -1)",
        "the axes the other way round",
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
        "half a pixel lost",
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
    "absence not taught": (
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
        "Loss holds width and is no nn.Module",
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
        "sampling_does_without_landmarks",
        "len(visible) and ",
        "",
        "it raises ValueError",
    ),
    "changes its arguments": (
        "sampling",
        "sampling_does_without_landmarks",
        "visible = ",
        "landmarks += 1\n        visible = ",
        "changes the landmarks or states",
    ),
    "forgets an argument": (
        "sampling",
        "sampling_is_complete",
        ", transform",
        "",
        "`centre` takes (",
    ),
    "a corner for the centre": (
        "sampling",
        "samples_show_their_image",
        "return rng.uniform(0, np.array(image_size) - 1)",
        "return -np.array(self.output_size) + 0.0",
        "shows nothing",
    ),
    # labels, loss and sampling of voxels
    "ignored voxels are background": (
        "voxel labels",
        "ignored_voxels_contribute_nothing",
        "weight = (label >= 0) * ",
        "label = label.clamp(min=0)\n        weight = ",
        "an image of voxels that nobody annotated gets a gradient",
    ),
    "weights of extensions forgotten": (
        "voxel labels",
        "voxel_weights_count",
        ' * sample.get("weight", torch.ones(label.shape))',
        " * torch.ones(label.shape)",
        "it claims weights, but in 2D segmentation an image of voxels of weight 0 gets a gradient",
    ),
    "weight below zero": (
        "voxel labels",
        "voxel_labels",
        "weight[(slice(None), *grid)].float()",
        "weight[(slice(None), *grid)].float() - 0.1",
        "labels['weight'] has values below 0",
    ),
    "labels transposed by class": (
        "voxel labels",
        "perfect_outputs_give_the_labels",
        "label[(slice(None), *grid)].long()",
        "torch.where(label == 2, 1, torch.where(label == 1, 2, label))[(slice(None), *grid)].long()",
        "of the annotated voxels another label",
    ),
    "ignored voxels count": (
        "voxel loss",
        "ignored_voxels_contribute_nothing",
        "(weight * voxels).sum()",
        "voxels.sum()",
        "an image of voxels that nobody annotated gets a gradient",
    ),
    "voxel weights ignored": (
        "voxel loss",
        "voxel_weights_count",
        "weight * voxels",
        "(target >= 0) * voxels",
        "it claims weights, but",
    ),
    "empty mean of voxels": (
        "voxel loss",
        "nothing_annotated_is_finite",
        ".clamp(min=1)",
        "",
        "with no voxel annotated the term 'entropy' is nan; an empty target must not make 0/0",
    ),
    "activation of the background": (
        "voxel loss",
        "perfect_outputs_give_the_labels",
        "outputs[0].softmax(1)",
        "outputs[0].softmax(1).roll(1, 1)",
        "count the classes alike",
    ),
    "no activation of voxels": (
        "voxel loss",
        "perfect_outputs_give_the_labels",
        "outputs[0].softmax(1)",
        "outputs[0]",
        "should lie in 0 … 1",
    ),
    "voxel (z, y, x)": (
        "voxel sampling",
        "samples_show_their_image",
        "voxels.draw(rng).astype(float)",
        "voxels.draw(rng)[::-1].astype(float)",
        "is it (y, x)?",
    ),
    "needs a class": (
        "voxel sampling",
        "sampling_does_without_classes",
        " if present else sample.annotated()",
        "",
        "of a case with one voxel annotated it raises ValueError",
    ),
    "needs every class": (
        "voxel sampling",
        "sampling_does_without_classes",
        "sample.voxels(int(rng.choice(present)))",
        "sample.voxels(int(rng.integers(1, 3)))",
        "of a case with one slice annotated and a class absent it raises ValueError",
    ),
    "generator of its own for voxels": (
        "voxel sampling",
        "sampling_draws_from_rng_only",
        "voxels.draw(rng)",
        "voxels.draw(np.random.default_rng())",
        "in 2D segmentation the same rng gave",
    ),
    # get_segmentation and extra_maps
    "maps for labels": (
        "segmentation",
        "labels_are_classes",
        "maps.argmax(0) * sure",
        "maps[1:].amax(0)",
        "must answer integer labels of shape",
    ),
    "a class too many": (
        "segmentation",
        "labels_are_classes",
        "maps.argmax(0) * sure",
        "maps.argmax(0) + 1",
        "of 3 classes the labels are 1 … 3",
    ),
    "labels of a whole case": (
        "segmentation",
        "slabs_are_labelled_alone",
        "> 0.5",
        "> maps[1:, :1].amax()",
        "differ where the maps are given in two slabs",
    ),
    "a case without its map": (
        "extra maps",
        "maps_fit_every_case",
        "for case in dataset.training:",
        "for case in dataset.training[:1]:",
        "the map 'rare' has no file for the case",
    ),
    "map transposed": (
        "extra maps",
        "maps_fit_every_case",
        "1.0 + (label == 2))",
        "(1.0 + (label == 2)).T)",
        "Make it in the grid of the image",
    ),
    "weight of NaN": (
        "extra maps",
        "maps_fit_every_case",
        "1.0 + (label == 2)",
        "np.where(label == 2, np.nan, 1)",
        "the core refuses its maps",
    ),
    "name of a path": (
        "extra maps",
        "maps_are_described",
        '"rare"',
        '"maps/rare"',
        "the name 'maps/rare' is no word",
    ),
    "role that there is not": (
        "extra maps",
        "maps_are_described",
        '"weight"',
        '"weights"',
        "the role of 'rare' is 'weights'",
    ),
    "maps of chance": (
        "extra maps",
        "maps_are_the_same_again",
        "1.0 + (label == 2)",
        "1.0 + np.random.default_rng().random(label.shape)",
        "the maps' files have another content",
    ),
    # decoding
    "decoder transposed": (
        "decode",
        "decodes_to_the_point",
        "for axis in axes]",
        "for axis in axes[::-1]]",
        "the axes the other way round",
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

CHANGES = {  # faults that take a second change
    "state not saved": ("self.last = ", "self.scale = torch.rand(1)\n        self.last = "),
    "layers in a plain list": (
        "self.last = convolution(features, len(run.outputs), 5, padding=2)",
        "self.layers = [convolution(features, len(run.outputs), 1)]",
    ),
}


@pytest.fixture
def planted(distribution):
    """Installs a plugin 'model' and gives its test class."""

    def install(suite, plugin, parts):
        files = {"model.py": plugin, "parts.py": parts}
        distribution("model", {"model": "model:Model"}, files, requires=["lannunet-core>=0.1"])
        return type("TestModel", (suite,), {"plugin": "model"})()

    return install


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_plugin_passes(planted, kind):
    results = list(run(planted(*SOUND[kind])))
    unserved = [f"`task: {task}` is not served" for task in ("landmarks", "segmentation")]
    assert [
        result for result in results if result.outcome != "passed" and result.message not in unserved
    ] == []
    assert sum(result.outcome == "passed" for result in results) > 7  # more than every plugin's checks
    assert all(result.contract for result in results)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(planted, fault):
    kind, check, old, new, message = FAULTS[fault]
    suite, plugin, parts = SOUND[kind]
    assert old in plugin + parts
    plugin, parts = plugin.replace(old, new, 1), parts.replace(old, new, 1)
    if fault in CHANGES:
        assert CHANGES[fault][0] in parts
        parts = parts.replace(*CHANGES[fault])
    tested = planted(suite, plugin, parts)
    if fault == "segments nothing":
        tested.overfit_steps = 40
    result = run_one(tested, f"test_{check}")
    assert result.outcome == "failed"
    assert message in result.message
