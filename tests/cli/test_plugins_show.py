"""`lannunet plugins show`."""

import json
import sys
from importlib import metadata

import pytest

from lannunet_core import cli

PLUGIN = '''
from typing import Literal
from pydantic import Field
from lannunet_core import Plugin, PluginConfig, hookimpl

class Inner(PluginConfig):
    depth: int = Field(3, ge=1, description="Layers.")

class Net(Plugin):
    """A net of
    nets.

    Not shown."""

    tasks = ("landmarks",)

    class Config(PluginConfig):
        token: str = Field(description="Must be given.")
        norm: Literal["batch", "instance"] = Field("batch", description="Normalisation.")
        inner: Inner = Inner()

    @hookimpl
    def observe(self, event): ...
    @hookimpl
    def network(self): ...
'''


@pytest.fixture
def show(distribution, capfd):
    """Return a function that installs a plugin and calls the command: exit code, stdout, stderr."""

    def run(*arguments, source=PLUGIN, **options):
        options = {"version": "1.2", "requires": ["lannunet-core>=0.0.1"]} | options
        plugins = {"Acme": "acme_shown:Net", "AcmeV2": "acme_shown:Net"}
        distribution("acme-nets", plugins, {"acme_shown.py": source}, **options)
        with pytest.raises(SystemExit) as end:
            cli.main(["plugins", "show", *arguments])
        assert "acme_shown" not in sys.modules
        return end.value.code or 0, *capfd.readouterr()

    return run


def test_everything_about_one(show):
    assert show("acme_v2") == (
        0,
        "Acme: A net of nets.\n"
        "  distribution:  acme-nets 1.2 (local)\n"
        "  class:         acme_shown:Net\n"
        "  also called:   AcmeV2\n"
        "  requires:      lannunet-core>=0.0.1\n"
        "  tasks:         landmarks\n"
        "  hooks:         network, observe\n"
        "\n"
        "Settings, in model.Acme:\n"
        "  KEY          TYPE                   DEFAULT     WHAT IT DOES\n"
        "  token        string                 (required)  Must be given.\n"
        '  norm         "batch" or "instance"  "batch"     Normalisation.\n'
        "  inner.depth  integer ≥ 1            3           Layers.\n",
        "",
    )


def test_json_has_the_same(show):
    code, said, _ = show("acme", "--json")
    assert code == 0
    shown = json.loads(said)
    settings = shown.pop("settings")
    assert shown == {
        "name": "Acme",
        "aliases": ["AcmeV2"],
        "distribution": "acme-nets",
        "version": "1.2",
        "source": "local",
        "requires_core": ">=0.0.1",
        "hooks": ["network", "observe"],
        "problems": [],
        "warnings": [],
        "description": "A net of nets.",
        "value": "acme_shown:Net",
        "tasks": ["landmarks"],
    }
    assert settings[1] == {
        "key": "norm",
        "type": '"batch" or "instance"',
        "default": "batch",
        "required": False,
        "description": "Normalisation.",
    }


def test_description_is_the_distributions_where_the_class_has_none(show, tmp_path):
    source = "from lannunet_core import Plugin\nclass Net(Plugin): pass\n"
    code, said, _ = show("acme", source=source, requires=[], summary="Nets by Acme.")
    assert code == 0
    assert said.startswith("Acme: Nets by Acme.\n")
    assert (
        "  requires:      any lannunet-core\n"
        "  tasks:         landmarks, segmentation\n"
        "  hooks:         none\n\nIt has no settings.\n"
    ) in said


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import os\nos._exit(0)\n" + PLUGIN, "ended the interpreter (exit code 0)"),
        ("raise ValueError('no')\n" + PLUGIN, "ValueError: no"),
    ],
)
def test_a_broken_one_is_shown_as_far_as_it_can_be(show, source, problem):
    code, said, errors = show("acme", source=source)
    assert (code, errors) == (0, "")
    assert "  hooks:         network, observe\n" in said  # from its source
    assert problem in said
    assert "Settings" not in said


def test_one_for_another_core_is_not_imported(show):
    code, said, _ = show("acme", requires=["lannunet-core>=99"])
    assert code == 0
    assert "  problem:       it requires lannunet-core>=99, but" in said
    assert said.count("problem:") == 1


def test_prints_are_a_warning(show):
    code, said, errors = show("acme", source="print('noise')\n" + PLUGIN)
    assert (code, errors) == (0, "")
    assert "noise" not in said
    assert "  warning:       Plugin 'Acme' (acme-nets 1.2) prints while it is imported" in said


def test_unknown_name(show):
    code, said, errors = show("akme")
    assert (code, said) == (2, "")
    assert "No plugin 'akme' is installed. Did you mean 'Acme'?" in errors


def test_a_task_is_shown_with_its_distribution(capsys):
    def shown(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["plugins", "show", *arguments])
        assert not end.value.code
        return capsys.readouterr().out

    version = metadata.version("lannunet-landmarks")
    lines = shown("Land-Marks").splitlines()
    assert lines[0].startswith("landmarks: Landmark localisation")
    assert lines[1:3] == [
        "  a task:        task: landmarks",
        f"  distribution:  lannunet-landmarks {version} (editable)",
    ]
    row = json.loads(shown("landmarks", "--json"))
    assert (row["kind"], row["name"], row["problems"]) == ("task", "landmarks", [])
