"""The files of the tutorial are written, installed, tested and trained without changes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lannunet_core.scaffold import defaults, write_package

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"


def blocks(language) -> dict[str, str]:
    """The code blocks that name a file in their first line."""
    text = TUTORIAL.read_text()
    return dict(re.findall(rf"^```{language}\n# (\S+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package that a reader of the tutorial writes, and the folder into which it is installed."""
    folder = tmp_path_factory.mktemp("tutorial")
    source, target = folder / "lannunet-scn", folder / "installed"
    write_package(defaults("scn"), source)
    (source / "tests" / "test_network.py").unlink()
    for path, code in blocks("python").items():
        assert (source / path).is_file(), path
        (source / path).write_text(code)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    call(*pip, "--target", target, source, cwd=folder, path="")
    return source, target


def call(*command, cwd, path):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LANNUNET"))}
    clean |= {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ended = subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_it_is_short():
    assert sum(len(code.strip().splitlines()) for code in blocks("python").values()) < 80 + 8  # of its tests
    code = [code for path, code in blocks("python").items() if not path.startswith("tests/")]
    assert sum(len(part.strip().splitlines()) for part in code) < 80


def test_it_passes_the_conformance_kit(package):
    source, target = package
    said = call(sys.executable, "-m", "pytest", "-q", "-W", "error", cwd=source, path=target)
    assert "1 skipped" in said  # deep supervision


def test_it_trains_as_its_yaml_says(package, project):
    _, target = package
    (config,) = (yaml.safe_load(code) for code in blocks("yaml").values())
    small = project.config
    config["sampler"] |= small["sampler"]
    del config["solver"]["budget_minutes"]
    config["solver"] |= small["solver"]
    config["model"]["scn"] |= {"features": 4, "kernel": 5}
    project.config = {**config, "dataset": small["dataset"], "output": small["output"]}
    ended = project.start("train", project.yaml, PYTHONPATH=str(target))
    assert ended.returncode == 0, ended.stderr
    assert len(project.metrics()) == 2
    assert len(project.rows()) == 4


def test_its_commands_are_there():
    commands = re.findall(r"^lannunet (\w+ ?\w*)", TUTORIAL.read_text(), re.MULTILINE)
    assert {command.split()[0] for command in commands} == {"plugins", "train"}
