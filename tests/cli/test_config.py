"""`lannunet config`: its commands as a user calls them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lannunet_core import cli

HEAVY = ("torch", "imgaug", "SimpleITK", "matplotlib", "lightning_fabric", "numpy", "scipy", "cv2")
SHORT = "dataset: {src_targets: wings.json}\noutput: {output_dir: runs}\n"
NETWORK = """
from pydantic import Field
from lannunet_core import Plugin, PluginConfig, hookimpl
class C(PluginConfig):
    width: int = Field(8, description="Features.")
class P(Plugin):
    Config = C
    @hookimpl
    def network(self): ...
"""
LOSS = """
from lannunet_core import Plugin, hookimpl
class P(Plugin):
    @hookimpl
    def loss(self): ...
"""


def run(*arguments):
    """The exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main(["config", *map(str, arguments)])
    return end.value.code or 0


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A valid YAML in the working folder, with its annotations."""
    monkeypatch.chdir(tmp_path)
    Path("wings.json").write_text("{}")
    Path("my.yaml").write_text(SHORT)
    return Path("my.yaml")


def test_check_says_that_a_configuration_is_valid(config, capsys):
    assert run("check", config) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("my.yaml: OK ('unet' (lannunet-unet ")
    assert printed.err == ""


def test_check_names_mistakes(config, capsys):
    config.write_text(SHORT + "solver:\n  max_epoch: 3\n  seed: x\n")
    assert run("check", config, "--set", "trainer.fold=-2") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    for line in (
        "my.yaml:4: solver.max_epoch: unknown key. Did you mean max_epochs?",
        "my.yaml:5: solver.seed: found 'x', should be a valid integer.",
        "--set trainer.fold=-2: trainer.fold: found -2, should be greater than or equal to -1.",
    ):
        assert line in printed.err
    assert "Traceback" not in printed.err


def test_check_shows_warnings(config, capsys):
    config.write_text(SHORT + "OUTPUT: {VERBOSE: True}\n")
    assert run("check", config) == 0
    assert "Warning: my.yaml:3: OUTPUT.VERBOSE is ignored: it had no effect." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "dataset.src_targets=nope.json",
            "dataset.src_targets: {here}/nope.json does not exist; give the JSON",
        ),
        ("dataset.root=nope", "dataset.root: {here}/nope does not exist; give the folder of the images"),
        ("model.checkpoint=nope.pt", "model.checkpoint: {here}/nope.pt does not exist; give a model file"),
    ],
)
def test_check_misses_files(config, capsys, override, message):
    assert run("check", config, "--set", override) == 2
    assert f"--set {override}: {message.format(here=Path.cwd())}" in capsys.readouterr().err


def test_check_looks_for_the_fold(config, capsys):
    folds = Path("folds")
    folds.mkdir()
    for fold in (0, 1):
        (folds / f"fold{fold}.json").write_text("{}")
    config.write_text(SHORT.replace("wings.json", "folds") + "trainer: {fold: 0}\n")
    assert run("check", config) == 0
    assert run("check", config, "--set", "trainer.fold=2") == 2
    assert (
        f"fold2.json does not exist; {folds.absolute()} has fold0.json, fold1.json."
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["check", "explain"])
def test_nothing_heavy_is_imported(config, command):
    script = (
        "import sys\nfrom lannunet_core.cli import main\n"
        f"try:\n    main(['config', {command!r}, 'my.yaml'])\n"
        f"finally:\n    print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stderr.strip() == "[]"
    assert ended.returncode == 0


def test_explain_shows_values_with_their_place_and_who_answers(config, capsys, distribution):
    distribution("toys", {"toyloss": "toy_loss:P"}, {"toy_loss.py": LOSS}, version="3.1")
    config.write_text(SHORT + "trainer:\n  plugins: [toyloss]\nsolver:\n  base_lr: 1e-3\n")
    assert run("explain", config, "--set", "solver.seed=0") == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        f"output.output_dir: {Path.cwd() / 'runs'} # my.yaml:2",
        "solver.base_lr: 0.001 # my.yaml:6",
        "solver.seed: 0 # --set solver.seed=0",
        "solver.max_epochs: auto # default",
        "model.unet.init_features: 32 # default",
        "trainer.plugins: [toyloss] # my.yaml:4",
        "solver.loss_function: - # replaced by plugin 'toyloss' (toys 3.1)",
    ):
        assert line in lines
    hooks = lines[lines.index("Hooks, and who is asked, in this order:") + 1 :]
    assert "loss: toyloss 3.1, lannunet-core 0.1.0" in hooks
    assert "network: unet 0.1.0" in hooks
    assert "observe: nobody" in hooks


def test_schema_has_every_installed_plugin_and_names_those_that_do_not_load(capsys, distribution, tmp_path):
    distribution(
        "toys", {"toynet": "toy_net:P", "toyloss": "toy_loss:P"}, {"toy_net.py": NETWORK, "toy_loss.py": LOSS}
    )
    distribution(
        "broken", {"broken": "broken_toy:P"}, {"broken_toy.py": "raise RuntimeError('no')"}, version="2.0"
    )
    assert run("schema") == 0
    printed = capsys.readouterr()
    assert "Left out: Plugin 'broken' (broken 2.0) cannot be imported" in printed.err
    schema = json.loads(printed.out)
    sections = {name: schema["$defs"][f"{name.title()}Config"]["properties"] for name in ("model", "trainer")}
    assert {"unet", "toynet", "architecture"} <= set(sections["model"])
    assert "toyloss" in sections["trainer"]
    assert "broken" not in sections["model"]
    assert schema["$defs"]["C"]["properties"]["width"]["description"] == "Features."
    assert schema["required"] == ["dataset", "output"]
    assert schema["$defs"]["DatasetConfig"]["required"] == ["src_targets"]

    assert run("schema", "-o", tmp_path / "schema.json") == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == schema


def test_import_writes_ours_and_lists_what_it_dropped(config, capsys):
    Path("old.yaml").write_text(
        "DATASET: {SRC_TARGETS: wings.json, NAME: wings}\nOUTPUT: {OUTPUT_DIR: out}\n"
        "MODEL: {ARCHITECTURE: U-Net}\n"
    )
    assert run("import", "old.yaml") == 0
    printed = capsys.readouterr()
    assert printed.err == "old.yaml: DATASET.NAME is dropped: the JSON has the name.\n"
    assert yaml.safe_load(printed.out)["solver"]["optimizer"] == "sgd"

    assert run("import", "old.yaml", "-o", "new.yaml") == 0
    assert Path("new.yaml").read_text() == printed.out
    assert run("check", "new.yaml") == 0
    assert "Warning" not in capsys.readouterr().err


def test_import_does_not_overwrite(config, capsys):
    assert run("import", config, "-o", config) == 2
    assert "my.yaml: there is such a file already" in capsys.readouterr().err
    assert config.read_text() == SHORT
