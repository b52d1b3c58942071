"""Terminals and systems that know few characters."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.fixtures.projects import draw_project

ONE_AFTER_ANOTHER = """
import json
import sys

from lannunet_core.cli import main

for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            sys.exit(f"{arguments}: {end.code}")
"""
PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_that_cannot_show_every_character(encoding, tmp_path):
    """The table has ≤ and lines, and a landmark a name of another script."""
    project = draw_project(tmp_path / "project")
    project.annotations["landmark_names"] = ["头", "größe"]
    project.set(solver={"max_epochs": 1, "mini_batch_size": 1})
    project.write()
    commands = (
        ("train", project.yaml),
        ("evaluate", project.out / "predictions.csv", project.json, "-o", project.folder / "evaluated"),
        ("predict", project.out, project.folder / "images", "-o", project.folder / "p"),
        ("config", "explain", project.yaml),
        ("--help",),
    )
    ended = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(commands, default=str)],
        env=os.environ | PLAIN | {"PYTHONIOENCODING": encoding, "COLUMNS": "200"},
        capture_output=True,
        encoding=encoding,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "头" in (project.out / "predictions.csv").read_text(encoding="utf-8")
    assert (project.out / "report.html").is_file()


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX alone")
def test_names_that_are_not_utf_8(tmp_path, trained, project_in, capsys):
    """A run there could not be read back, so it is refused before it begins; a model says what is wrong."""
    folder = tmp_path / os.fsdecode(b"scans\xff")
    project = project_in(folder)
    for command in (("config", "check"), ("train",)):
        project.write()
        assert project.lannunet(*command, project.yaml) == 2
        said = capsys.readouterr().err
        assert "has a name in it that is not UTF-8. Rename that folder" in said
        assert said.count("\n") == 1
    assert not project.out.exists()
    shutil.copy(trained.out / "checkpoints" / "best.safetensors", folder / "best.safetensors")
    image = trained.folder / trained.annotations["testing"][0]["image"]
    model = folder / "best.safetensors"
    assert trained.lannunet("predict", model, image, "-o", tmp_path / "found") == 2
    assert "has a name in it that is not UTF-8, which models need" in capsys.readouterr().err
