"""Calibrated confidence, from a run to the predictions of its model."""

import json

import numpy as np
import pytest
from lannunet_landmarks.evaluation.calibration import read_calibration

from lannunet_core import load_checkpoint


@pytest.fixture(scope="module")
def calibrated(project_in, tmp_path_factory):
    """A run with twenty validation points, and its output."""
    project = project_in(
        tmp_path_factory.mktemp("confident") / "project",
        splits={"training": 6, "validation": 10, "testing": 12},
    )
    project.set(solver={"max_epochs": 2, "mini_batch_size": 8})
    assert project.train() == 0
    return project


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def test_a_run_calibrates_on_its_validation_images(calibrated):
    """The radius is three widths of the labels (2 px) in pixels of images of twice the input's size."""
    rows = calibrated.rows()
    assert {row["confidence_radius_px"] for row in rows} == {"12"}
    confidence = np.array([float(row["confidence"]) for row in rows])
    within = np.array([float(row["error_px"]) <= 12 for row in rows])
    found = summary_of(calibrated.out)["confidence"]
    assert (found["calibrated"], found["radius"], found["unit"]) == (True, 12, "px")
    assert (found["calibrated_with"], found["points"]) == (20, len(rows))
    (group,) = found["groups"] if len(found["groups"]) == 1 else (None,)
    if group:
        assert group["confidence"] == pytest.approx(confidence.mean(), abs=1e-4)
        assert group["within"] == pytest.approx(within.mean())
    page = (calibrated.out / "report.html").read_text()
    for words in ("probability of lying within 12", "Confidence and accuracy", "Error against confidence"):
        assert words in page


def test_the_model_keeps_it(calibrated, tmp_path, capsys):
    images = [calibrated.folder / one["image"] for one in calibrated.annotations["testing"]]
    assert calibrated.lannunet("predict", calibrated.out, *images, "-o", tmp_path / "found") == 0
    assert capsys.readouterr().out.count("confidence is the probability of lying within 12 px") == 1
    for found, known in zip(calibrated.rows(tmp_path / "found"), calibrated.rows(), strict=True):
        assert found["confidence"] == known["confidence"]
        assert found["confidence_radius_px"] == "12"


def test_without_held_out_points_it_is_said_once(calibrated, tmp_path, capsys):
    calibrated.write()
    data = json.loads(calibrated.json.read_text())
    data["validation"] = []
    other = calibrated.folder / "other.json"
    other.write_text(json.dumps(data))
    settings = {"dataset.src_targets": other, "output.output_dir": tmp_path / "out", "solver.max_epochs": 1}
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert calibrated.lannunet("train", calibrated.yaml, *words) == 0
    printed = capsys.readouterr()
    assert (printed.out + printed.err).count("confidence is not calibrated") == 1
    assert "confidence" not in load_checkpoint(tmp_path / "out").learned
    assert "confidence_radius_px" not in calibrated.rows(tmp_path / "out")[0]


def test_a_radius_of_the_users(calibrated, tmp_path):
    """`calibrate --radius`, on top of the model's own calibration, and in a run."""
    table, made, checked = calibrated.out / "predictions.csv", tmp_path / "c.json", tmp_path / "checked"
    assert calibrated.lannunet("calibrate", table, "-o", made, "--radius", "3.5") == 0
    known = read_calibration(made).confidence
    assert (known.radius, known.unit, known.points) == (3.5, "px", 24)
    calibrated.write()
    again = tmp_path / "again"
    words = ("--set", "inference.confidence_radius=3.5", "--set", f"output.output_dir={again}")
    assert calibrated.lannunet("train", calibrated.yaml, *words) == 0
    assert {row["confidence_radius_px"] for row in calibrated.rows(again)} == {"3.5"}
    assert calibrated.lannunet("evaluate", table, calibrated.json, "--calibration", made, "-o", checked) == 0
    before, after = calibrated.rows(), calibrated.rows(checked)
    assert {row["confidence_radius_px"] for row in after} == {"3.5"}
    wanted = known(np.array([float(row["confidence"]) for row in before]))
    np.testing.assert_allclose([float(row["confidence"]) for row in after], wanted, atol=1e-3)
    assert summary_of(checked)["confidence"]["radius"] == 3.5
    images = [calibrated.folder / one["image"] for one in calibrated.annotations["testing"]]
    out = tmp_path / "found"
    assert calibrated.lannunet("predict", calibrated.out, *images, "-o", out, "--calibration", made) == 0
    found = [float(row["confidence"]) for row in calibrated.rows(out)]
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_members_that_are_apart_are_not_made_certain(calibrated, tmp_path):
    """With a calibration that returns .99 for everything, an ensemble that disagrees stays below one half."""
    made = tmp_path / "c.json"
    assert calibrated.lannunet("calibrate", calibrated.out / "predictions.csv", "-o", made) == 0
    content = json.loads(made.read_text())
    content["confidence"].update(radius=0.05, intercept=8.0, slope=0.01)
    made.write_text(json.dumps(content))
    calibrated.write()
    other = tmp_path / "other"
    words = ("--set", "solver.seed=5", "--set", f"output.output_dir={other}", "--set", "solver.max_epochs=1")
    assert calibrated.lannunet("train", calibrated.yaml, *words) == 0
    images = [calibrated.folder / one["image"] for one in calibrated.annotations["testing"]]
    out = tmp_path / "found"
    also = ("--also", other, "--calibration", made)
    assert calibrated.lannunet("predict", calibrated.out, *images, "-o", out, *also) == 0
    apart = [row for row in calibrated.rows(out) if float(row["uncertainty_px"]) > 0.05]
    assert len(apart) > 12
    assert max(float(row["confidence"]) for row in apart) <= 0.5


def test_a_calibration_of_the_version_before_keeps_its_regions(calibrated, tmp_path, capsys):
    made, out = tmp_path / "c.json", tmp_path / "found"
    assert calibrated.lannunet("calibrate", calibrated.out / "predictions.csv", "-o", made) == 0
    content = json.loads(made.read_text())
    content.update(lannunet_calibration=1)
    for key in ("confidence", "bins_by"):
        del content[key]
    made.write_text(json.dumps(content))
    image = calibrated.folder / calibrated.annotations["testing"][0]["image"]
    assert calibrated.lannunet("predict", calibrated.out, image, "-o", out, "--calibration", made) == 0
    assert "was written by an earlier version" in capsys.readouterr().err
    row = calibrated.rows(out)[0]
    assert float(row["radius_px"]) > 0
    assert row["confidence_radius_px"] == "12"  # the model's own
