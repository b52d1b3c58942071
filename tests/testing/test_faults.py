"""Each check finds the fault that is planted in a network, and its message names the fault.

This file contains a correct plugin; a fault is one change of its text. Faults of labels, losses, sampling and
decoding are in the tests of the tasks.
"""

import pytest

from lannunet_core.testing import ArchitectureConformance

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

SOUND = (ArchitectureConformance, NETWORK, PARTS)

# The check that finds it, the text that is changed, into what, and what is said of it.
FAULTS = {
    # the package
    "no description": (
        "config_describes_every_field",
        ', description="Features of the hidden layer."',
        "",
        "no description: features",
    ),
    "default out of range": (
        "config_is_valid_by_default",
        "Field(8, ge=1",
        "Field(0, ge=1",
        "default of 'features' is not valid: Input should be greater than or equal to 1",
    ),
    "setting without default": (
        "config_is_valid_by_default",
        "Field(8, ge=1",
        "Field(ge=1",
        "'features' is not valid",
    ),
    "any key accepted": (
        "config_refuses_unknown_keys",
        "    class Config(PluginConfig):",
        '    class Config(PluginConfig):\n        model_config = {"extra": "allow"}',
        "'no_such_key: 1' was accepted",
    ),
    "torch at import": (
        "imports_without_torch",
        "from pydantic",
        "import torch\nfrom pydantic",
        "imports torch",
    ),
    "print at import": (
        "imports_without_torch",
        "from pydantic",
        "print('hello')\nfrom pydantic",
        "prints 'hello'",
    ),
    "misspelt hook": (
        "hooks_are_those_of_the_core",
        "    @hookimpl",
        "    @hookimpl\n    def los(self):\n        pass\n\n    @hookimpl",
        "no hook 'los'; did you mean 'loss'",
    ),
    # the network
    "detached parameter": (
        "gradients_reach_every_parameter",
        "self.last(x)]",
        "self.last(x.detach())]",
        "'network.first.weight' gets no gradient in 2D",
    ),
    "unused parameter": (
        "gradients_reach_every_parameter",
        "self.last = ",
        "self.spare = nn.Parameter(torch.ones(3))\n        self.last = ",
        "'network.spare' gets no gradient",
    ),
    "parameter times zero": (
        "gradients_reach_every_parameter",
        "maps = [self.last(x)]",
        "maps = [self.last(x) + 0 * self.first(image)[:, :1]]\n        maps = [self.last(x * 0)]",
        "the gradient of 'network.first.weight' is 0 throughout",
    ),
    "one output too many": (
        "shapes_and_dtypes",
        "len(run.outputs)",
        "len(run.outputs) + 1",
        "one map per landmark",
    ),
    "output too small": (
        "shapes_and_dtypes",
        "len(run.outputs), 5, padding=2)",
        "len(run.outputs), 5)",
        "the finest is as large as the image",
    ),
    "coarsest first": (
        "shapes_and_dtypes",
        "return maps",
        "return maps[::-1]",
        "the finest comes first",
    ),
    "double precision": (
        "shapes_and_dtypes",
        "return maps",
        "return [m.double() for m in maps]",
        "float32 in, float32 out",
    ),
    "channels ignored": (
        "shapes_and_dtypes",
        "run.in_channels",
        "1",
        "expected input",
    ),
    "no 3D, by a crash": (
        "three_dimensions",
        "nn.Conv2d if run.dimensions == 2 else nn.Conv3d",
        "nn.Conv2d",
        "in 3D landmarks it raises RuntimeError",
    ),
    "claimed 3D refused": (
        "three_dimensions",
        "        from parts",
        "        from lannunet_core.errors import UserError\n        if self.run.dimensions == 3:\n"
        "            raise UserError('only images')\n        from parts",
        "it claims 3D, but in 3D landmarks it refuses: only images",
    ),
    "one resolution only": (
        "deep_supervision",
        "return maps",
        "return maps[:1]",
        "it claims deep supervision, but",
    ),
    "one size only": (
        "other_sizes",
        "x = torch",
        "assert image.shape[-1] == 64 or image.shape[-1] == 32, 'made for one size'\n        x = torch",
        "made for one size",
    ),
    "breaks in half precision": (
        "mixed_precision",
        "maps = [self.last(x)]",
        "maps = [self.last(x)]\n        maps[0] = torch.zeros(maps[0].shape).index_add(0, "
        "torch.arange(len(image)), maps[0])",
        "under torch.autocast",
    ),
    "segments nothing": (
        "overfits_a_tiny_problem",
        "maps = [self.last(x)]",
        "maps = [self.last(x) * (1 if self.last.out_channels == 2 else 0.001)]",
        "after 40 steps on four images their mean Dice is",
    ),
    "classes as landmarks": (
        "shapes_and_dtypes",
        "len(run.outputs), 5",
        "len(run.outputs) - (run.task == 'segmentation'), 5",
        "there is one map per class",
    ),
    "no segmentation, by a crash": (
        "two_dimensions",
        "        from parts",
        "        assert self.run.task == 'landmarks'\n        from parts",
        "in 2D segmentation it raises",
    ),
    "samples mixed": (
        "images_do_not_mix",
        "(features)\n",
        "(features, track_running_stats=False)\n",
        "does a normalisation use the batch's statistics",
    ),
    "dropout in prediction": (
        "prediction_is_deterministic",
        "maps = [self.last(x)]",
        "maps = [self.last(functional.dropout(x))]",
        "the global generator of torch",
    ),
    "other people's generator at building": (
        "same_seed_same_result",
        "self.last = ",
        "self.register_buffer('shift', torch.tensor(np.random.rand()))\n        self.last = ",
        "building the plugin draws from, or seeds, the global generator of numpy.random",
    ),
    "other people's generator in training": (
        "same_seed_same_result",
        "maps = [self.last(x)]",
        "maps = [self.last(x * float(np.random.rand() > 0.5))]",
        "training draws from",
    ),
    "clock for a seed": (
        "same_seed_same_result",
        "self.last = ",
        "generator = torch.Generator()\n        generator.seed()\n"
        "        self.register_buffer('shift', torch.rand(1, generator=generator))\n        self.last = ",
        "built twice with the same seed, 'network.shift' differs",
    ),
    "seed of its own": (
        "same_seed_same_result",
        "self.last = ",
        "torch.manual_seed(42)\n        self.last = ",
        "the run's seed does not count",
    ),
    "state not saved": (
        "state_survives_save_and_load",
        "maps = [self.last(x)]",
        "maps = [self.last(x) * self.scale]",
        "not in the state: network.scale",
    ),
    "layers in a plain list": (
        "state_survives_save_and_load",
        "self.last(x)]",
        "self.layers[0](x)]",
        "not in the state: network.layers",
    ),
    "does not learn": (
        "overfits_a_tiny_problem",
        "    @hookimpl",
        "    @hookimpl\n    def optimizer_and_scheduler(self, module):\n        import torch\n"
        "        return torch.optim.SGD(module.parameters(), lr=1e-9), None\n\n    @hookimpl",
        "after 300 steps on four images their mean error is",
    ),
    "half of it optimised": (
        "optimizer_holds_every_parameter",
        "    @hookimpl",
        "    @hookimpl\n    def optimizer_and_scheduler(self, module):\n        import torch\n"
        "        return torch.optim.SGD(module.network.last.parameters(), 0.1), None\n\n    @hookimpl",
        "does not hold network.first.weight",
    ),
}

FURTHER = {  # faults that take a second change
    "state not saved": ("self.last = ", "self.scale = torch.rand(1)\n        self.last = "),
    "layers in a plain list": (
        "self.last = convolution(features, len(run.outputs), 5, padding=2)",
        "self.layers = [convolution(features, len(run.outputs), 1)]",
    ),
}


def test_a_sound_plugin_passes(check_sound):
    check_sound(*SOUND)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(check_found, fault):
    further = [FURTHER[fault]] if fault in FURTHER else []
    check_found(SOUND, FAULTS[fault], *further, overfit_steps=40 if fault == "segments nothing" else 300)
