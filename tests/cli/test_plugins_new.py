"""`lannunet plugins new`: the new package installs, trains and passes its own tests without changes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lannunet_core
from lannunet_core import cli
from lannunet_core.scaffold import FILES, core_requirement, defaults, write_package


@pytest.fixture
def new(tmp_path, monkeypatch, capsys):
    """Calls the command in an empty folder; the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["plugins", "new", *arguments])
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return run


def call(*command, cwd, path):
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LANNUNET"))}
    clean |= {"PYTHONPATH": str(path), "OMP_NUM_THREADS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ended = subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def project_of(folder):
    tomllib = pytest.importorskip("tomllib")  # new in Python 3.11
    return tomllib.loads((folder / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A new package, and the folder that its wheel is installed into."""
    folder = tmp_path_factory.mktemp("new")
    target = folder / "installed"
    source = folder / "my-model"
    write_package(defaults("my-model"), source)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation"]
    call(*pip, "--target", target, source, cwd=folder, path="")
    return source, target


def test_it_passes_its_own_tests(package):
    source, target = package
    said = call(sys.executable, "-m", "pytest", "-q", "-W", "error", cwd=source, path=target)
    assert "1 skipped" in said  # deep supervision, which it does not declare
    assert "failed" not in said


def test_it_trains(package, make_project):
    _, target = package
    project = make_project(sizes=((40, 32, 24),), splits={"training": 2, "validation": 1, "testing": 1})
    project.config["model"] = {"architecture": "MyModel", "my-model": {"features": 4, "dilations": [1, 2]}}
    ended = project.start("train", project.yaml, PYTHONPATH=str(target))
    assert ended.returncode == 0, ended.stderr
    assert len(project.metrics()) == 2
    assert '"my-model"' in (project.out / "run.json").read_text()


def test_its_source_is_tidy(package):
    source, _ = package
    for arguments in (["format", "--check"], ["check", "--select", "E,F,W,I,UP,B"]):
        call(sys.executable, "-m", "ruff", *arguments, cwd=source, path="")


@pytest.mark.slow
def test_its_types_are_right(package):
    source, target = package
    core = Path(lannunet_core.__file__).parents[1]
    env = ["env", f"MYPYPATH={core}"]
    call(*env, sys.executable, "-m", "mypy", cwd=source, path=f"{core}{os.pathsep}{target}")


def test_everything_is_written_and_said(new, tmp_path):
    code, out, _ = new("my-model", "--yes")
    assert code == 0
    folder = tmp_path / "lannunet-my-model"
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {file.replace("$package", "lannunet_my_model") for file in FILES}
    assert all(f"  {file}\n" in out for file in written)
    assert "lannunet plugins check my-model" in out
    project = project_of(folder)
    assert project["entry-points"]["lannunet.plugins"] == {"my-model": "lannunet_my_model.plugin:MyModel"}
    assert project["dependencies"][0] == core_requirement(lannunet_core.__version__)


def test_every_template_is_used():
    folder = Path(lannunet_core.__file__).parent / "scaffold"
    assert {path.name for path in folder.glob("*.template")} == {
        f"{name}.template" for name in FILES.values()
    }


def test_questions(new, tmp_path, monkeypatch):
    answers = iter(["gizmo-net", "gizmo", 'Finds "gizmos" \\ well.', "Ada"])
    asked = []

    def prompt(text, default):
        asked.append((text, default))
        return next(answers)

    monkeypatch.setattr("typer.prompt", prompt)
    code, _, _ = new("Gizmo", "-o", "here")
    assert code == 0
    assert [default for _, default in asked] == [
        "lannunet-gizmo",
        "lannunet_gizmo",
        "Gizmo, a network for LannU-Net.",
        "",
    ]
    project = project_of(tmp_path / "here")
    assert (project["name"], project["authors"]) == ("gizmo-net", [{"name": "Ada"}])
    assert project["description"] == 'Finds "gizmos" \\ well.'
    assert project["entry-points"]["lannunet.plugins"] == {"Gizmo": "gizmo.plugin:Gizmo"}
    assert (tmp_path / "here" / "gizmo" / "network.py").is_file()


def test_an_existing_folder_is_left_alone(new, tmp_path):
    (tmp_path / "lannunet-my-model").mkdir()
    code, _, err = new("my-model", "--yes")
    assert code == 2
    assert "lannunet-my-model exists already. Choose another folder with -o" in err
    assert list((tmp_path / "lannunet-my-model").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2net", "'2net' is not a plugin name: use letters"),
        ("my model", "is not a plugin name"),
        ("net/", "is not a plugin name"),
        ("U-Net", "The name 'U-Net' is taken by the plugin 'unet' (lannunet-unet"),
        ("Gauss_Sigma", "the core has a key model.gauss_sigma"),
        ("core", "There is a Python module 'lannunet_core' already"),
    ],
)
def test_a_name_that_cannot_be(new, tmp_path, name, message):
    code, _, err = new(name, "--yes")
    assert code == 2
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        ("package", "json", "There is a Python module 'json' already"),
        ("package", "my-net", "'my-net' is not a package name"),
        ("package", "class", "'class' is not a package name"),
        ("distribution", "torch", "is installed already"),
        ("distribution", "a b", "'a b' is not a distribution name"),
    ],
)
def test_an_answer_that_cannot_be(new, tmp_path, monkeypatch, question, answer, message):
    monkeypatch.setattr("typer.prompt", lambda text, default: answer if question in text.lower() else default)
    code, _, err = new("my-model")
    assert code == 2
    assert message in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "requirement"),
    [
        ("0.1.0", "lannunet-core>=0.1,<0.2"),
        ("1.4.2", "lannunet-core>=1.4,<2"),
        ("0.9.0rc1", "lannunet-core>=0.9,<0.10"),
    ],
)
def test_the_core_that_it_is_made_for(version, requirement):
    assert core_requirement(version) == requirement
