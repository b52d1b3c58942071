"""`lannunet plan` on a generated folder."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from lannunet_core import cli
from lannunet_core.config.compose import load_config


def lannunet(*arguments):
    with pytest.raises(SystemExit) as end:
        cli.main([*map(str, arguments)])
    return end.value.code or 0


def run(*arguments):
    return lannunet("plan", *arguments)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of images; the working directory is its parent."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "Dataset009_Dots"
    image = np.random.default_rng(0).integers(0, 255, (40, 32)).astype(np.uint8)
    for name, pixels in (
        ("imagesTr/{}_0000.png", image),
        ("labelsTr/{}.png", (image > 128).astype(np.uint8)),
    ):
        (made / name).parent.mkdir(parents=True)
        for case in "ab":
            sitk.WriteImage(sitk.GetImageFromArray(pixels), str(made / name.format(case)))
    declared = {
        "channel_names": {"0": "grey"},
        "labels": {"background": 0, "dot": 1},
        "numTraining": 2,
        "file_ending": ".png",
    }
    (made / "dataset.json").write_text(json.dumps(declared))
    return made


def test_it_writes_what_trains_and_says_where(folder, tmp_path, capsys):
    assert run("Dataset009_Dots") == 0
    written = tmp_path / "Dataset009_Dots.yaml"
    printed = capsys.readouterr().out
    assert written.read_text() in printed
    assert "lannunet train Dataset009_Dots.yaml" in printed
    assert load_config(written).run.dataset.root == folder


@pytest.mark.parametrize("options", [(), ("--gpu",), ("--plugins", "sparse"), ("--task", "segmentation")])
def test_what_it_writes_is_checked_and_found_good(folder, capsys, options):
    assert run("Dataset009_Dots", "-o", "my.yaml", *options) == 0
    assert lannunet("config", "check", "my.yaml") == 0
    assert "my.yaml: OK ('unet'" in capsys.readouterr().out


TINY = """
from lannunet_core import Plugin, hookimpl

class TinyNet(Plugin):
    @hookimpl
    def network(self):
        from torch import nn
        return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 9, padding=4)
"""


def test_an_architecture_of_a_stranger_is_planned_for(folder, tmp_path, distribution, capsys):
    distribution("lannunet-tiny", {"tiny": "tiny_package:TinyNet"}, {"tiny_package.py": TINY})
    assert run("Dataset009_Dots", "--architecture", "Tiny") == 0
    text = (tmp_path / "Dataset009_Dots.yaml").read_text()
    assert "architecture: tiny" in text
    assert "guessed" in text
    assert load_config(tmp_path / "Dataset009_Dots.yaml").run.sampler.patch.sample_patch_size == (32, 64)
    assert lannunet("config", "check", "Dataset009_Dots.yaml") == 0


FAILING = """
from lannunet_core import Plugin, hookimpl

class Network(Plugin):
    @hookimpl
    def network(self):
        raise AssertionError

    @classmethod
    def networks(cls, request):
        raise ZeroDivisionError("no sides")

class Extension(Plugin):
    @classmethod
    def plan(cls, image_size, patch_size):
        raise KeyError("reach")
"""


@pytest.mark.parametrize("data", ["Dataset009_Dots", "points.json"])
@pytest.mark.parametrize(
    ("options", "method", "cause"),
    [
        (("--architecture", "dividing"), "networks", "ZeroDivisionError: no sides"),
        (("--plugins", "grasping"), "plan", "KeyError: 'reach'"),
    ],
)
def test_a_plugin_that_fails_is_named(project, folder, distribution, data, options, method, cause, capsys):
    plugins = {"dividing": "strangers_failing:Network", "grasping": "strangers_failing:Extension"}
    distribution("strangers-failing", plugins, {"strangers_failing.py": FAILING})
    project.write()
    assert run(folder if data == folder.name else project.json, *options) == 1
    said = capsys.readouterr().err
    assert f"(strangers-failing 1.0) failed in its class method '{method}': {cause}" in said
    assert "Traceback" not in said


def test_the_task_is_that_of_the_data(project, folder, monkeypatch, capsys):
    project.write()
    monkeypatch.chdir(project.folder)
    assert run("points.json", "--task", "segmentation") == 2
    assert "points.json: is not a folder" in capsys.readouterr().err
    assert run(folder, "--task", "landmarks", "-o", "dots.yaml") == 2
    assert "has none of the lists training, validation, testing" in capsys.readouterr().err
    assert not list(project.folder.glob("*s.y*ml"))
    assert run("points.json") == 0
    assert load_config(project.folder / "points.yaml").run.task == "landmarks"


@pytest.mark.parametrize("data", ["Dataset009_Dots", "points.json"])
def test_a_gpu_is_found(project, folder, tmp_path, monkeypatch, data):
    """The plan uses the memory of the GPU, unless the user sets another limit."""
    project.write()
    data = folder if data == folder.name else project.json
    found = SimpleNamespace(name="Some GPU", total_memory=10e9)
    # The speed is measured for each plan; on a busy machine it may round to another power of two.
    monkeypatch.setattr("lannunet_landmarks.planning.plan.measured_speed", lambda: 1.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)

    def planned(*options):
        (tmp_path / "planned.yaml").unlink(missing_ok=True)
        assert run(data, "-o", tmp_path / "planned.yaml", *options) == 0
        return (tmp_path / "planned.yaml").read_text()

    assert "# The GPU found here: Some GPU; the plan uses up to 8 GB." in planned()
    assert "Some GPU; the plan uses up to 2 GB" in planned("--gpu", "--memory-gb", 2)
    assert "on a GPU" in planned() or "a GPU may make" in planned()
    on_cpu = planned("--no-gpu")
    assert "GPU" not in on_cpu
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert planned() == on_cpu
    assert "a GPU may make" in planned("--gpu")


def test_paths_start_from_the_yaml_and_options_arrive(folder, tmp_path):
    (tmp_path / "configs").mkdir()
    assert run("Dataset009_Dots", "-o", "configs/my.yaml", "--minutes", 3, "--memory-gb", 1) == 0
    written = tmp_path / "configs/my.yaml"
    assert "root: ../Dataset009_Dots" in written.read_text()
    loaded = load_config(written).run
    assert loaded.dataset.root.resolve() == folder
    assert loaded.solver.budget_minutes == 3


def test_a_file_that_is_there_is_left_alone(folder, tmp_path, capsys):
    (tmp_path / "my.yaml").write_text("mine")
    assert run(folder, "-o", "my.yaml") == 2
    assert "my.yaml: the file exists already" in capsys.readouterr().err
    assert (tmp_path / "my.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere"),
        (["Dataset009_Dots", "-o", "not/there.yaml"], "there is no folder not"),
        (["Dataset009_Dots", "--plugins", "sparce"], "sparce"),
        (["Dataset009_Dots", "--minutes", "0"], "0"),
        (["Dataset009_Dots", "--minutes", "inf"], "1000000"),
    ],
)
def test_bad_input(folder, arguments, said, capsys):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
