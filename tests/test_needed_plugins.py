"""If a model's plugins are missing or have another version, the message names those to install."""

import json

import pytest

from lannunet_core.plugins import discovery
from lannunet_core.plugins.installed import PluginWarning
from lannunet_core.run import checkpoint

NET = """
from lannunet_core import Plugin, hookimpl

class Net(Plugin):
    @hookimpl
    def network(self):
        from torch import nn
        return nn.Conv2d(self.run.in_channels, len(self.run.outputs), 3, padding=1)

class Names(Plugin):
    @hookimpl
    def losses(self):
        return {}
"""


@pytest.fixture
def metadata(distribution):
    """An installed distribution with an architecture `Tiny` and an extension `names`."""
    plugins = {"Tiny": "strange_net:Net", "names": "strange_net:Names"}
    return distribution("strangers-net", plugins, {"strange_net.py": NET}, version="1.3")


@pytest.fixture
def trained_by_plugins(project, metadata):
    project.config["model"] = {"architecture": "tiny"}
    project.set(trainer={"plugins": ["names"]}, solver={"max_epochs": 1})
    assert project.train() == 0
    project.set(solver={"max_epochs": 2})
    return project


@pytest.fixture
def version(metadata):
    """Set the installed version; None uninstalls."""

    def change(number):
        if number is None:
            (metadata / "entry_points.txt").unlink()
        else:
            file = metadata / "METADATA"
            file.write_text(file.read_text().replace("Version: 1.3", f"Version: {number}"))
        discovery.scan.cache_clear()

    return change


def predict(project, name="found", **options):
    return project.lannunet("predict", project.out, project.folder / "images", "-o", project.folder / name)


def test_missing(trained_by_plugins, version, capsys):
    project = trained_by_plugins
    version(None)
    capsys.readouterr()
    assert predict(project) == 2
    assert capsys.readouterr().err == (
        f"Error: {project.out}: it was trained with "
        "plugin 'Tiny' (strangers-net 1.3), which is not installed; and with "
        "plugin 'names' (strangers-net 1.3), which is not installed. "
        "To continue: lannunet plugins install strangers-net==1.3\n"
    )
    assert not (project.folder / "found").exists()

    assert project.train("--resume") == 2
    message = capsys.readouterr().err
    assert f"{project.out / 'run.json'}: it was trained with plugin 'Tiny' (strangers-net 1.3)" in message
    assert project.train("--overwrite") == 2  # no message about the old run
    assert "No plugin 'tiny' is installed." in capsys.readouterr().err


def test_of_another_major_version(trained_by_plugins, version, capsys):
    project = trained_by_plugins
    version("2.0")
    for command in (predict, lambda project: project.train("--resume")):
        assert command(project) == 2
        message = capsys.readouterr().err
        assert "plugin 'Tiny' (strangers-net 1.3), but 2.0 is installed" in message
        assert "lannunet plugins install strangers-net==1.3\n" in message


def test_evaluating_with_a_model_of_another_major_version(trained_by_plugins, version, capsys):
    project = trained_by_plugins
    version("2.0")
    project.set(model={"checkpoint": "out"}, trainer={"inference_only": True, "plugins": []})
    project.set(output={"output_dir": "evaluated"})
    assert project.train() == 2
    message = capsys.readouterr().err
    assert "plugin 'Tiny' (strangers-net 1.3), but 2.0 is installed" in message
    assert "'names'" not in message  # this run does not use it
    assert not (project.folder / "evaluated").exists()


def test_of_another_minor_version(trained_by_plugins, version):
    version("1.4")
    with pytest.warns(PluginWarning) as caught:
        assert predict(trained_by_plugins) == 0
    assert [str(warning.message).partition(": ")[2] for warning in caught] == [
        f"it was trained with plugin '{name}' (strangers-net 1.3); 1.4 is installed. Results may differ."
        for name in ("Tiny", "names")
    ]


def test_who_answered_is_kept_with_the_run_and_its_models(trained_by_plugins):
    project = trained_by_plugins
    said = dict(json.loads((project.out / "run.json").read_text())["hooks"])
    assert said["network"] == [["Tiny", "1.3"]]
    assert [name for name, _ in said["losses"]] == ["names", "lannunet-core"]
    for model in ("best.safetensors", "latest.pt"):
        kept = dict(checkpoint.load_checkpoint(project.out / "checkpoints" / model).provenance["hooks"])
        assert {hook: [list(who) for who in asked] for hook, asked in kept.items()} == said
