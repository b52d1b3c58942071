"""`lannunet demo` on a few of its images; the complete demo is a slow test."""

import json
import os
import re
import subprocess
import sys
from functools import partial

import pytest
from lannunet_landmarks.demo import run as demo

from lannunet_core import cli

pytestmark = pytest.mark.pictures


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["demo", *map(str, arguments)])
    return end.value.code or 0


@pytest.fixture
def few_pictures(monkeypatch):
    sizes = {"training": 4, "validation": 2, "testing": 2}
    monkeypatch.setattr(demo, "write_demo_dataset", partial(demo.write_demo_dataset, sizes=sizes))


def test_the_whole_line(tmp_path, few_pictures, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # names wrap on a narrow terminal
    folder = tmp_path / "new" / "demo"
    assert run(folder, "--minutes", "0.05") == 0
    assert {"data", "demo.yaml", "report.html", "predictions.csv", "checkpoints"} <= {
        path.name for path in folder.iterdir()
    }
    printed = capsys.readouterr().out
    assert "mean position" in printed
    assert "template matching" in printed
    assert "% of the image's side" in printed
    assert str(folder / "report.html") in printed
    assert json.loads((folder / "summary.json").read_text())["images"] == 2

    drawn = (folder / "data" / "dataset.json").stat().st_mtime_ns
    assert run(folder, "--minutes", "0.05") == 2
    assert "already holds a run; replace it (--overwrite)" in capsys.readouterr().err
    assert (folder / "data" / "dataset.json").stat().st_mtime_ns == drawn
    assert run(folder, "--minutes", "0.05", "--overwrite") == 0
    assert (folder / "data" / "dataset.json").stat().st_mtime_ns > drawn


@pytest.mark.slow
def test_its_length_is_a_number_of_batches(tmp_path, few_pictures, monkeypatch, capsys):
    """Unless minutes are given. The bar says when the run ends."""
    monkeypatch.setattr(demo, "EPOCHS", 3)
    monkeypatch.setattr(demo, "BATCHES", 1)
    assert run(tmp_path / "demo") == 0
    printed = capsys.readouterr().out
    assert f"training takes 3 batches of {demo.PICTURES} pictures" in printed
    assert "s per batch" not in printed  # nothing is measured
    assert len((tmp_path / "demo" / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.fixture
def busy_cores():
    endless = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(endless) for _ in range(os.cpu_count() or 1)]
    yield
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.slow
def test_on_a_busy_machine_it_ends_under_one_percent(tmp_path, busy_cores, capsys):
    assert run(tmp_path / "demo") == 0
    (percent,) = re.findall(r"mean error: (.*) % of the image's side", capsys.readouterr().out)
    assert float(percent) < 1


@pytest.mark.parametrize("name", ["demo.yaml", "data/dataset.json", "data/images"])
def test_files_of_a_stranger_stay(tmp_path, few_pictures, capsys, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("theirs")
    for more in ((), ("--overwrite",)):
        assert run(tmp_path, "--minutes", "0.05", *more) == 2
        assert "Traceback" not in (said := capsys.readouterr().err) and name in said
        assert (tmp_path / name).read_text() == "theirs"


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert run(tmp_path / "file" / "demo") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_time_that_is_none(tmp_path):
    assert run(tmp_path / "demo", "--minutes", "0") == 2
    assert not (tmp_path / "demo").exists()
