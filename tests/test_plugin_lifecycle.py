"""The life cycle of a plugin, in a fresh environment with only wheels.

Written, built, installed, listed, checked, trained, used, uninstalled, and then missed.
"""

import json

import pytest


@pytest.fixture
def lannunet(wheels_to_train, fresh_environment, project):
    """Run a command in the environment, in a folder with data and a YAML; return its output."""
    environment = fresh_environment(*wheels_to_train)
    project.config["model"] = {"architecture": "my-model", "my-model": {"features": 4}}
    project.write()

    def run(*arguments, code=0):
        ended = environment.call("lannunet", *arguments, cwd=project.folder, code=code)
        return ended.stderr if code else ended.stdout

    return run


def listed(lannunet):
    rows = json.loads(lannunet("plugins", "list", "--json"))["plugins"]
    return {
        row["name"]: (row["distribution"], row["version"], row["source"], row["problems"]) for row in rows
    }


def test_from_nothing_to_a_model_and_back(lannunet, build_wheel, project):
    assert set(listed(lannunet)) == {"unet"}
    assert "No plugin 'my-model' is installed." in lannunet("train", "run.yaml", code=2)

    lannunet("plugins", "new", "my-model", "--yes")
    wheel = build_wheel(project.folder / "lannunet-my-model")
    said = lannunet("plugins", "install", wheel)
    assert "Plugin 'my-model' (lannunet-my-model 0.1.0) is installed" in said
    assert listed(lannunet)["my-model"] == ("lannunet-my-model", "0.1.0", "wheel", [])
    assert "Settings, in model.my-model:" in lannunet("plugins", "show", "my-model")
    assert " 0 failed" in lannunet("plugins", "check", "my-model", "--set", "features=8")

    lannunet("train", "run.yaml")
    assert [row["epoch"] for row in project.metrics()] == [1, 2]
    lannunet("predict", "out", "images", "-o", "found")
    images = len(list((project.folder / "images").iterdir()))
    assert len(project.rows(project.folder / "found")) == 2 * images

    lannunet("plugins", "uninstall", "my-model", "-y")
    assert set(listed(lannunet)) == {"unet"}
    assert lannunet("predict", "out", "images", "-o", "again", code=2) == (
        "Error: out: it was trained with plugin 'my-model' (lannunet-my-model 0.1.0), "
        "which is not installed. "
        "To continue: lannunet plugins install lannunet-my-model==0.1.0\n"
    )
    assert not (project.folder / "again").exists()
