"""The kit in runs of landmarks: outputs that only one plugin can decode, and names that a plugin adds."""

import pytest
from lannunet_landmarks.conformance import DecodeConformance, LabelConformance, LandmarkLossConformance

from lannunet_core.testing import ArchitectureConformance, LossConformance, plan, run_one

# Which of 8-pixel cells holds a landmark, and where it lies from that cell's middle: labels, loss and decoder
# understand each other and nobody else does.
CELLS = """
from lannunet_core import Coordinates, Plugin, hookimpl

class Model(Plugin):
    tasks = ("landmarks",)

    @hookimpl
    def network(self):
        from parts import Network
        return Network(self.run)

    @hookimpl
    def generate_labels(self, landmarks, states, image_size):
        import torch
        visible = states == 0
        landmarks = torch.where(visible[..., None], landmarks, 0)
        axes = [torch.arange(side // 8) * 8 + 3.5 for side in image_size[::-1]]
        middles = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], 0)  # (D, *S)
        shape = [1] * len(axes)
        offset = landmarks.reshape(*landmarks.shape, *shape) - middles  # (B, N, D, *S)
        near = (offset.abs() <= 4).all(2) & visible.reshape(*visible.shape, *shape)
        return {"state": states, "which": near.float(), "where": offset}

    @hookimpl
    def loss(self):
        from parts import Loss
        return Loss()

    @hookimpl
    def get_coords_from_heatmap(self, heatmaps, affine):
        import torch
        which = heatmaps["which"]
        where = heatmaps["where"].unflatten(1, (which.shape[1], -1))
        shape = which.shape[2:]
        confidence, cell = which.flatten(2).max(-1)
        index = torch.stack(torch.unravel_index(cell, shape)[::-1], -1) * 8 + 3.5  # (B, N, D)
        offset = where.flatten(3).gather(3, cell[:, :, None, None].expand(-1, -1, len(shape), 1))[..., 0]
        points = torch.where((confidence > 0)[..., None], index + offset, torch.nan)
        return Coordinates(points, confidence.clamp(0, 1))
"""
CELLS_PARTS = """
import torch
from torch import nn
from torch.nn import functional

class Network(nn.Module):
    def __init__(self, run):
        super().__init__()
        self.outputs = len(run.outputs)
        convolution = nn.Conv2d if run.dimensions == 2 else nn.Conv3d
        self.patches = convolution(run.in_channels, 32, 8, stride=8)
        self.which = convolution(32, self.outputs, 3, padding=1)
        self.where = convolution(32, self.outputs * run.dimensions, 3, padding=1)

    def forward(self, image):
        x = self.patches(image).relu()
        return {"which": self.which(x), "where": self.where(x)}

class Loss(nn.Module):
    def forward(self, outputs, labels):
        weight = (labels["state"] != 3).float() * labels.get("weight", 1)
        total = weight.sum().clamp(min=1)
        cross_entropy = functional.binary_cross_entropy_with_logits
        which = cross_entropy(outputs["which"], labels["which"], reduction="none")
        offset = outputs["where"].view_as(labels["where"])
        where = (labels["which"][:, :, None] * (offset - labels["where"]).abs()).flatten(2).sum(-1)
        return {
            "which": (weight * which.flatten(2).mean(-1)).sum() / total,
            "where": 0.1 * (weight * where).sum() / total,
        }

    def activation(self, outputs):
        return {"which": outputs["which"].sigmoid(), "where": outputs["where"]}
"""
# Maps of a quarter of the image's resolution; the task's own labels, loss and decoder.
COARSE = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("landmarks",)

    @hookimpl
    def network(self):
        from torch import nn
        convolution = nn.Conv2d if self.run.dimensions == 2 else nn.Conv3d
        return nn.Sequential(
            convolution(self.run.in_channels, 32, 4, stride=4),
            nn.ReLU(),
            convolution(32, 32, 3, padding=1),
            nn.ReLU(),
            convolution(32, len(self.run.outputs), 3, padding=1),
        )
"""
# Coordinates and nothing else, where the image is brightest and darkest.
POINTS = """
from lannunet_core import Coordinates, Plugin, hookimpl

class Model(Plugin):
    tasks = ("landmarks",)

    @hookimpl
    def network(self):
        from parts import Network
        return Network(self.run)

    @hookimpl
    def generate_labels(self, landmarks, states):
        visible = (states == 0)[..., None]
        return {"state": states, "points": landmarks.where(visible, 0), "there": visible.float()}

    @hookimpl
    def loss(self):
        from parts import Loss
        return Loss()

    @hookimpl
    def get_coords_from_heatmap(self, heatmaps):
        points = heatmaps["points"]
        return Coordinates(points, points.new_ones(points.shape[:2]))
"""
POINTS_PARTS = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, run):
        super().__init__()
        convolution = nn.Conv2d if run.dimensions == 2 else nn.Conv3d
        self.maps = convolution(run.in_channels, len(run.outputs), 5, padding=2)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, image):
        maps = self.maps(image)
        axes = torch.meshgrid(*[torch.arange(side).to(maps) for side in image.shape[2:]], indexing="ij")
        share = (10 * self.scale * maps).flatten(2).softmax(-1)
        return {"points": torch.stack([(share * axis.flatten()).sum(-1) for axis in axes[::-1]], -1)}

class Loss(nn.Module):
    def forward(self, outputs, labels):
        weight = labels["there"][..., 0] * labels.get("weight", 1)
        off = (outputs["points"] - labels["points"]).abs().sum(-1)
        return {"distance": (weight * off).sum() / weight.sum().clamp(min=1)}

    def activation(self, outputs):
        return outputs
"""
NAMES = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("landmarks",)

    @hookimpl
    def losses(self):
        from lannunet_landmarks.maps.losses import HeatmapMSE
        return {"sound": lambda: HeatmapMSE(100.0), "spoilt": lambda: HeatmapMSE(20.0)}

    @hookimpl
    def decoders(self):
        from lannunet_landmarks.maps.decode import decode_peak
        return {"mine": lambda: decode_peak}
"""


@pytest.mark.slow
def test_outputs_labels_and_decoder_of_its_own(install_model, failures):
    """An architecture whose outputs only it can decode is tested through its own hooks."""
    install_model(CELLS, CELLS_PARTS)
    claims = {"plugin": "model", "supports_learned_sigma": False, "supports_deep_supervision": False}
    for base in (ArchitectureConformance, LabelConformance, LandmarkLossConformance, DecodeConformance):
        assert failures(type("TestModel", (base,), claims)()) == []


def test_maps_of_a_coarser_resolution(install_model, failures):
    install_model(COARSE)
    claims = {"plugin": "model", "supports_deep_supervision": False, "size_3d": (48, 40, 32)}
    assert failures(type("TestModel", (ArchitectureConformance,), claims)()) == []


def test_outputs_without_spatial_axes(install_model, failures):
    install_model(POINTS, POINTS_PARTS)
    claims = {"plugin": "model", "supports_deep_supervision": False}
    assert failures(type("TestModel", (ArchitectureConformance,), claims)()) == []


def test_perfect_outputs_of_the_author(install_model):
    install_model(CELLS, CELLS_PARTS)

    class TestModel(LabelConformance):
        plugin = "model"

        def perfect_outputs(self, labels, outputs):
            assert labels["which"].shape == outputs["which"].shape
            return {"which": 20 * labels["which"] - 10, "where": (labels["where"] + self.error).flatten(1, 2)}

    for error, outcome in ((0.0, "passed"), (0.4, "failed")):
        TestModel.error = error
        assert run_one(TestModel(), "test_labels_decode_back").outcome == outcome


def test_the_plan_follows_from_the_hooks(install_model):
    install_model(NAMES)
    planned = [(type(suite).__name__, name, about) for suite, name, about in plan("model", {})]
    assert {(suite, about) for suite, _, about in planned} == {
        ("Conformance", ""),
        ("LossConformance", "sound"),
        ("LossConformance", "spoilt"),
        ("LandmarkLossConformance", "sound"),
        ("LandmarkLossConformance", "spoilt"),
        ("DecodeConformance", "mine"),
    }
    assert len(planned) == len(set(planned))
    assert [name for _, name, _ in planned].count("test_is_found_by_name") == 1
    assert [about for _, name, about in planned if name == "test_weights_count"] == ["sound", "spoilt"]


def test_the_suite_of_a_name_tests_what_bears_it(install_model, failures):
    install_model(NAMES)
    suites = {(type(suite).__name__, about): suite for suite, _, about in plan("model", {})}
    assert failures(suites["DecodeConformance", "mine"]) == []
    with pytest.raises(AssertionError, match="peak at"):
        suites["LossConformance", "spoilt"].test_activation_is_a_map()


def test_an_architecture_named_by_the_author(install_model):
    install_model(NAMES)
    suite = type("TestModel", (LossConformance,), {"plugin": "model", "architecture": "unet"})()
    suite.loss_function = "spoilt"
    session = suite.session(2)
    assert [type(session.learner.network).__name__, type(session.learner.loss).__name__] == [
        "UNet",
        "HeatmapMSE",
    ]
