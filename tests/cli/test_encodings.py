"""Terminals and systems with limited character sets."""

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

for encoding, arguments in json.loads(sys.argv[1]):
    sys.stdout.reconfigure(encoding=encoding)
    sys.stderr.reconfigure(encoding=encoding)
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            sys.exit(f"{encoding}: {arguments}: {end.code}")
"""
PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def test_terminals_that_cannot_show_every_character(tmp_path):
    """The table has ≤ and box-drawing lines, and a landmark has a name in another script."""
    project = draw_project(tmp_path / "project")
    project.annotations["landmark_names"] = ["头", "größe"]
    project.set(solver={"max_epochs": 1, "mini_batch_size": 1})
    project.write()
    outs = {encoding: project.folder / encoding for encoding in ("cp1252", "ascii")}
    commands = [
        (encoding, arguments)
        for encoding, out in outs.items()
        for arguments in (
            ("train", project.yaml, "--set", f"output.output_dir={out}"),
            ("evaluate", out / "predictions.csv", project.json, "-o", out / "evaluated"),
            ("predict", out, project.folder / "images", "-o", out / "p"),
            ("config", "explain", project.yaml),
            ("--help",),
        )
    ]
    ended = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_ANOTHER, json.dumps(commands, default=str)],
        env=os.environ | PLAIN | {"PYTHONIOENCODING": "ascii", "COLUMNS": "200"},
        capture_output=True,
        encoding="ascii",
        errors="replace",
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    for out in outs.values():
        assert "头" in (out / "predictions.csv").read_text(encoding="utf-8")
        assert (out / "report.html").is_file()


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX alone")
def test_names_that_are_not_utf_8(tmp_path, trained, project_in, capsys):
    """A run that could not be read back is refused before it begins; a model reports what is wrong."""
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
