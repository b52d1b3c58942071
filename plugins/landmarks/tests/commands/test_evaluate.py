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
        ("b,0,1,1,1\nb,1,1,1,1\nd,0,1,1,1\nd,1,1,1,1\n", "'d' is not a sample of testing"),
        ("b,0,one,1,1\n", "line 2, column 'x': 'one' is not a number"),
        ("b,0,\x1b[31mone,1,1\n", r"column 'x': '\x1b[31mone' is not a number"),
        ("b,0,1e400,1,1\n", "line 2, column 'x': '1e400' is not finite"),
        ("b,0,1e300,1,1\n", "line 2, column 'x': '1e300' is not finite, or larger than any image"),
        ("b,0,1,1," + "9" * 140_000 + "\n", "is not CSV (field larger than field limit"),
        ("", "holds no predictions"),
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
        (["--landmarks", "0,0"], "--landmarks: should name each landmark once"),
        (["--landmarks", "9" * 400], "is not an index"),
        (["--root", "x" * 5000], "--root: "),
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
    """This holds for every source, because a table contains no covariance."""
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


def test_loose_predictions_meet_their_samples(trained, tmp_path, capsys):
    """The ids of `lannunet predict` are file names."""
    images = [trained.folder / one["image"] for one in trained.annotations["testing"]]
    assert trained.lannunet("predict", trained.out, *images, "-o", tmp_path / "found") == 0
    capsys.readouterr()
    assert run(tmp_path / "found" / "predictions.csv", trained.json, "-o", tmp_path / "out") == 0
    assert "matched to samples by their file name" in capsys.readouterr().out
    for found, known in zip(trained.rows(tmp_path / "out"), trained.rows(), strict=True):
        assert (found["id"], found["x"], found["target_x"]) == (known["id"], known["x"], known["target_x"])


def test_a_table_of_formulas_is_read_as_it_was_meant(tmp_path, annotations, predictions):
    """Ids and names that a spreadsheet would evaluate, with or without the apostrophe before them."""
    content = json.loads(annotations.read_text())
    content["testing"][0]["id"], content["landmark_names"] = "=b", ["-tip", "base"]
    annotations.write_text(json.dumps(content))
    for mark in ("", "'"):
        predictions.write_text(
            HEADER + f"c,{mark}-tip,,,0\nc,base,5,5,1\n{mark}=b,{mark}-tip,1,1,1\n{mark}=b,base,1,1,1\n"
        )
        assert run(predictions, annotations, "-o", tmp_path / "out") == 0
        assert (tmp_path / "out" / "predictions.csv").read_text().splitlines()[1].startswith("'=b,'-tip,")


@pytest.mark.parametrize("name", ["predictions.csv", "summary.json", "report.html"])
def test_files_of_others_stay(tmp_path, annotations, predictions, capsys, name):
    """This includes inputs."""
    theirs = tmp_path / "out"
    theirs.mkdir()
    (theirs / name).write_text(annotations.read_text() if name == "summary.json" else "theirs")
    truth = theirs / name if name == "summary.json" else annotations
    options = ("--root", tmp_path, "-o", theirs)
    assert run(predictions, truth, *options) == 2
    said = capsys.readouterr()
    assert f"lannunet did not write {theirs / name}" in said.err and not said.out
    assert [path.name for path in theirs.iterdir()] == [name]
    (theirs / name).rename(tmp_path / f"moved_{name}")
    for _ in range(2):  # files of an earlier evaluation may be replaced
        assert run(predictions, annotations, *options) == 0
    for out in (annotations, annotations / "within", trained_run(tmp_path)):
        assert run(predictions, annotations, "-o", out) == 2
        assert "Traceback" not in capsys.readouterr().err


def trained_run(folder):
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text("{}")
    return folder / "run"


def test_annotations_outside_of_their_image(annotations, predictions, capsys):
    content = json.loads(annotations.read_text())
    content["testing"][0]["coordinates"][1] = [31, 10]
    annotations.write_text(json.dumps(content))
    assert run(predictions, annotations) == 2
    assert 'sample "b" of testing: landmark 1 at (31, 10) lies outside' in capsys.readouterr().err


def test_folders_of_label_maps(tmp_path, annotations, predictions, capsys):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "case_1.nii.gz").touch()
    assert run(predictions, tmp_path / "labels") == 2
    assert "holds no JSON" in (said := capsys.readouterr().err) and "against label maps" in said
    assert run(tmp_path / "labels", annotations) == 2
    assert "is a folder. Give the predictions.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        "a: [",
        "[]",
        "task: landmarks",
        "task: 3",
        "task: landmarks\ndataset: 1",
        "\x00",
        "a: &a [*a]",
        "!!x 1",
    ],
)
def test_a_damaged_run(trained, tmp_path, capsys, content):
    (tmp_path / "config.yaml").write_text(content)
    assert run("--runs", tmp_path) == 2
    assert str(tmp_path) in (said := capsys.readouterr().err) and "Traceback" not in said


def test_what_is_calibrated_already_stays(trained, tmp_path, capsys):
    table, made = trained.out / "predictions.csv", tmp_path / "c.json"
    made.write_text("theirs")
    for out in (made, tmp_path, tmp_path / "none" / "c.json", table):
        assert trained.lannunet("calibrate", table, "-o", out) == 2
        said = capsys.readouterr().err
        assert "--output" in said and said.count("\n") == 1
    assert made.read_text() == "theirs"


@pytest.mark.parametrize(
    ("images", "confidence", "words"),
    [
        (30, 0.9, "warning: confidence is not calibrated: the table does not state the radius"),
        (30, 97, "'confidence' has 97, but confidences are between 0 and 1"),
        (4, 0.9, "warning: landmarks 'tip', 'heel': 4 held-out errors are too few"),
    ],
)
def test_why_a_table_is_not_enough_to_calibrate(trained, images, confidence, words, capsys, tmp_path):
    rows = [
        f"{image},{name},1,2,{confidence},1,2,{image / 10},,visible"
        for image in range(images)
        for name in ("tip", "heel")
    ]
    header = "id,landmark,x,y,confidence,target_x,target_y,error_px,error_mm,state"
    table, made = tmp_path / "p.csv", tmp_path / "c.json"
    table.write_text("\n".join([header, *rows]))
    done = trained.lannunet("calibrate", table, "-o", made)
    printed = capsys.readouterr()
    assert words in printed.err
    assert (done == 0) is made.exists() is ("warning" in words)
    assert ("use it with" in printed.out) is (images == 30 and done == 0)
