"""`lannunet plugins list`."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from lannunet_core import cli

PLUGIN = """
raise RuntimeError("was run")
from lannunet_core import Plugin, hookimpl
class Net(Plugin):
    @hookimpl
    def network(self): ...
    @hookimpl
    def {hook}(self): ...
"""


def listed(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["plugins", "list", *arguments])
    assert not end.value.code
    return capsys.readouterr().out


def as_json(capsys, name):
    rows = json.loads(listed(capsys, "--json"))["plugins"]
    return next(row for row in rows if row["name"] == name)


def test_json_says_everything_without_importing(distribution, capsys):
    distribution(
        "acme-nets",
        {"Acme": "acme_listed:Net", "AcmeV2": "acme_listed:Net"},
        {"acme_listed.py": PLUGIN.format(hook="loss")},
        version="1.2",
        requires=["lannunet-core>=0.0.1"],
        extra={"WHEEL": "Wheel-Version: 1.0\n"},
    )
    assert as_json(capsys, "Acme") == {
        "name": "Acme",
        "aliases": ["AcmeV2"],
        "distribution": "acme-nets",
        "version": "1.2",
        "source": "wheel",
        "requires_core": ">=0.0.1",
        "hooks": ["network", "loss"],
        "problems": [],
    }
    assert "acme_listed" not in sys.modules


@pytest.mark.parametrize(
    ("extra", "source"),
    [
        ({}, "local"),
        ({"WHEEL": "Wheel-Version: 1.0\n"}, "wheel"),
        ({"WHEEL": "x", "direct_url.json": '{"url": "file:///a.whl", "archive_info": {}}'}, "wheel"),
        ({"WHEEL": "x", "direct_url.json": '{"url": "file:///a", "dir_info": {}}'}, "local"),
        ({"WHEEL": "x", "direct_url.json": "not JSON"}, "wheel"),
        ({"WHEEL": "x", "direct_url.json": "[]"}, "wheel"),
        (
            {"WHEEL": "x", "direct_url.json": '{"url": "file:///a", "dir_info": {"editable": true}}'},
            "editable",
        ),
    ],
)
def test_source(distribution, capsys, extra, source):
    distribution("acme", {"Acme": "m:Net"}, extra=extra)
    assert as_json(capsys, "Acme")["source"] == source


def test_problems_are_shown_and_stop_nothing(distribution, capsys):
    distribution("slip", {"Slip": "acme_slip:Net"}, {"acme_slip.py": PLUGIN.format(hook="sampler")})
    distribution("gone", {"Gone": "acme_gone:Net"})
    distribution("new", {"New": "acme_slip:Net"}, requires=["lannunet-core>=99"])
    distribution("rival", {"S-l-i-p": "acme_other:Net"}, version="7.7")
    assert as_json(capsys, "Slip")["problems"][0].startswith("the name 'Slip' is also claimed by rival 7.7")
    assert "there is no hook 'sampler'. Did you mean 'sampling'?" in as_json(capsys, "Slip")["problems"]
    assert "no module 'acme_gone'" in as_json(capsys, "Gone")["problems"][0]
    assert "requires lannunet-core>=99" in as_json(capsys, "New")["problems"][0]


def test_table(distribution, capsys):
    distribution(
        "acme-nets",
        {"Acme": "acme_shown:Net", "AcmeV2": "acme_shown:Net"},
        {"acme_shown.py": PLUGIN.format(hook="sampler")},
        version="1.2",
    )
    lines = listed(capsys).splitlines()
    assert lines[0].split() == ["NAME", "DISTRIBUTION", "SOURCE", "HOOKS"]
    row = next(i for i, line in enumerate(lines) if line.startswith("Acme "))
    assert lines[row].split() == ["Acme", "acme-nets", "1.2", "local", "network,", "sampler"]
    assert lines[row + 1].strip() == "also called AcmeV2"
    assert lines[row + 2].strip().startswith("problem: there is no hook 'sampler'")


def test_disabled_plugins_are_not_listed(distribution, capsys, monkeypatch):
    distribution("acme", {"Acme": "m:Net"})
    monkeypatch.setenv("LANNUNET_DISABLE_PLUGINS", "acme")
    assert "Acme" not in listed(capsys)


def test_nothing_installed_says_what_to_do(capsys, monkeypatch):
    from lannunet_core.plugins import discovery

    scan = discovery.scan()
    monkeypatch.setattr(discovery, "installed", tuple)
    assert listed(capsys).splitlines()[0] == (
        "No plugin is installed. A run needs a task and an architecture: pip install lannunet"
    )
    monkeypatch.setattr(discovery, "scan", lambda: replace(scan, tasks=()))
    assert listed(capsys).startswith("No plugin and no task is installed. A run needs a task and")


def test_tasks_are_listed_with_their_distribution(distribution, capsys):
    listing = {row["name"]: row for row in json.loads(listed(capsys, "--json"))["tasks"]}
    assert {"landmarks", "segmentation"} <= set(listing)
    assert listing["landmarks"]["distribution"] == "lannunet-landmarks"
    entry = "[lannunet.tasks]\nLand-Marks = m:Task\nboxes = m:Boxes\n"
    distribution("acme-tasks", {}, entry_points=entry, version="1.2")
    lines = listed(capsys).splitlines()
    assert ["TASK", "DISTRIBUTION", "SOURCE"] in [line.split() for line in lines]
    assert ["boxes", "acme-tasks", "1.2", "local"] in [line.split() for line in lines]
    row = next(number for number, line in enumerate(lines) if line.startswith("landmarks "))
    assert lines[row + 1] == (
        "  problem: the task 'landmarks' is also provided by acme-tasks 1.2 (m:Task): uninstall one of them"
    )


def test_unreadable_metadata_is_mentioned(distribution, capsys):
    metadata = distribution("acme", {"Acme": "m:Net"})
    (metadata / "METADATA").write_text("nothing of use\n")
    assert "cannot be read" in listed(capsys)


@pytest.mark.parametrize("arguments", [["plugins", "list", "--json"], ["--help"], ["plugins", "--help"]])
def test_fifty_plugins_are_not_imported(distribution, arguments):
    touch = "from pathlib import Path\nPath(__file__).with_suffix('.imported').touch()\n"
    source = PLUGIN.format(hook="loss").replace('raise RuntimeError("was run")', touch)
    folders = [
        distribution(f"acme-{i}", {f"acme{i}": f"acme_{i}:Net"}, {f"acme_{i}.py": source}).parent
        for i in range(50)
    ]
    ended = subprocess.run(
        [sys.executable, "-c", f"from lannunet_core.cli import main; main({arguments!r})"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))},
    )
    assert ended.returncode == 0, ended.stderr
    assert not [path for folder in folders for path in folder.glob("*.imported")]
    if "list" in arguments:
        rows = json.loads(ended.stdout)["plugins"]
        assert {row["name"] for row in rows} >= {f"acme{i}" for i in range(50)}
        assert not [p for row in rows if row["name"].startswith("acme") for p in row["problems"]]
