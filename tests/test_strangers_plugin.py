"""Wheels of the core and U-Net in a fresh environment, where a stranger's plugin of one hook is trained.

The plugin is the example of `docs/plugins.md`. The environment must not see this checkout, or a file missing
from a wheel would go unnoticed; and downloading torch for every test run would take minutes. So third-party
packages are borrowed from the environment that runs the tests, through a folder of links without anything of
ours, while ours come from the wheels alone.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]
DOCUMENTATION = REPOSITORY / "docs" / "plugins.md"
BUILD_LEFTOVERS = shutil.ignore_patterns("*.egg-info", "build", "__pycache__", "tests")

RUN = """
dataset: {root: images, src_targets: points.json}
sampler: {input_size: [32, 32], num_workers: 0}
solver: {max_epochs: 2, mini_batch_size: 2, data_loader_batch_size_train: 2}
trainer: {validate_every: 1}
model: {architecture: tinynet, tiny_net: {features: 4}}
output: {output_dir: out}
"""


def example(language: str) -> str:
    """The first block of this language in the documentation."""
    found = re.search(rf"^```{language}\n(.*?)^```", DOCUMENTATION.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_strangers_plugin_is_short():
    assert len(example("python").splitlines()) < 25
    assert example("python").count("@hookimpl") == 1


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """The fresh environment's folder of programs."""
    folder = tmp_path_factory.mktemp("fresh")
    stranger = folder / "sources" / "stranger"
    stranger.mkdir(parents=True)
    (stranger / "strangers_net.py").write_text(example("python"))
    (stranger / "pyproject.toml").write_text(example("toml"))
    shutil.copytree(REPOSITORY / "plugins" / "unet", folder / "sources" / "unet", ignore=BUILD_LEFTOVERS)
    core = folder / "sources" / "core"
    shutil.copytree(REPOSITORY / "lannunet_core", core / "lannunet_core", ignore=BUILD_LEFTOVERS)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, core / file)

    wheels = folder / "wheels"
    sources = sorted((folder / "sources").iterdir())
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, *sources)
    call(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    installed = sorted(wheels.glob("*.whl"))
    assert len(installed) == 3
    call(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", *installed)

    borrowed = folder / "borrowed"
    borrowed.mkdir()
    for packages in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(packages).iterdir():
            if not entry.name.startswith(("lannunet", "__editable__")):
                (borrowed / entry.name).symlink_to(entry)
    (site_packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site_packages / "borrowed.pth").write_text(f"{borrowed}\n")
    return python.parent


def call(*command, cwd=None, code=0) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LANNUNET"))}
    clean |= {"PYTHONNOUSERSITE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(list(map(str, command)), cwd=cwd, env=clean, capture_output=True, text=True)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


def test_only_wheels_are_seen(environment, tmp_path):
    where = call(environment / "python", "-c", "import lannunet_core as c; print(c.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(environment.parent)
    listed = json.loads(call(environment / "lannunet", "plugins", "list", "--json", cwd=tmp_path))
    assert listed["problems"] == []
    seen = {p["name"]: (p["distribution"], p["source"], p["hooks"], p["problems"]) for p in listed["plugins"]}
    assert seen == {
        "unet": ("lannunet-unet", "wheel", ["network"], []),
        "Tiny-Net": ("strangers-net", "wheel", ["network"], []),
    }


def test_the_strangers_plugin_trains(environment, tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    samples = []
    for i in range(8):
        point = rng.uniform(5, 34, 2)
        y, x = np.mgrid[:40, :40]
        blob = np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / 18)
        np.save(tmp_path / "images" / f"{i}.npy", (255 * blob).astype(np.uint8))
        samples.append({"id": str(i), "image": f"{i}.npy", "coordinates": [point.tolist()]})
    splits = {"training": samples[:4], "validation": samples[4:6], "testing": samples[6:]}
    dataset = {"name": "blobs", "description": "one blob each", "fold": -1, **splits}
    (tmp_path / "points.json").write_text(json.dumps(dataset))
    (tmp_path / "run.yaml").write_text(RUN)

    call(environment / "lannunet", "config", "check", "run.yaml", cwd=tmp_path)
    call(environment / "lannunet", "train", "run.yaml", cwd=tmp_path)

    predicted = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert len(predicted) == 1 + len(splits["testing"])
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    epochs = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert epochs[-1]["epoch"] == 2
    assert "Tiny-Net" in (tmp_path / "out" / "run.json").read_text()
