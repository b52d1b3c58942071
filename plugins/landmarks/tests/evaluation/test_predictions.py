"""The predictions file, written and read."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.evaluation.predictions import read_predictions, write_predictions, write_workbook
from lannunet_landmarks.types import Prediction
from openpyxl import load_workbook

from lannunet_core.errors import UserError
from lannunet_core.hookspecs import State

NAMES = ["tip, left", 'the "other"']
NAN = float("nan")


@pytest.fixture
def predictions():
    annotated = Prediction(
        id="a",
        image=Path("a.png"),
        coordinates=np.array([[1.23456, 2.0], [NAN, NAN]]),
        confidence=np.array([0.87654, 0.0]),
        target=np.array([[1.23456, 5.0], [7.0, 8.0]]),
        states=np.array([State.VISIBLE, State.VISIBLE]),
        spacing=(0.5, 0.25),
        extra={"scanner": "B\nline", "views": [1, 2], "x": 3},
    )
    loose = Prediction(
        id="b", image=Path("b.png"), coordinates=np.array([[3.0, 4], [5, 6]]), confidence=np.array([1.0, 0.5])
    )
    return [annotated, loose]


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_sample_and_landmark_has_a_row(tmp_path, predictions):
    write_predictions(tmp_path / "p.csv", predictions, NAMES)
    first, second, third, fourth = rows_of(tmp_path / "p.csv")
    assert first == {
        "id": "a",
        "landmark": "tip, left",
        "x": "1.235",
        "y": "2.000",
        "confidence": "0.8765",
        "target_x": "1.235",
        "target_y": "5.000",
        "error_px": "3.000",
        "error_mm": "0.750",
        "state": "visible",
        "scanner": "B\nline",
        "views": "[1, 2]",
        "extra_x": "3",
    }
    assert (second["x"], second["error_px"], second["target_x"]) == ("", "", "7.000")
    assert (third["landmark"], third["x"], third["target_x"], third["error_mm"]) == (
        NAMES[0],
        "3.000",
        "",
        "",
    )
    assert (fourth["state"], fourth["scanner"], fourth["confidence"]) == ("", "", "0.5000")


def test_reading_gives_back_what_was_written(tmp_path, predictions):
    write_predictions(tmp_path / "p.csv", predictions, NAMES)
    read, names = read_predictions(tmp_path / "p.csv")
    assert names == NAMES
    assert [p.id for p in read] == ["a", "b"]
    for before, after in zip(predictions, read, strict=True):
        np.testing.assert_allclose(after.coordinates, before.coordinates, atol=5e-4)
        np.testing.assert_allclose(after.confidence, before.confidence, atol=5e-5)
    assert read[0].extra == {"scanner": "B\nline", "views": "[1, 2]", "extra_x": "3"}
    assert json.loads(read[0].extra["views"]) == [1, 2]
    # Reading and writing gives the same file, except for the annotation.
    write_predictions(tmp_path / "again.csv", read, names)
    for before, after in zip(rows_of(tmp_path / "p.csv"), rows_of(tmp_path / "again.csv"), strict=True):
        assert {key: before[key] for key in ("id", "landmark", "x", "y", "confidence")} == {
            key: after[key] for key in ("id", "landmark", "x", "y", "confidence")
        }


def test_equal_predictions_are_equal_files(tmp_path, predictions):
    shaken = [
        replace(p, coordinates=p.coordinates + 1e-9, confidence=p.confidence + 1e-9) for p in predictions
    ]
    for name, group in (("one.csv", predictions), ("two.csv", shaken)):
        write_predictions(tmp_path / name, group, NAMES)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()


def test_volumes_have_a_third_axis(tmp_path):
    case = Prediction(
        id="v",
        image=Path("v.nii"),
        coordinates=np.array([[1.0, 2, 3]]),
        confidence=np.array([0.5]),
        target=np.array([[1.0, 2, 5]]),
        states=np.array([State.VISIBLE]),
        spacing=(1.0, 1.0, 1.5),
    )
    write_predictions(tmp_path / "p.csv", [case], ["a"])
    (row,) = rows_of(tmp_path / "p.csv")
    assert (row["z"], row["target_z"], row["error_px"], row["error_mm"]) == (
        "3.000",
        "5.000",
        "2.000",
        "3.000",
    )
    assert read_predictions(tmp_path / "p.csv")[0][0].coordinates.tolist() == [[1, 2, 3]]


def test_workbook_has_a_sheet_of_numbers_a_method(tmp_path, predictions):
    methods = {"unet": predictions, "mean/position: a name that is too long": predictions[1:]}
    write_workbook(tmp_path / "p.xlsx", methods, NAMES)
    book = load_workbook(tmp_path / "p.xlsx")
    assert [len(name) <= 31 for name in book.sheetnames] == [True, True]
    rows = list(book["unet"].values)
    assert rows[0][:4] == ("id", "landmark", "x", "y")
    assert rows[1][:4] == ("a", "tip, left", 1.235, 2.0)
    assert rows[2][2] is None
    assert len(list(book.worksheets[1].values)) == 3


def test_workbook_without_openpyxl_says_what_to_install(tmp_path, predictions, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"pip install 'lannunet-core\[xlsx\]'"):
        write_workbook(tmp_path / "p.xlsx", {"unet": predictions}, NAMES)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_other_software_needs_four_columns(tmp_path):
    (tmp_path / "p.csv").write_text("\ufeffid,landmark,y,x\na,tip,2,1\n\na,heel,4,3\n", encoding="utf-8")
    (case,), names = read_predictions(tmp_path / "p.csv")
    assert names == ["tip", "heel"]
    assert case.coordinates.tolist() == [[1, 2], [3, 4]]
    assert np.isnan(case.confidence).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: there is no column 'id'"),
        ("id,landmark,x\n", "line 1: there is no column 'y'"),
        ("id;landmark;x;y\n", "it has id;landmark;x;y. Separate them by commas."),
        ("id,landmark,x,y\na,tip,1,2\na,heel,one,2\n", "line 3, column 'x': 'one' is not a number"),
        ("id,landmark,x,y\na,tip,1,inf\n", "line 2, column 'y': 'inf' is not finite"),
        ("id,landmark,x,y\na,tip,1,\n", "line 2: give all of x, y"),
        ("id,landmark,x,y\na,tip,1,2,3\n", "line 2: there are 5 cells under 4 columns"),
        ("id,landmark,x,y\na,tip,1,2\na,tip,1,2\n", "line 3: landmark 'tip' of 'a' occurs twice"),
        ("id,landmark,x,y\na,tip,1,2\na,heel,1,2\nb,tip,1,2\n", "landmark 'heel' of 'b' is missing"),
    ],
)
def test_wrong_files_are_named_with_their_line(tmp_path, text, message):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_predictions(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match="cannot be read as a text file"):
        read_predictions(tmp_path / "binary.csv")


def test_uncertainty_and_presence_have_columns(tmp_path, predictions):
    first, second = predictions
    first = replace(
        first,
        covariance=np.array([np.diag([9.0, 16.0]), np.diag([1.0, 1.0])]),
        present=np.array([True, False]),
    )
    second = replace(second, present=np.array([False, True]))
    write_predictions(tmp_path / "p.csv", [first, second], NAMES)
    rows = rows_of(tmp_path / "p.csv")
    assert list(rows[0])[4:8] == ["confidence", "uncertainty_px", "uncertainty_mm", "target_x"]
    assert (rows[0]["uncertainty_px"], rows[0]["uncertainty_mm"]) == ("5.000", f"{(1.5**2 + 1) ** 0.5:.3f}")
    assert {(row["uncertainty_px"], row["uncertainty_mm"]) for row in rows[1:]} == {("", "")}  # no point
    assert [row["present"] for row in rows] == ["true", "false", "false", "true"]

    read, _ = read_predictions(tmp_path / "p.csv")
    assert [list(one.present) for one in read] == [[True, False], [False, True]]
    assert all(set(one.extra) <= {"scanner", "views", "extra_x"} for one in read)
    write_workbook(tmp_path / "p.xlsx", {"E-CPV": [first, second]}, NAMES)
    sheet = load_workbook(tmp_path / "p.xlsx")["E-CPV"]
    cells = dict(zip([c.value for c in sheet[1]], [c.value for c in sheet[2]], strict=True))
    assert (cells["uncertainty_px"], cells["present"]) == (5.0, "true")


def test_presence_is_true_or_false(tmp_path):
    (tmp_path / "p.csv").write_text("id,landmark,x,y,present\na,tip,1,2,maybe\n")
    with pytest.raises(UserError, match="line 2, column 'present': 'maybe' is neither true nor false"):
        read_predictions(tmp_path / "p.csv")
