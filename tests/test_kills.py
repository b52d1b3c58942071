"""Commands that are killed, or find the disk full, at one of their writes: no file is incomplete or lost.

The usual suite tests ten such faults, the slow test 300.
"""

import hashlib
import os
import random
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lannunet_core.record import RECORD, TEMPORARY
from tests.fixtures import forks
from tests.fixtures.projects import draw_project, draw_segmentation_project

INJECTOR = '''
import os
import signal
import sys

kind, count, seen = os.environ["FAULT"].split()[0], int(os.environ["FAULT"].split()[1]), 0


def strike(event, arguments):
    """At the given rename of a file that was written, in any process of the command."""
    global seen
    if event != "os.rename" or ".lannunet-" not in os.fspath(arguments[0]):
        return
    seen += 1
    if kind == "full":
        if seen >= count:
            raise OSError(28, "No space left on device")
    elif seen == count:
        name, *twice = kind.split("-")
        os.killpg(os.getpgrp(), getattr(signal, name))
        if twice:
            os.killpg(os.getpgrp(), getattr(signal, name))


sys.addaudithook(strike)
'''
"""A module `sitecustomize`, which every process of the command imports first."""

FAULTS = {
    "SIGKILL": {-9},
    "SIGTERM": {143},
    "SIGHUP": {129},
    "SIGINT": {130},
    "SIGINT-twice": {130},
    "full": {1},
}
"""Each with the exit codes that it may have."""

UNEQUAL = {
    "run.json",
    "case.json",
    "report.html",
    "metrics.jsonl",
    "config.yaml",
    "summary.json",
    "latest.pt",
    "best.safetensors",
}
"""Files with times, folders and durations in them."""
KEY = re.compile("-[0-9a-f]{12}(?=/)")  # of the cache, which names the data's folder


@dataclass
class Work:
    """A command in a separate folder, and the arguments with which it is repeated."""

    folder: Path
    arguments: list[str]
    again: list[str] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)
    begun: str = ""
    """What the user is asked to remove before the command is repeated."""

    def run(self, *more: str, fault: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ)
        if fault is not None:
            environment |= {"FAULT": fault, "PYTHONPATH": str(self.folder.parent / "injector")}
        group, ended = forks.start([*self.arguments, *more], self.folder, environment)
        assert not left_running(group)
        return ended

    def results(self) -> dict[str, str]:
        """The output files, except for those that differ between runs."""
        return {
            KEY.sub("", str(path.relative_to(self.folder))): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name not in UNEQUAL and not path.name.startswith(".lannunet-")
        }


def left_running(group: int) -> bool:
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def short(project):
    project.set(solver={"max_epochs": 2, "mini_batch_size": 2}, sampler={"num_workers": 1})
    project.write()
    return project


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    """Every command, with the files that it writes without a fault."""
    base = tmp_path_factory.mktemp("kills")
    (base / "injector").mkdir()
    (base / "injector" / "sitecustomize.py").write_text(INJECTOR)
    landmarks = short(draw_project(base / "landmarks"))
    segmentation = short(draw_segmentation_project(base / "segmentation", size=(12, 12, 8), patch=(8, 8, 8)))
    raw = segmentation.raw.name
    made = {
        "train landmarks": Work(landmarks.folder, ["train", "run.yaml"], ["--resume"]),
        "train segmentation": Work(segmentation.folder, ["train", "run.yaml"], ["--resume"]),
        "predict landmarks": Work(landmarks.folder, ["predict", "out", "images", "-o", "p"], ["--overwrite"]),
        "predict segmentation": Work(
            segmentation.folder, ["predict", "out", f"{raw}/imagesTs", "-o", "p"], ["--overwrite"]
        ),
        "folds": Work(
            landmarks.folder, ["folds", "points.json", "-o", "folds", "--count", "3"], begun="folds"
        ),
        "calibrate": Work(landmarks.folder, ["calibrate", "out/predictions.csv", "-o", "known.json"]),
        "weightmaps": Work(segmentation.folder, ["weightmaps", raw]),
    }
    for name, work in made.items():
        before = base / f"before {name}"
        shutil.copytree(work.folder, before)
        ended = work.run()
        assert ended.returncode == 0, ended.stderr
        work.expected = work.results()
        if not name.startswith("train"):
            after = work.folder
            shutil.rmtree(after)
            shutil.copytree(before, after)
        made[name] = Work(before, work.arguments, work.again, work.expected, work.begun)
    return made


def attempt(work: Work, kind: str, count: int, folder: Path) -> None:
    copy = Work(folder / "project", work.arguments, work.again)
    shutil.copytree(work.folder, copy.folder)
    shutil.copytree(work.folder.parent / "injector", folder / "injector")
    ended = copy.run(fault=f"{kind} {count}")
    if ended.returncode != 0:  # else it had finished before
        assert ended.returncode in FAULTS[kind], (ended.returncode, ended.stderr)
        assert "Traceback" not in ended.stderr
        for name, content in copy.results().items():
            if name in work.expected:
                assert content == work.expected[name], f"{name} is not as it has to be"
        if work.begun:
            shutil.rmtree(copy.folder / work.begun, ignore_errors=True)
        again = copy.run(*work.again)
        assert again.returncode == 0, again.stderr
    found = copy.results()
    assert found.keys() - work.expected.keys() == set()
    assert {name: found[name] for name in work.expected} == work.expected
    assert not [path for path in copy.folder.rglob(f"{TEMPORARY}*") if path.name != RECORD]


SOME = [
    ("train landmarks", "SIGKILL", 4),
    ("train landmarks", "full", 6),
    ("train segmentation", "SIGHUP", 12),
    ("predict landmarks", "SIGINT-twice", 2),
    ("predict segmentation", "full", 3),
    ("folds", "SIGKILL", 2),
    ("calibrate", "SIGINT", 1),
]


@pytest.mark.parametrize(("name", "kind", "count"), SOME)
def test_ended_at_a_write(works, tmp_path, name, kind, count):
    attempt(works[name], kind, count, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_ended_anywhere(works, tmp_path, part):
    drawn = random.Random(part)
    for number in range(30):
        name, kind = drawn.choice(list(works)), drawn.choice(list(FAULTS))
        folder = tmp_path / str(number)
        folder.mkdir()
        attempt(works[name], kind, drawn.randint(1, 25), folder)
        shutil.rmtree(folder)
