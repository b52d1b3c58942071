"""Every sub-command of `lannunet` for both tasks: exit code, a useful message, no traceback."""

import re
import shutil
from dataclasses import dataclass

import pytest
import typer

from lannunet_core import cli
from lannunet_core.cli import plugins
from lannunet_core.plugins import discovery
from lannunet_core.plugins.manager import SPECS
from tests.fixtures.projects import Project, draw_project, draw_segmentation_project


@dataclass
class Trained:
    """A trained project, and the words of its commands."""

    project: Project
    words: dict[str, str]


def trained(project: Project, **words) -> Trained:
    assert project.train() == 0
    again = shutil.copytree(project.out, project.folder / "again")
    places = {"yaml": project.yaml, "run": project.out, "here": project.folder, "again": again}
    return Trained(project, {name: str(path) for name, path in (places | words).items()})


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory) -> Trained:
    project = draw_project(tmp_path_factory.mktemp("points") / "project")
    images = project.folder / "images"
    return trained(
        project,
        data=project.json,
        image=images / "testing6.png",
        results=project.out / "predictions.csv",
        truth=project.json,
    )


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory) -> Trained:
    project = draw_segmentation_project(tmp_path_factory.mktemp("labels") / "project")
    return trained(
        project,
        data=project.raw,
        image=project.raw / "imagesTs" / "Ts0_0000.nii.gz",
        results=project.out / "predictions",
        truth=project.raw / "labelsTs",
    )


LANNUNET_YAML = """
DATASET: {ROOT: images, SRC_TARGETS: points.json}
MODEL: {ARCHITECTURE: U-Net}
OUTPUT: {OUTPUT_DIR: out}
"""

ALIKE = {
    "config check": ("config check {yaml}", 0, "run.yaml: OK ('unet' (lannunet-unet "),
    "config explain": (
        "config explain {yaml}",
        0,
        "Hooks, and the plugins that implement them, in the order of the calls:",
    ),
    "config schema": ("config schema -o {new}/schema.json", 0, ""),
    "train again": ("train {yaml}", 2, "--overwrite"),
    "train overwrite": ("train {yaml} --overwrite --set output.output_dir={new}/out", 0, "report"),
    "train resume": ("train {yaml} --resume", 0, "report"),
    "train no such": ("train {here}/nowhere.yaml", 2, "nowhere.yaml"),
    "plan": ("plan {data} -o {new}/planned.yaml", 0, "Train it with"),
    "plan for a GPU": ("plan {data} -o {new}/planned.yaml --gpu --minutes 3", 0, "Train it with"),
    "predict": ("predict {run} {image} -o {new}/found", 0, "found"),
    "predict no model": ("predict {here}/nowhere.safetensors {image} -o {new}/found", 2, "no such model"),
    "predict coverage": ("predict {run} {image} -o {new}/found --coverage 2", 2, "is not a probability"),
    "bundle create": ("bundle create {run} -o {new}/model.lnb", 0, "model.lnb"),
    "bundle show": ("bundle show {yaml}", 2, "run.yaml"),
    "bundle verify": ("bundle verify {here}/nowhere.lnb", 2, "nowhere.lnb"),
    "bundle index": ("bundle index {here}", 2, "there are no bundles"),
    "compare": ("compare {run} {again} -o {new}/compare.html", 0, "95 % CI"),
    "compare one": ("compare {run} -o {new}/compare.html", 2, "two runs or more"),
    "bundle export": ("bundle export {run} -o {new}/model.png", 2, "should end in .onnx"),
    "plugins list": ("plugins list", 0, "lannunet-unet"),
    "plugins list --json": ("plugins list --json", 0, '"tasks"'),
    "plugins show": ("plugins show {task}", 0, "a task:"),
    "plugins show sparse": ("plugins show sparse", 0, "nnUNetTrainerV2Sparse"),
    "plugins check": ("plugins check nothing-of-this-name", 2, "No plugin 'nothing-of-this-name'"),
    "plugins new": ("plugins new my-model --yes -o {new}/my-model", 0, "is written"),
    "plugins install": ("plugins install --help", 0, "pip"),
    "plugins uninstall": ("plugins uninstall nothing-of-this-name -y", 2, "nothing-of-this-name"),
    "demo": ("demo --help", 0, "demo"),
    "serve": ("serve {run} --into {new}/nowhere/a.json", 2, "is not a .json file in an existing folder"),
}

OF_LANDMARKS = {
    "config import": ("config import {new}/lannunet.yaml", 0, "optimizer: sgd"),
    "evaluate": ("evaluate {results} {truth}", 0, "radial errors"),
    "calibrate": ("calibrate {results} -o {new}/calibration.json", 0, "calibration.json"),
    "folds": ("folds {data} -o {new}/folds --count 3", 0, "fold0.json to fold2.json"),
    "import": ("import {data} -o {new}/again.json", 0, "images with 2 landmarks, from LaNNU-Net's JSON"),
    "import RAS": ("import {data} -o {new}/a.json --coordinate-system RAS", 2, "states no geometry"),
    "import nothing": ("import {here}/images -o {new}/a.json", 2, "It is of none of the formats"),
    "export": ("export {data} --format coco -o {new}/coco.json", 0, "images, as COCO keypoints, in pixels"),
    "export run": ("export {run} --format csv -o {new}/points.csv", 0, "as a table with a row per landmark"),
    "export table": (
        "export {results} --images {here}/images --format cvat -o {new}/a.xml",
        0,
        "CVAT for images cannot hold the confidence",
    ),
    "export unknown": ("export {data} --format cocoa -o {new}/a.json", 2, "Did you mean 'coco'?"),
    "export volume": ("export {data} --format slicer -o {new}/a", 2, "states no geometry"),
    "import into": ("import {data} --into {data}", 0, "0 changed, 8 are unchanged"),
    "suggest": ("suggest {run} {image} -o {new}/next", 2, "all of them are annotated already"),
    "weightmaps": ("weightmaps {here}/images", 2, ""),
}

OF_SEGMENTATION = {
    "config import": ("config import {yaml}", 2, "run.yaml:11: LaNNU-Net has no task 'segmentation'"),
    "evaluate": ("evaluate {results} {truth} -o {new}/figures", 0, "agreement with the annotation"),
    "evaluate run": ("evaluate --runs {run}", 0, "agreement with the annotation"),
    "evaluate radii": ("evaluate {results} {truth} --radii 2", 2, "--radii: has no meaning for"),
    "calibrate": ("calibrate {results} -o {new}/calibration.json", 2, "is a folder"),
    "calibrate cases": (
        "calibrate {run}/cases.csv -o {new}/calibration.json",
        2,
        "cases.csv, line 1: there is no column",
    ),
    "folds": ("folds {data} -o {new}/folds", 2, "is a folder"),
    "import": ("import {data} -o {new}/a.json", 2, "It is of none of the formats"),
    "export": ("export {data} --format csv -o {new}/a.csv", 2, "has none of the lists"),
    "suggest": ("suggest {run} {image} -o {new}/next", 2, "is a model of `task: segmentation`"),
    "predict calibration": (
        "predict {run} {image} -o {new}/found --calibration {yaml}",
        2,
        "--calibration: has no meaning for",
    ),
    "weightmaps": ("weightmaps --help", 0, "weight maps"),
}


VERBATIM = ("--json", "schema.json", "planned.yaml", "lannunet.yaml")
"""What a file holds is printed as it is in the file, for other programs."""


def broken_lines(text, width, names):
    """Lines that a terminal would break, and names that are spread over two lines.

    A path, or a command in backticks, may be longer than the terminal, so that it can be copied.
    """
    lines = text.splitlines()
    parts = [re.sub("`[^`]*`", "code", line).split() for line in lines]
    broken = [line for line, words in zip(lines, parts, strict=True) if len(line) > width and len(words) > 1]
    joined = re.sub(r"\n *", "", text)
    broken += [name for name in names if joined.count(name) > text.count(name)]
    return broken + re.findall(r"\w[-_/]\n.*", text)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("a path:\n/as/long/as/it/is", []),
        ("`lannunet train a.yaml`\nfits", []),
        ("a line too long", ["a line too long"]),
        ("trained by u\n  net", ["unet"]),
        ("[default: no-\n  overwrite]", ["o-\n  overwrite]"]),
    ],
)
def test_what_is_broken_is_found(text, broken):
    assert broken_lines(text, 14, ["unet", "/as/long/as/it/is"]) == broken


NAMES = [
    *{name for one in discovery.scan().everything for name in (one.name, one.distribution) if "-" in name},
    *{name for plugin in discovery.scan().plugins for name in plugin.aliases},
    *SPECS,
]
CASES = [
    *(("landmarks", name, *case) for name, case in {**ALIKE, **OF_LANDMARKS}.items()),
    *(("segmentation", name, *case) for name, case in {**ALIKE, **OF_SEGMENTATION}.items()),
]


@pytest.mark.parametrize(
    ("task", "command", "code", "said"),
    [(task, *case) for task, _, *case in CASES],
    ids=[f"{task}: {name}" for task, name, *_ in CASES],
)
def test_every_command(request, capfd, tmp_path, monkeypatch, task, command, code, said):
    trained = request.getfixturevalue(task)
    capfd.readouterr()  # the output of training, if it was trained just now
    monkeypatch.chdir(trained.project.folder)
    monkeypatch.setenv("COLUMNS", "60")
    (tmp_path / "lannunet.yaml").write_text(LANNUNET_YAML)
    words = [word.format(new=tmp_path, task=task, **trained.words) for word in command.split()]
    assert trained.project.lannunet(*words) == code
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err
    everything = printed.out + printed.err
    assert said in " ".join((printed.err if code else everything).split()) or said in everything
    assert not re.search(r"\w…", everything), "a name or a number is cut"
    if not any(name in command for name in VERBATIM):
        names = [*NAMES, str(tmp_path), *trained.words.values()]
        assert broken_lines(everything, 60, names) == []
    if code == 2:
        assert re.match(r"(Error|Usage|Warning):\s", printed.err)


def test_none_is_left_out():
    """Each command and sub-command is tested, for both tasks."""
    there = {*cli.COMMANDS, *(command.name for command in discovery.scan().commands)} - {"config", "plugins"}
    there |= {f"plugins {name}" for name in plugins.COMMANDS}
    there |= {f"config {name}" for name in ("check", "explain", "schema", "import")}
    for task in ("landmarks", "segmentation"):
        tried = {" ".join(command.split()[:2]) for of, _, command, *_ in CASES if of == task}
        tried |= {command.split()[0] for command in tried}
        assert there <= tried, task


def test_folds_are_trained(segmentation, tmp_path, capfd):
    """Cross-validation of data that `folds` does not support."""
    out = f"output.output_dir={tmp_path / 'folds'}"
    more = ("--set", "solver.max_epochs=1", "--set", "inference.split=validation", "--set", out)
    assert segmentation.project.lannunet("train", segmentation.words["yaml"], "--folds", "0,1", *more) == 0
    assert {path.name for path in (tmp_path / "folds").glob("fold*")} == {"fold0", "fold1"}
    shutil.rmtree(tmp_path / "folds")
    capfd.readouterr()


def test_where_results_go_has_one_name(tmp_path, capsys):
    """Earlier names are accepted, but not shown in the help."""
    group = typer.main.get_command(cli.app)
    context = group.make_context("lannunet", ["plan"], resilient_parsing=True)
    seen = 0
    for name in group.commands:
        _, command, _ = group.resolve_command(context, [name])
        for one in (command, *getattr(command, "commands", {}).values()):
            for option in one.params:
                if "-o" in option.opts:
                    assert sorted(option.opts) == ["--output", "-o"]
                    seen += 1
    assert seen >= 8  # `plugins new` is imported when it is called
    for option in ("--output", "--out", "--output-dir"):
        with pytest.raises(SystemExit):
            cli.main(["weightmaps", str(tmp_path / "nowhere"), option, str(tmp_path)])
        assert "nowhere" in capsys.readouterr().err
