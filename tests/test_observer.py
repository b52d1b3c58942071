"""The observer plugin in whole runs, and observers that fail."""

import csv
import json

import pytest

from lannunet_core.plugins.installed import PluginWarning

FAILING = """
from lannunet_core import Plugin, hookimpl

class Failing(Plugin):
    @hookimpl
    def observe(self, event):
        if event.name in {events!r}:
            raise OSError("the server is away")
"""


def test_a_run_with_the_observer(project, tmp_path):
    project.set(
        trainer={"plugins": ["observer"], "observer": {"radius": 40}}, inference={"split": "training"}
    )
    assert project.train() == 0
    with (project.out / "observer.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    history = project.metrics()
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    for row, known in zip(rows, history, strict=True):
        assert float(row["loss"]) == known["loss"]
        assert float(row["terms/kl"]) == known["terms"]["kl"]
        assert float(row["validation_error"]) == known["validation_error"]
    metrics = json.loads((project.out / "summary.json").read_text())["metrics"]
    assert set(metrics) == {"median_confidence", "images_within_radius"}
    report = (project.out / "report.html").read_text()
    assert "images_within_radius" in report
    hooks = dict(json.loads((project.out / "run.json").read_text())["hooks"])
    assert [name for name, _ in hooks["observe"]] == ["observer"]

    found = tmp_path / "found"
    assert project.lannunet("predict", project.out, project.folder / "images", "-o", found) == 0
    assert set(json.loads((found / "summary.json").read_text())["metrics"]) == {"median_confidence"}


def test_an_observer_that_fails_later_is_named_and_the_run_ends_well(project, distribution):
    source = FAILING.format(events=["epoch", "end"])
    distribution("away", {"away": "away_tracker:Failing"}, {"away_tracker.py": source})
    project.set(trainer={"plugins": ["observer", "away"]})
    with pytest.warns(PluginWarning, match=r"Plugin 'away' \(away 1.0\) failed .*server is away"):
        assert project.train() == 0
    assert len(project.metrics()) == 2
    assert (project.out / "observer.csv").exists()  # the others are notified anyway


def test_an_observer_that_fails_at_the_start_ends_the_run_and_leaves_nothing(project, distribution, capsys):
    source = FAILING.format(events=["start"])
    distribution("away", {"away": "away_tracker:Failing"}, {"away_tracker.py": source})
    project.set(trainer={"plugins": ["away"]})
    assert project.train() == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert (
        "Plugin 'away' (away 1.0) failed in its hook 'observe' at the event 'start': OSError: the s"
        in message
    )
    assert not project.out.exists()


def test_a_segmentation_run_with_the_observer(segmentation):
    segmentation.set(trainer={"plugins": ["observer"]})
    assert segmentation.train() == 0
    with (segmentation.out / "observer.csv").open(newline="") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == [1, 2]
    assert "images_within_radius" not in (segmentation.out / "summary.json").read_text()
