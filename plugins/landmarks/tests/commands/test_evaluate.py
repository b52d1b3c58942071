"""`lannunet evaluate` as its users call it."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from lannunet_core import cli

HEADER = "id,landmark,x,y,confidence\n"


def run(*arguments):
    """The exit code of `lannunet evaluate`."""
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", *map(str, arguments)])
    return end.value.code or 0


@pytest.fixture
def annotations(tmp_path):
    """Two test images of spacing 0.5 × 0.25 mm with two landmarks, one of them unlabelled in the second."""
    image = sitk.GetImageFromArray(np.zeros((20, 30), dtype=np.uint8))
    image.SetSpacing((0.5, 0.25))
    for name in "abc":
        sitk.WriteImage(image, str(tmp_path / f"{name}.mha"))
    content = {
        "name": "tiny",
        "training": [{"id": "a", "image": "a.mha", "coordinates": [[1, 2], [3, 4]]}],
        "validation": [],
        "testing": [
            {"id": "b", "image": "b.mha", "coordinates": [[10, 10], [20, 10]]},
            {"id": "c", "image": "c.mha", "coordinates": [[10, 10], None]},
        ],
    }
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def predictions(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(HEADER + "c,0,,,0\nc,1,5,5,1\nb,1,20,14,1\nb,0,13,10,0.5\n")
    return path


def test_figures_are_printed_and_written(tmp_path, annotations, predictions, capsys):
    assert run(predictions, annotations, "--radii", "1.2,2", "-o", tmp_path / "new" / "out") == 0
    summary = json.loads((tmp_path / "new" / "out" / "summary.json").read_text())
    assert summary["unit"] == "mm"
    assert summary["overall"]["px"]["mean"] == pytest.approx(3.5)
    assert summary["overall"]["mm"]["mean"] == pytest.approx((1.5 + 1.0) / 2)
    assert summary["overall"]["counts"] == {"evaluated": 2, "not_found": 1, "absent": 0, "unlabelled": 1}
    rates = [row["rate"] for row in summary["overall"]["detection_rates"]]
    assert rates == pytest.approx([1 / 3, 2 / 3])
    assert summary["not_found"] == [{"id": "c", "landmark": "0"}]
    printed = capsys.readouterr().out
    assert "tiny" in printed
    assert "1.25" in printed


def test_chosen_landmarks_and_split(tmp_path, annotations, capsys):
    path = tmp_path / "p.csv"
    path.write_text(HEADER + "a,1,3,5,1\n")
    assert run(path, annotations, "--split", "training", "--landmarks", "1", "-o", tmp_path) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["per_landmark"]["1"]["px"]["mean"] == pytest.approx(1)
    assert list(summary["per_landmark"]) == ["1"]


def test_without_output_nothing_is_written(tmp_path, annotations, predictions):
    before = sorted(tmp_path.iterdir())
    assert run(predictions, annotations) == 0
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("b,0,1,1,1\nb,1,1,1,1\n", "sample 'c' of testing"),
        ("b,0,1,1,1\nc,0,1,1,1\n", "there is no landmark '1'; it holds 0"),
        ("b,0,1,1,1\nb,1,1,1,1\nc,0,1,1,1\n", "landmark '1' of 'c' is missing"),
        ("b,0,1,1,1\nb,1,1,1,1\nd,0,1,1,1\nd,1,1,1,1\n", "'d' is no sample of testing"),
        ("b,0,one,1,1\n", "line 2, column 'x': 'one' is not a number"),
    ],
)
def test_predictions_that_do_not_fit(tmp_path, annotations, capsys, rows, message):
    path = tmp_path / "p.csv"
    path.write_text(HEADER + rows)
    assert run(path, annotations, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--radii", "2,-1"], "--radii: '-1'"),
        (["--radii", "two"], "--radii: 'two'"),
        (["--landmarks", "0,x"], "--landmarks: 'x'"),
        (["--landmarks", "7"], "7"),
    ],
)
def test_wrong_options(annotations, predictions, capsys, arguments, message):
    assert run(predictions, annotations, *arguments) == 2
    assert message in capsys.readouterr().err


def test_missing_files(tmp_path, annotations, predictions, capsys):
    assert run(tmp_path / "none.csv", annotations) == 2
    assert "none.csv" in capsys.readouterr().err
    assert run(predictions, tmp_path / "none.json") == 2
    assert "none.json" in capsys.readouterr().err


def test_points_of_other_dimensions(tmp_path, annotations, capsys):
    path = tmp_path / "p.csv"
    path.write_text("id,landmark,x,y,z\n" + "".join(f"{i},{n},1,1,1\n" for i in "bc" for n in "01"))
    assert run(path, annotations) == 2
    assert "the 2 axes" in capsys.readouterr().err


def test_uncertainties_are_kept(tmp_path, annotations):
    """Whatever they came from: a table holds no covariance."""
    path, out = tmp_path / "p.csv", tmp_path / "out"
    given = {
        ("c", "0"): ("", ""),
        ("c", "1"): ("1.500", "0.4"),
        ("b", "0"): ("2", ""),
        ("b", "1"): ("3", "1"),
    }
    lines = [f"{i},{n},5,5,1,{px},{mm}\n" for (i, n), (px, mm) in given.items()]
    path.write_text("id,landmark,x,y,confidence,uncertainty_px,uncertainty_mm\n" + "".join(lines))
    assert run(path, annotations, "--landmarks", "1,0", "-o", out) == 0
    with (out / "predictions.csv").open(newline="") as file:
        rows = {
            (r["id"], r["landmark"]): (r["uncertainty_px"], r["uncertainty_mm"]) for r in csv.DictReader(file)
        }
    wanted = {
        key: tuple(f"{float(cell):.3f}" if cell else "" for cell in cells) for key, cells in given.items()
    }
    assert rows == wanted
