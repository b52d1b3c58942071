"""The kit itself: claims, other forms of plugins, and that it leaves no trace."""

import random
import re
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lannunet_core.testing import (
    ArchitectureConformance,
    DecodeConformance,
    ExtraMapsConformance,
    LabelConformance,
    LossConformance,
    SamplingConformance,
    run,
)
from lannunet_core.testing.suites import plan, run_one

ONLY_2D = """
from lannunet_core import Plugin, hookimpl
from lannunet_core.errors import UserError

class Model(Plugin):
    @hookimpl
    def network(self):
        from torch import nn
        if self.run.dimensions == 3:
            raise UserError("model: volumes are not supported; use unet.")
        return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 5, padding=2)
"""

# Which of 8-pixel cells holds a landmark, and where it lies from that cell's middle: labels, loss and decoder
# understand each other and nobody else does.
CELLS = """
from lannunet_core import Plugin, hookimpl
from lannunet_core.hookspecs import Coordinates

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
TRUST = """
from lannunet_core import Plugin, hookimpl
from lannunet_core.errors import UserError

class Model(Plugin):
    tasks = ("segmentation",)

    @hookimpl
    def extra_maps(self, dataset):
        from lannunet_segmentation.types import ExtraMap
        files = {case.id: dataset.path / f"{case.id}_trust.npy" for case in dataset.training}
        if missing := [file for file in files.values() if not file.exists()]:
            raise UserError(f"{missing[0]} is missing.")
        return [ExtraMap("trust", "weight", "linear", 0.0, files)]
"""


@pytest.fixture
def install(distribution):
    def installed(plugin, parts=""):
        files = {"model.py": plugin, "parts.py": parts}
        distribution("model", {"model": "model:Model"}, files, requires=["lannunet-core>=0.1"])

    return installed


def failures(suite):
    return [(result.check, result.message) for result in run(suite) if result.outcome == "failed"]


def test_import_of_the_core_does_not_load_the_kit():
    script = "import sys, lannunet_core, lannunet_core.cli; print([m for m in sys.modules if 'testing' in m])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("check", "flag", "claim", "outcome"),
    [
        ("three_dimensions", "supports_3d", True, "failed"),
        ("three_dimensions", "supports_3d", False, "not claimed"),
        ("three_dimensions", "supports_3d", None, "not claimed"),
        ("two_dimensions", "supports_2d", True, "passed"),
        ("deep_supervision", "supports_deep_supervision", True, "failed"),
        ("deep_supervision", "supports_deep_supervision", False, "not claimed"),
        ("other_sizes", "supports_patches", True, "passed"),
        ("other_sizes", "supports_patches", False, "not claimed"),
    ],
)
def test_claims(install, check, flag, claim, outcome):
    install(ONLY_2D)
    suite = type("TestModel", (ArchitectureConformance,), {"plugin": "model", flag: claim})()
    result = run_one(suite, f"test_{check}")
    assert result.outcome == outcome
    assert ("volumes are not supported; use unet" in result.message) == (
        check == "three_dimensions" and outcome != "passed"
    )


@pytest.mark.parametrize("tasks", [("landmarks",), ("segmentation",)])
def test_it_is_tested_in_the_tasks_that_it_serves(install, tasks):
    install(ONLY_2D.replace("class Model(Plugin):", f"class Model(Plugin):\n    tasks = {tasks}\n"))
    claims = {"plugin": "model", "supports_3d": False, "supports_deep_supervision": False}
    results = {r.check: r for r in run(type("TestModel", (ArchitectureConformance,), claims)())}
    served, other = ("overfits", "segments")[:: 1 if tasks == ("landmarks",) else -1]
    assert results[f"{served}_a_tiny_problem"].outcome == "passed"
    assert results[f"{other}_a_tiny_problem"].outcome == "not claimed"
    assert "is not served" in results[f"{other}_a_tiny_problem"].message
    assert "failed" not in {result.outcome for result in results.values()}


def test_it_says_in_which_kind_of_run_it_raises(install):
    install(ONLY_2D.replace("nn.Conv2d(self", "(1 / (self.run.task == 'landmarks')) and nn.Conv2d(self"))
    suite = type("TestModel", (ArchitectureConformance,), {"plugin": "model", "supports_3d": False})()
    result = run_one(suite, "test_two_dimensions")
    assert result.outcome == "failed"
    assert "in 2D segmentation it raises RunFailed" in result.message


def test_files_of_the_author_lie_in_the_folder(install):
    install(TRUST)

    class TestModel(ExtraMapsConformance):
        plugin = "model"

    assert run_one(TestModel(), "test_maps_fit_every_case").outcome == "not claimed"

    class TestWithFiles(TestModel):
        def add_files(self, dataset):
            for path in (dataset / "imagesTr").iterdir():
                image = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
                np.save(dataset / path.name.replace("_0000.nii.gz", "_trust.npy"), np.ones_like(image))

    assert failures(TestWithFiles()) == []


def test_what_is_not_claimed_is_a_skip_to_pytest(install):
    install(ONLY_2D)
    suite = type("TestModel", (ArchitectureConformance,), {"plugin": "model", "supports_3d": False})()
    with pytest.raises(SkipTest, match="3D is not claimed"):
        suite.test_three_dimensions()


def test_what_is_not_claimed_is_not_looked_at_elsewhere(install):
    install(ONLY_2D)

    class TestModel(ArchitectureConformance):
        plugin = "model"
        supports_3d = False
        supports_deep_supervision = False

    results = {result.check: result.outcome for result in run(TestModel())}
    skipped = {check for check, outcome in results.items() if outcome == "not claimed"}
    assert skipped == {"three_dimensions", "deep_supervision"}
    assert "failed" not in results.values()


def test_outputs_labels_and_decoder_of_its_own(install):
    """An architecture whose outputs only it understands is tested through its own hooks."""
    install(CELLS, CELLS_PARTS)
    claims = {"plugin": "model", "supports_learned_sigma": False, "supports_deep_supervision": False}
    for base in (ArchitectureConformance, LabelConformance, LossConformance, DecodeConformance):
        assert failures(type("TestModel", (base,), claims)()) == []


def test_perfect_outputs_of_the_author(install):
    install(CELLS, CELLS_PARTS)

    class TestModel(LabelConformance):
        plugin = "model"

        def perfect_outputs(self, labels, outputs):
            assert labels["which"].shape == outputs["which"].shape
            return {"which": 20 * labels["which"] - 10, "where": (labels["where"] + self.error).flatten(1, 2)}

    for error, outcome in ((0.0, "passed"), (0.4, "failed")):
        TestModel.error = error
        assert run_one(TestModel(), "test_labels_decode_back").outcome == outcome


def test_the_plan_follows_from_the_hooks(install):
    install(NAMES)
    planned = [(type(suite).__name__, name, about) for suite, name, about in plan("model", {})]
    assert {(suite, about) for suite, _, about in planned} == {
        ("Conformance", ""),
        ("LossConformance", "sound"),
        ("LossConformance", "spoilt"),
        ("DecodeConformance", "mine"),
    }
    assert len(planned) == len(set(planned))
    assert [name for _, name, _ in planned].count("test_is_found_by_name") == 1
    assert [about for _, name, about in planned if name == "test_weights_count"] == ["sound", "spoilt"]


def test_the_suite_of_a_name_tests_what_bears_it(install):
    install(NAMES)
    suites = {about: suite for suite, _, about in plan("model", {})}
    assert failures(suites["mine"]) == []
    with pytest.raises(AssertionError, match="peak at"):
        suites["spoilt"].test_activation_is_a_map()


def test_an_architecture_named_by_the_author(install):
    install(NAMES)
    suite = type("TestModel", (LossConformance,), {"plugin": "model", "architecture": "unet"})()
    suite.loss_function = "spoilt"
    session = suite.session(2)
    assert [type(session.learner.network).__name__, type(session.learner.loss).__name__] == [
        "UNet",
        "HeatmapMSE",
    ]


def test_settings_reach_the_plugin():
    suite = type("TestUNet", (ArchitectureConformance,), {"plugin": "unet", "config": {"init_features": 4}})()
    assert suite.session(2).learner.network.heads[0].in_channels == 4


def test_an_error_in_a_check_is_its_result(install):
    install("raise OSError('no disk')")
    result = run_one(type("T", (SamplingConformance,), {"plugin": "model"})(), "test_sampling_pickles")
    assert (result.outcome, "no disk" in result.message) == ("failed", True)


def test_no_trace_is_left_in_the_global_generators(install):
    install(ONLY_2D)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    claims = {"plugin": "model", "supports_3d": False, "supports_deep_supervision": False}
    assert failures(type("TestModel", (ArchitectureConformance,), claims)()) == []
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert before[2] == random.getstate()


def test_the_segmentation_plugin_of_the_documentation(install):
    text = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text()
    (source,) = (
        code for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) if "Borders" in code
    )
    install("from lannunet_core import Plugin, hookimpl\n" + source.replace("CarefulBorders", "Model"))
    results = list(run(type("TestModel", (ExtraMapsConformance,), {"plugin": "model"})()))
    assert {result.outcome for result in results} == {"passed"}
