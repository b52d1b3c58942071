"""The kit itself: flags, other forms of plugins, and that it leaves no files."""

import random
import subprocess
import sys
from unittest import SkipTest

import numpy as np
import pytest
import torch

from lannunet_core.testing import (
    ArchitectureConformance,
    SamplingConformance,
    plan,
    run,
    run_one,
)

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

# A task of one number per image, how bright it is.
TASK = """
from lannunet_core import Defaults, RunConfig, Session, Task, assemble, hookimpl


class BrightnessDefaults(Defaults):
    @hookimpl
    def losses(self):
        from brightness_bench import Squares
        return {"squares": Squares}


class Brightness(Task):
    config = RunConfig
    defaults = BrightnessDefaults
    names = {"solver.loss_function": ("losses", ("squares",))}

    def check(self, loaded):
        pass

    def start_session(self, loaded, run, fabric):
        import torch
        from brightness_bench import BrightnessLearner
        hooks = assemble(loaded.plugins, run, BrightnessDefaults(loaded.run, run), self.hooks)
        torch.manual_seed(run.seed)
        return Session(loaded, run, fabric, hooks, BrightnessLearner(hooks))

    def train(self, loaded, *, resume=False, overwrite=False):
        raise NotImplementedError

    def predict(self, request):
        raise NotImplementedError

    def bench(self):
        from brightness_bench import BrightnessBench
        return BrightnessBench()


class Silent(Brightness):
    def bench(self):
        return None
"""
BENCH = """
import torch
from torch import nn
from lannunet_core import Learner
from lannunet_core.testing import Bench, Broken, Conformance, Goal, as_test, batch_of, draw_noise


class Squares(nn.Module):
    def forward(self, outputs, labels):
        return {"squares": (outputs - labels["brightness"]).square().mean()}

    def activation(self, outputs):
        return outputs


class BrightnessLearner(Learner):
    def labels(self, batch, outputs):
        return {"brightness": batch["brightness"]}


def metrics_are_short(subject):
    \"\"\"A plugin's figures have short names.\"\"\"


class MetricConformance(Conformance):
    task = "brightness"
    test_metrics_are_short = as_test(metrics_are_short)


class BrightnessBench(Bench):
    goal = Goal("mean error", "", 0.2)

    def config(self, size):
        sections = ("dataset", "sampler", "trainer", "inference")
        return {name: {} for name in sections} | {"solver": {"loss_function": "squares"}}

    def outputs(self, count):
        return tuple(f"channel {n}" for n in range(count))

    def make_batch(self, session, count, seed):
        run = session.run
        wanted = torch.linspace(-1, 1, count * len(run.outputs)).reshape(count, -1)
        image = draw_noise(run.input_size, count, run.in_channels, seed)
        image += wanted.mean(1).reshape(-1, *[1] * (run.dimensions + 1))
        return {**batch_of(image), "brightness": wanted}

    def check_outputs(self, session, outputs, batch, where):
        if outputs.shape != batch["brightness"].shape:
            raise Broken(f"{where}, the output is {tuple(outputs.shape)}; there is one number per channel")

    def figure(self, session, batch):
        return float((self.maps(session, batch) - batch["brightness"]).abs().mean())

    def suites(self):
        return {"metrics": MetricConformance}
"""
BRIGHT = """
from lannunet_core import Plugin, hookimpl

class Model(Plugin):
    tasks = ("brightness", "silent")

    @hookimpl
    def network(self):
        from parts import Network
        return Network(self.run)

    @hookimpl
    def metrics(self):
        return {}
"""
BRIGHT_PARTS = """
from torch import nn

class Network(nn.Module):
    def __init__(self, run):
        super().__init__()
        self.last = nn.Linear(run.in_channels, len(run.outputs), bias=False)
        nn.init.zeros_(self.last.weight)

    def forward(self, image):
        return 5 * self.last(image.flatten(2).mean(-1))
"""


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
def test_claims(install_model, check, flag, claim, outcome):
    install_model(ONLY_2D)
    suite = type("TestModel", (ArchitectureConformance,), {"plugin": "model", flag: claim})()
    result = run_one(suite, f"test_{check}")
    assert result.outcome == outcome
    assert ("volumes are not supported; use unet" in result.message) == (
        check == "three_dimensions" and outcome != "passed"
    )


@pytest.mark.parametrize("tasks", [("landmarks",), ("segmentation",)])
def test_it_is_tested_in_the_tasks_that_it_serves(install_model, failures, tasks):
    install_model(ONLY_2D.replace("class Model(Plugin):", f"class Model(Plugin):\n    tasks = {tasks}\n"))
    claims = {"plugin": "model", "supports_3d": False, "supports_deep_supervision": False}
    suite = type("TestModel", (ArchitectureConformance,), claims)()
    assert {kind.task for kind in suite.kinds()} == set(tasks)
    assert failures(suite) == []
    other = ({"landmarks", "segmentation"} - set(tasks)).pop()
    elsewhere = type("TestOther", (type(suite),), {"task": other})()
    result = run_one(elsewhere, "test_overfits_a_tiny_problem")
    assert (result.outcome, result.message) == ("not claimed", f"`task: {other}` is not served")


def test_it_says_in_which_kind_of_run_it_raises(install_model):
    install_model(
        ONLY_2D.replace("nn.Conv2d(self", "(1 / (self.run.task == 'landmarks')) and nn.Conv2d(self")
    )
    suite = type("TestModel", (ArchitectureConformance,), {"plugin": "model", "supports_3d": False})()
    result = run_one(suite, "test_two_dimensions")
    assert result.outcome == "failed"
    assert "in 2D segmentation it raises RunFailed" in result.message


def test_what_is_not_claimed_is_a_skip_to_pytest(install_model):
    install_model(ONLY_2D)
    suite = type("TestModel", (ArchitectureConformance,), {"plugin": "model", "supports_3d": False})()
    with pytest.raises(SkipTest, match="3D is not claimed"):
        suite.test_three_dimensions()


def test_what_is_not_claimed_is_not_looked_at_elsewhere(install_model):
    install_model(ONLY_2D)

    class TestModel(ArchitectureConformance):
        plugin = "model"
        supports_3d = False
        supports_deep_supervision = False

    results = {result.check: result.outcome for result in run(TestModel())}
    skipped = {check for check, outcome in results.items() if outcome == "not claimed"}
    assert skipped == {"three_dimensions", "deep_supervision"}
    assert "failed" not in results.values()


def test_settings_reach_the_plugin():
    suite = type("TestUNet", (ArchitectureConformance,), {"plugin": "unet", "config": {"init_features": 4}})()
    assert suite.session(2).learner.network.heads[0].in_channels == 4


def test_an_error_in_a_check_is_its_result(install_model):
    install_model("raise OSError('no disk')")
    result = run_one(type("T", (SamplingConformance,), {"plugin": "model"})(), "test_sampling_pickles")
    assert (result.outcome, "no disk" in result.message) == ("failed", True)


def test_no_trace_is_left_in_the_global_generators(install_model, failures):
    install_model(ONLY_2D)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    claims = {"plugin": "model", "supports_3d": False, "supports_deep_supervision": False}
    assert failures(type("TestModel", (ArchitectureConformance,), claims)()) == []
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert before[2] == random.getstate()


@pytest.fixture
def brightness(distribution):
    distribution(
        "brightness",
        {},
        {"brightness.py": TASK, "brightness_bench.py": BENCH},
        entry_points="[lannunet.tasks]\nbrightness = brightness:Brightness\nsilent = brightness:Silent\n",
    )


def test_a_task_of_a_stranger(brightness, install_model):
    install_model(BRIGHT, BRIGHT_PARTS)
    claims = {"supports_deep_supervision": False, "supports_patches": False}
    suite = type("TestModel", (ArchitectureConformance,), {"plugin": "model", **claims})()
    assert {str(kind) for kind in suite.kinds()} == {"2D brightness", "3D brightness"}
    outcomes = {result.check: (result.outcome, result.message) for result in run(suite)}
    unclaimed = {"deep_supervision", "other_sizes"}
    assert {check: why for check, why in outcomes.items() if why[0] == "failed"} == {}
    assert {check for check, why in outcomes.items() if why[0] == "not claimed"} == unclaimed


def test_a_fault_in_a_task_of_a_stranger(brightness, install_model):
    install_model(BRIGHT, BRIGHT_PARTS.replace("len(run.outputs)", "len(run.outputs) + 1"))
    suite = type("TestModel", (ArchitectureConformance,), {"plugin": "model"})()
    message = run_one(suite, "test_shapes_and_dtypes").message
    assert "the output is (1, 2); there is one number per channel" in message


def test_the_suites_of_a_task_of_a_stranger_are_planned(brightness, install_model):
    install_model(BRIGHT, BRIGHT_PARTS)
    (planned,) = (one for one in plan("model", {}) if one[1] == "test_metrics_are_short")
    assert type(planned[0]).__name__ == "MetricConformance"
    assert run_one(*planned).outcome == "passed"


def test_in_a_task_without_a_bench_nothing_is_tried(brightness, install_model):
    install_model(BRIGHT.replace('("brightness", "silent")', '("silent",)'), BRIGHT_PARTS)
    suite = type("TestModel", (ArchitectureConformance,), {"plugin": "model"})()
    result = run_one(suite, "test_shapes_and_dtypes")
    assert result.outcome == "not claimed"
    assert "plugins are not tried in `task: silent`" in result.message
    assert run_one(suite, "test_hooks_are_those_of_the_core").outcome == "passed"
    assert {run_one(*one).outcome for one in plan("model", {})} == {"passed", "not claimed"}
