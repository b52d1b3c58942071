"""Every YAML in `configs/` runs in a clean clone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lannunet_core import cli
from lannunet_core.config.compose import load_config

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in ROOT.glob("configs/**/training.yaml"))
FOLDS = range(3)
ONE_STEP = ("--set", "solver.max_epochs=1", "--set", "solver.mini_batch_size=1")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_an_example_is_complete(folder):
    """The YAMLs for inference name the models that training writes, and have the same settings."""
    training = load_config(folder / "training.yaml").run
    assert training.output.output_dir.parent == ROOT / "runs" / "examples"
    for fold in FOLDS:
        written = yaml.safe_load((folder / f"inference_fold{fold}.yaml").read_text())
        run = load_config(folder / f"inference_fold{fold}.yaml").run
        assert (run.trainer.fold, run.trainer.inference_only) == (fold, True)
        assert run.model.checkpoint == training.output.output_dir / f"fold{fold}"
        trained = yaml.safe_load((folder / "training.yaml").read_text())
        assert written["dataset"] == trained["dataset"]
        assert written["model"].keys() - {"checkpoint"} == trained["model"].keys()
    page = (folder / "README.md").read_text()
    for command in ("benchmarks.example_data", "training.yaml --folds 0-2", "inference_fold0.yaml"):
        assert command in page
    assert f"({folder.relative_to(ROOT / 'configs' / 'examples')}/README.md)" in (
        (ROOT / "configs" / "examples" / "README.md").read_text()
    )


def test_no_yaml_is_without_an_example():
    files = {"training.yaml", *(f"inference_fold{fold}.yaml" for fold in FOLDS)}
    found = {path.relative_to(ROOT) for path in ROOT.glob("configs/**/*.y*ml")}
    assert found == {(folder / file).relative_to(ROOT) for folder in FOLDERS for file in files}
    assert {folder.parent.name for folder in FOLDERS} == {"unet", "phdnet", "sparse", "weighted"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Committed and untracked files, and the data of the examples."""
    clone = tmp_path_factory.mktemp("fresh") / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    command = [sys.executable, "-m", "benchmarks.example_data"]
    drawn = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert drawn.returncode == 0, drawn.stderr
    return clone


@pytest.mark.slow
@pytest.mark.filterwarnings("default::UserWarning")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_every_yaml_trains_an_epoch(clone, folder, monkeypatch, without_charts):
    monkeypatch.chdir(clone)
    here = folder.relative_to(ROOT)

    def train(file, *options):
        with pytest.raises(SystemExit) as end:
            cli.main(["train", str(here / file), *options])
        assert not end.value.code

    train("training.yaml", "--folds", "0-2", *ONE_STEP)
    for fold in FOLDS:
        train(f"inference_fold{fold}.yaml")
        out = load_config(here / f"inference_fold{fold}.yaml").run.output.output_dir
        assert (out / "summary.json").exists()
    train("training.yaml", *ONE_STEP)
