"""A third-party task, which the core does not know: tests/classification."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from lannunet_images import ImageFiles, given_images
from PIL import Image

from lannunet_core import UserError, api, open_model
from lannunet_core.plugins import tasks

HERE = Path(__file__).with_name("classification")
ENTRY_POINT = "\n[lannunet.tasks]\nclassification = classification.task:Classification\n"

NETWORK = '''
import os
import signal

from lannunet_core import Plugin, hookimpl


class MeanNet(Plugin):
    """A few convolutions, and the mean of what they see."""

    @hookimpl
    def network(self):
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(self.run.in_channels, 8, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4),
            nn.Flatten(), nn.Linear(128, len(self.run.outputs)),
        )

    @hookimpl
    def observe(self, event):
        if event.name == "epoch" and str(event.values["epoch"]) == os.environ.get("STOP_AFTER"):
            os.kill(os.getpid(), signal.SIGINT)
'''


@pytest.fixture
def classes(project, distribution):
    """A project of bright and dark squares, left and right."""
    files = {f"classification/{path.name}": path.read_text() for path in HERE.glob("*.py")}
    distribution("classification", {}, {**files, "classification/__init__.py": ""}, entry_points=ENTRY_POINT)
    distribution("mean-net", {"mean-net": "mean_net:MeanNet"}, {"mean_net.py": NETWORK})
    rng = np.random.default_rng(0)
    for split, count in (("training", 12), ("validation", 6), ("testing", 6)):
        for number in range(count):
            for name, columns in (("left", slice(2, 12)), ("right", slice(20, 30))):
                pixels = rng.normal(100, 10, (32, 32))
                pixels[10:22, columns] += 80
                path = project.folder / "classes" / split / name / f"{name}{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    project.config = {
        "task": "classification",
        "dataset": {"root": "classes"},
        "sampler": {"num_workers": 0},
        "solver": {
            "max_epochs": 4,
            "mini_batch_size": 10,
            "data_loader_batch_size_train": 8,
            "base_lr": 0.01,
        },
        "trainer": {"validate_every": 1},
        "model": {"architecture": "mean-net"},
        "output": {"output_dir": "out"},
    }
    return project


def test_it_is_small_and_the_core_knows_nothing_of_it():
    lines = sum(len(path.read_text().splitlines()) for path in HERE.glob("*.py"))
    assert lines < 250
    core = Path(__file__).parents[1] / "lannunet_core"
    assert not [path for path in core.rglob("*.py") if "classification" in path.read_text()]


def test_it_trains_predicts_and_reports(classes):
    assert classes.train() == 0
    summary = json.loads((classes.out / "summary.json").read_text())
    assert summary["accuracy"] == 1 and summary["confusion"] == [[6, 0], [0, 6]]
    page = (classes.out / "report.html").read_text()
    assert "Confusion matrix" in page and "mean-net" in page
    loose = classes.folder / "classes" / "testing" / "left"
    assert classes.lannunet("predict", classes.out, loose, "-o", classes.folder / "p") == 0
    with (classes.folder / "p" / "predictions.csv").open(newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == {"left"}
    assert classes.lannunet("predict", classes.out, loose, "-o", classes.folder / "q", "--spacing", "1") == 2


class InMemory:
    """The return value of a task's `load`."""

    def __init__(self, model, plugins, device):
        from classification.work import start_session

        self.session = open_model(model, start_session, plugins=plugins, device=device)

    def predict(self, images, spacing=None):
        from classification.work import predicted

        files = ImageFiles.of(self.session.loaded)
        return predicted(self.session, *given_images(images, files, self.session.run.dimensions, spacing))


def test_a_program_loads_its_model(classes, monkeypatch):
    def load(self, model, *, also=(), tta=None, plugins=(), device="auto"):
        return InMemory(model, plugins, device)

    assert classes.train() == 0
    loose = sorted((classes.folder / "classes" / "testing" / "left").iterdir())
    with pytest.raises(UserError, match="predicts only on the command line"):
        api.load(classes.out)
    monkeypatch.setattr(type(tasks.find("classification")), "load", load)
    found = api.load(classes.out).predict([np.asarray(Image.open(path)) for path in loose])
    assert {one["class"] for one in found} == {"left"}
    with pytest.raises(UserError, match="--device: there is no cuda:99 here"):
        api.load(classes.out, device="cuda:99")


def test_it_goes_on_where_it_stopped(classes):
    assert classes.train() == 0
    whole = classes.metrics()
    classes.config["output"]["output_dir"] = "stopped"
    assert classes.start("train", classes.yaml, STOP_AFTER="2").returncode == 130
    assert classes.lannunet("train", classes.yaml, "--resume") == 0
    resumed = [
        json.loads(line) for line in (classes.folder / "stopped/metrics.jsonl").read_text().splitlines()
    ]
    assert [row["loss"] for row in whole] == [row["loss"] for row in resumed]


def test_it_is_listed_configured_and_checked(classes, capsys):
    classes.write()
    assert classes.lannunet("plugins", "list") == 0
    assert "classification" in capsys.readouterr().out
    assert classes.lannunet("config", "check", classes.yaml) == 0
    assert classes.lannunet("config", "explain", classes.yaml) == 0
    said = capsys.readouterr().out
    assert "solver.loss_function: cross_entropy" in said and "generate_labels" not in said
    assert classes.lannunet("config", "schema") == 0
    assert "classification" in capsys.readouterr().out
    classes.config["sampler"]["input_sise"] = [32, 32]
    classes.write()
    assert classes.lannunet("config", "check", classes.yaml) == 2
    assert "Did you mean 'input_size'?" in capsys.readouterr().err
    classes.config["sampler"] = {}
    del classes.config["model"]
    classes.write()
    assert classes.lannunet("config", "check", classes.yaml) == 2
    assert "model.architecture" in capsys.readouterr().err


def test_a_plugin_of_another_task_is_refused(classes, capsys):
    classes.config["model"] = {"architecture": "phdnet"}
    assert classes.train() == 2
    assert "does not serve `task: classification`" in capsys.readouterr().err


def test_its_yaml_is_resolved(classes):
    assert classes.train() == 0
    resolved = yaml.safe_load((classes.out / "config.yaml").read_text())
    assert resolved["task"] == "classification" and resolved["solver"]["loss_function"] == "cross_entropy"
