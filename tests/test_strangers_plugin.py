"""A third-party plugin of one hook is trained.

The plugin is the example of `docs/plugins.md`.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lannunet_core import cli

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


@pytest.fixture
def installed(distribution):
    """The example, as its pyproject.toml declares it."""
    name, version, requirement, plugin, value = re.search(
        r'name = "(.+)"\nversion = "(.+)"\ndependencies = \["(.+)"\].*\n(\S+) = "(.+)"',
        example("toml"),
        re.DOTALL,
    ).groups()
    source = {"strangers_net.py": example("python")}
    distribution(name, {plugin: value}, source, version=version, requires=[requirement])


def test_the_strangers_plugin_trains(installed, tmp_path, monkeypatch):
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

    monkeypatch.chdir(tmp_path)
    for command in (["config", "check"], ["train"]):
        with pytest.raises(SystemExit) as end:
            cli.main([*command, "run.yaml"])
        assert not end.value.code

    predicted = (tmp_path / "out" / "predictions.csv").read_text().splitlines()
    assert len(predicted) == 1 + len(splits["testing"])
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000
    epochs = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert epochs[-1]["epoch"] == 2
    assert "Tiny-Net" in (tmp_path / "out" / "run.json").read_text()
