"""Wheels of core, U-Net and landmarks in a fresh environment: a third-party plugin of one hook is trained.

The plugin is the example of `docs/plugins.md`.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

DOCUMENTATION = Path(__file__).parents[1] / "docs" / "plugins.md"

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
def environment(tmp_path_factory, build_wheel, wheels_to_train, fresh_environment):
    stranger = tmp_path_factory.mktemp("stranger")
    (stranger / "strangers_net.py").write_text(example("python"))
    (stranger / "pyproject.toml").write_text(example("toml"))
    return fresh_environment(*wheels_to_train, build_wheel(stranger))


def test_only_wheels_are_seen(environment, tmp_path):
    where = environment.call("python", "-c", "import lannunet_core as c; print(c.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(environment.programs.parent)
    listed = json.loads(environment.call("lannunet", "plugins", "list", "--json", cwd=tmp_path).stdout)
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

    environment.call("lannunet", "config", "check", "run.yaml", cwd=tmp_path)
    environment.call("lannunet", "train", "run.yaml", cwd=tmp_path)

    predicted = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert len(predicted) == 1 + len(splits["testing"])
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    epochs = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert epochs[-1]["epoch"] == 2
    assert "Tiny-Net" in (tmp_path / "out" / "run.json").read_text()
