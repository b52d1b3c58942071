"""Terminals and systems that know few characters."""

import pytest

from tests.fixtures.projects import draw_project

PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_that_cannot_show_every_character(encoding, tmp_path):
    """The table has ≤ and lines, and a landmark a name of another script."""
    project = draw_project(tmp_path / "project")
    project.annotations["landmark_names"] = ["头", "größe"]
    project.set(solver={"max_epochs": 1, "mini_batch_size": 1})
    environment = PLAIN | {"PYTHONIOENCODING": encoding, "COLUMNS": "200"}
    trained = project.start("train", project.yaml, **environment)
    assert trained.returncode == 0, trained.stderr
    assert "Traceback" not in trained.stderr
    for arguments in (
        ("evaluate", project.out / "predictions.csv", project.json, "-o", project.folder / "evaluated"),
        ("predict", project.out, project.folder / "images", "-o", project.folder / "p"),
        ("config", "explain", project.yaml),
        ("--help",),
    ):
        ended = project.start(*arguments, **environment)
        assert ended.returncode == 0, (arguments, ended.stderr)
        assert "Traceback" not in ended.stderr
    assert "头" in (project.out / "predictions.csv").read_text(encoding="utf-8")
    assert (project.out / "report.html").is_file()
