"""Plugins that are broken in every known way, all installed at once.

A run that names one fails with one message; `plugins list --check` shows the fault; other runs succeed.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from lannunet_core.plugins import discovery, installed
from lannunet_core.plugins.installed import PluginWarning
from tests.fixtures import forks

HEAD = "from lannunet_core import Plugin, PluginConfig, hookimpl\n"
NETWORK = """
    @hookimpl
    def network(self):
        from torch import nn
        return nn.Conv2d(1, 2, 3, padding=1)
"""
GOOD = HEAD + "class P(Plugin):" + NETWORK


@dataclass(frozen=True)
class Broken:
    """A distribution `broken-<name> 4.2` with one plugin of this name.

    Attributes:
        source: Source of its module.
        cause: Cause that messages name.
        remedy: Remedy that messages name.
        code: Exit code of the run.
    """

    source: str
    cause: str
    remedy: str
    code: int = 2
    value: str = "P"
    requires: list[str] = field(default_factory=list)


BROKEN = {
    "raises": Broken(
        "raise ValueError('the licence\\nran out')",
        "ValueError: the licence",
        "update or reinstall broken-raises",
    ),
    "lacks": Broken(
        "import lacking_library.sub\n" + GOOD,
        "ModuleNotFoundError: No module named 'lacking_library'",
        "install the missing 'lacking_library', or broken-lacks again with its dependencies",
    ),
    "exits": Broken("import sys\nsys.exit(0)", "SystemExit: 0", "update or reinstall broken-exits"),
    "requires": Broken(
        GOOD,
        "it requires lannunet-core>=99, but ",
        "Install a version of broken-requires",
        requires=["lannunet-core>=99"],
    ),
    "taken": Broken(
        GOOD,
        "is claimed by broken-taken 4.2 (broken_taken:P) and by rightful 1.0 (broken_taken:P)",
        "Uninstall one",
    ),
    "classless": Broken(GOOD, "has no attribute 'Q'", "update or reinstall broken-classless", value="Q"),
    "misspells": Broken(
        GOOD + "    @hookimpl\n    def generate_label(self): ...\n",
        "P.generate_label: there is no hook 'generate_label'; did you mean 'generate_labels'?",
        "Update broken-misspells, or report it to its author.",
    ),
    "asks": Broken(
        GOOD + "    @hookimpl\n    def generate_labels(self, landmark): ...\n",
        "P.generate_labels: 'landmark' is not an argument of this hook.",
        "Did you mean 'landmarks'? Update broken-asks, or report it to its author.",
    ),
    "answers": Broken(
        GOOD.replace("return nn", "return 3, nn"),
        "The hook 'network' must return a torch.nn.Module, but the result was tuple",
        "update it, or report it to its author",
    ),
    "unconfigured": Broken(
        HEAD + "class P(Plugin):\n    class Config:\n        width = 3\n" + NETWORK,
        "its Config is not a pydantic model derived from lannunet_core.PluginConfig",
        "Update broken-unconfigured, or report it to its author.",
    ),
    # A missing dependency often causes an error only when a hook is called.
    "lacks_late": Broken(
        GOOD.replace("from torch", "import lacking_library\n        from torch"),
        "failed in its hook 'network': ModuleNotFoundError: No module named 'lacking_library'",
        "install the missing 'lacking_library'",
        code=1,
    ),
}
NOISY = "print('noise')\nimport sys\nsys.stdout.write('more noise\\n')\n" + GOOD


@pytest.fixture(scope="module")
def path(tmp_path_factory, write_distribution) -> str:
    """PYTHONPATH with all of them, and some good ones."""
    folder = tmp_path_factory.mktemp("installed")
    for name, broken in BROKEN.items():
        module = f"broken_{name}"
        write_distribution(
            folder / name,
            f"broken-{name}",
            {name: f"{module}:{broken.value}"},
            {f"{module}.py": broken.source},
            version="4.2",
            requires=broken.requires,
        )
    write_distribution(folder / "rightful", "rightful", {"Taken": "broken_taken:P"})
    write_distribution(folder / "gone", "gone", {"gone": "gone:P"}, {"gone.py": "import os\nos._exit(0)"})
    write_distribution(folder / "noisy", "noisy", {"noisy": "noisy:P"}, {"noisy.py": NOISY})
    write_distribution(folder / "good", "good", {"good": "good:P"}, {"good.py": GOOD})
    return os.pathsep.join(str(one) for one in folder.iterdir())


@pytest.fixture
def lannunet(path, project):
    project.write()

    def run(*arguments):
        return forks.start(arguments, project.folder, os.environ | {"PYTHONPATH": path})[1]

    return run


@pytest.fixture
def train(lannunet, project):
    def run(architecture):
        project.config["model"] = {"architecture": architecture}
        project.write()
        return lannunet("train", "run.yaml")

    return run


@pytest.mark.parametrize("name", BROKEN)
def test_a_run_that_names_it_fails_with_one_message(train, project, name):
    broken = BROKEN[name]
    ended = train(name)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: ")
    assert f"broken-{name} 4.2" in line
    assert broken.cause in line
    assert broken.remedy in line.partition(broken.cause)[2]
    assert ended.returncode == broken.code
    assert not project.out.exists()


@pytest.mark.parametrize("name", ["raises", "exits"])
def test_as_an_extension_too(lannunet, project, name):
    project.config["trainer"]["plugins"] = [name]
    project.write()
    ended = lannunet("config", "check", "run.yaml")
    assert ended.returncode == 2
    place, _, message = ended.stderr.partition(": trainer.plugins: ")
    assert place.removeprefix("Error: run.yaml:").isdecimal()
    assert message.startswith(f"Plugin '{name}' (broken-{name} 4.2) cannot be imported")


@pytest.fixture(scope="module")
def checked(path):
    """The rows of `plugins list --check`, by name; of the usual ones unet's alone, or it takes long."""
    others = ",".join(plugin.name for plugin in discovery.installed() if plugin.name != "unet")
    environment = os.environ | {"PYTHONPATH": path, "LANNUNET_DISABLE_PLUGINS": others}
    _, ended = forks.start(["plugins", "list", "--check", "--json"], Path.cwd(), environment)
    assert ended.returncode == 0
    assert ended.stderr == ""
    return {row["name"]: row for row in json.loads(ended.stdout)["plugins"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BROKEN if name != "taken"])
def test_the_list_shows_the_problem(checked, name):
    (problem,) = checked[name]["problems"]
    assert BROKEN[name].cause in problem
    assert BROKEN[name].remedy in problem


@pytest.mark.slow
def test_the_list_shows_the_problem_of_a_taken_name_at_both(checked):
    assert checked["taken"]["problems"] == [
        "the name 'taken' is also claimed by rightful 1.0 (broken_taken:P): uninstall one of them"
    ]
    assert "is also claimed by broken-taken 4.2" in checked["Taken"]["problems"][0]


@pytest.mark.slow
def test_the_list_survives_one_that_ends_the_interpreter(checked):
    assert "Plugin 'gone' (gone 1.0) ended the interpreter (exit code 0)" in checked["gone"]["problems"][0]


@pytest.mark.slow
def test_the_list_finds_nothing_wrong_with_good_ones(checked):
    assert (checked["good"]["problems"], checked["good"]["warnings"]) == ([], [])
    assert checked["good"]["hooks"] == ["network"]
    assert checked["unet"]["problems"] == []
    assert checked["noisy"]["problems"] == []
    assert "prints while it is imported" in checked["noisy"]["warnings"][0]


def test_runs_that_do_not_name_them_are_not_affected(train, project):
    ended = train("good")
    assert ended.returncode == 0, ended.stderr
    (said,) = ended.stderr.splitlines()
    assert "6 batches are too few" in said
    assert len(project.rows()) == 4


def test_one_that_prints_on_import_works_and_is_warned_about(lannunet, project):
    project.config["model"] = {"architecture": "noisy"}
    project.write()
    ended = lannunet("config", "check", "run.yaml")
    assert ended.returncode == 0
    assert ended.stdout == "run.yaml: OK ('noisy' (noisy 1.0))\n"
    assert ended.stderr.splitlines() == [
        "noise",
        "more noise",
        "Warning: Plugin 'noisy' (noisy 1.0) prints while it is imported; this went to stderr.",
    ]


@pytest.mark.filterwarnings("ignore:The .* took")  # tasks and formats, if nothing has used them yet
def test_one_that_is_slow_to_import_works_and_is_warned_about(distribution, project, monkeypatch):
    distribution("slow", {"slow": "slow_import:P"}, {"slow_import.py": GOOD})
    project.config["model"] = {"architecture": "slow"}
    project.write()
    monkeypatch.setattr(installed, "SLOW_IMPORT_SECONDS", -1)
    with pytest.warns(PluginWarning, match=r"Plugin 'slow' \(slow 1.0\) took \d+ s to import"):
        assert project.lannunet("config", "check", project.yaml) == 0


@pytest.mark.slow
def test_one_that_takes_ten_seconds_works_and_is_warned_about(distribution, project):
    busy = "import time\nend = time.process_time() + 10\nwhile time.process_time() < end: pass\n"
    distribution("slow", {"slow": "slow_import:P"}, {"slow_import.py": busy + GOOD})
    project.config["model"] = {"architecture": "slow"}
    ended = project.start("train", project.yaml)
    assert ended.returncode == 0
    assert ended.stderr == "Warning: Plugin 'slow' (slow 1.0) took 10 s to import.\n"


def test_a_hidden_one_is_not_seen_and_a_run_that_names_it_says_so(lannunet, project, monkeypatch):
    monkeypatch.setenv("LANNUNET_DISABLE_PLUGINS", "Good,raises")
    names = {row["name"] for row in json.loads(lannunet("plugins", "list", "--json").stdout)["plugins"]}
    assert "exits" in names
    assert not {"good", "raises"} & names
    project.config["model"] = {"architecture": "good"}
    project.write()
    ended = lannunet("train", "run.yaml")
    assert ended.returncode == 2
    assert "Plugin 'good' (good 1.0) is hidden: LANNUNET_DISABLE_PLUGINS names it." in ended.stderr
    assert yaml.safe_load(project.yaml.read_text())["model"]["architecture"] == "good"
