"""A name with markup, a formula and an escape sequence, in every output that shows names."""

import csv
import json
import re
import shutil

import pytest
from openpyxl import load_workbook

HOSTILE = '=cmd|"/c calc"!A0\x1b[31m[bold red]x[/]<script>alert(1)</script>&{{7*7}}\u202e$\\frac$\ud800/../y'
STARTS = ("=", "+", "-", "@", "\t", "\r")


@pytest.fixture(scope="module")
def hostile(project_in, tmp_path_factory):
    """A project in which everything has this name, trained, with all its outputs."""
    project = project_in(tmp_path_factory.mktemp("hostile") / "project")
    project.annotations |= {"name": HOSTILE, "landmark_names": [HOSTILE, f"-{HOSTILE}"]}
    for split in ("training", "validation", "testing"):
        for number, one in enumerate(project.annotations[split]):
            one["id"] = f"{'@+'[number % 2]}{split}{number}{HOSTILE}"
            one |= {HOSTILE: HOSTILE, "+note": "-1+1", "number": -5}
    project.set(
        output={"output_dir": "out", "xlsx": True},
        inference={"debug": True},
        sampler={**project.config["sampler"], "debug": True},
        solver={**project.config["solver"], "max_epochs": 1},
    )
    return project


def look_at(folder):
    """The text shown in a folder of results."""
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    numbers = {"x", "y", "confidence", "target_x", "target_y", "error_px", "error_mm", "number"}
    for row in rows:
        for name, cell in row.items():
            assert not name.startswith(STARTS)
            assert name in numbers or not cell.startswith(STARTS), name
    page = (folder / "report.html").read_text(encoding="utf-8")
    blocks = re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL)
    assert "<script" not in re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL).lower()
    records = [text for kind, text in blocks if kind.startswith(' type="application/json"')]
    assert len(records) == len(blocks) - 1  # and the script of the page
    assert all(json.loads(text) and "<" not in text for text in records)
    assert "alert(1)" not in blocks[-1][1]
    assert "&lt;script&gt;" in page
    assert "{{7*7}}" in page
    assert "\x1b" not in (folder / "predictions.csv").read_text(encoding="utf-8") + page
    json.loads((folder / "summary.json").read_text())
    return rows


def check_said(said):
    assert "Traceback" not in said.err
    assert not {"\x1b", "\u202e", "\x9b"} & set(said.out + said.err)
    return said.out.replace("\n", "")


def test_all_outputs(hostile, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "400")
    assert hostile.train() == 0
    assert "[bold red]x[/]" in check_said(capsys.readouterr())
    rows = look_at(hostile.out)
    assert {row["number"] for row in rows} == {"-5"}
    before = set(hostile.folder.parent.iterdir())
    assert len(list((hostile.out / "debug").rglob("*.png"))) >= 2
    for sheet in load_workbook(hostile.out / "predictions.xlsx"):
        cells = [cell for row in sheet.iter_rows() for cell in row]
        assert not any(cell.data_type == "f" for cell in cells)
        texts = [cell.value for cell in cells if isinstance(cell.value, str)]
        assert {text for text in texts if text.startswith(STARTS)} == {"-5"}

    images = tmp_path / "images"
    images.mkdir()
    for number, one in enumerate(hostile.annotations["testing"]):
        shutil.copy(hostile.folder / one["image"], images / f"={number}\x1b[31m<script>.png")
    assert hostile.lannunet("predict", hostile.out, images, "-o", tmp_path / "found") == 0
    check_said(capsys.readouterr())
    look_at(tmp_path / "found")

    table = hostile.out / "predictions.csv"
    calibration = tmp_path / "calibration.json"
    assert hostile.lannunet("calibrate", table, "-o", calibration) == 0
    check_said(capsys.readouterr())
    evaluated = ("evaluate", table, hostile.json, "-o", tmp_path / "again", "--calibration", calibration)
    assert hostile.lannunet(*evaluated) == 0
    assert "[bold red]x[/]" in check_said(capsys.readouterr())
    again = look_at(tmp_path / "again")
    for name in ("id", "landmark", "x", "y"):
        assert [row[name] for row in again] == [row[name] for row in rows]
    assert hostile.lannunet("folds", hostile.json, "-o", tmp_path / "folds", "--count", 2) == 0
    assert hostile.lannunet("evaluate", table, hostile.json, "--split", "training") == 2
    check_said(capsys.readouterr())
    assert set(hostile.folder.parent.iterdir()) == before


def test_names_that_stages_hand_on(hostile, capsys):
    """The second stage reads the points of the first from a table, by id."""
    hostile.config["refine"] = {"sampler": {"patch": {"sample_patch_size": [16, 16]}}}
    hostile.config["output"]["output_dir"] = "stages"
    assert hostile.train() == 0
    check_said(capsys.readouterr())
    assert (hostile.folder / "stages" / "refine" / "predictions.csv").is_file()
