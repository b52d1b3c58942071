"""Trained models, loaded for prediction."""

import csv
from pathlib import Path

import numpy as np
import pytest

from lannunet_core import load_checkpoint, models_of

BEFORE = Path(__file__).parent / "of_core_0_1_0"
FOUND = {
    # x, y, confidence of each landmark, None where it is not there: what core 0.1.0 predicted itself.
    "testing14.png": [(25.975, 16.660, 1.0), (30.092, 27.714, 0.1101)],
    "validation13.png": [(38.316, 20.163, 1.0), None],
}


def test_a_model_of_core_0_1_0_predicts_what_it_did(project, tmp_path, capsys):
    """One whose heatmaps' widths were learned, and what tells that a landmark is there; uncalibrated."""
    images = [BEFORE / name for name in FOUND]
    assert project.lannunet("predict", BEFORE / "best.pt", *images, "-o", tmp_path / "found") == 0
    with (tmp_path / "found" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [name for name in FOUND for _ in range(2)]
    for row, expected in zip(rows, [one for found in FOUND.values() for one in found], strict=True):
        assert row["present"] == ("false" if expected is None else "true")
        if expected is None:
            assert row["x"] == row["y"] == ""
        else:
            found = [float(row[name]) for name in ("x", "y", "confidence")]
            assert found == pytest.approx(expected, abs=2e-3)
    assert not any(name.startswith("confidence_radius") for name in rows[0])
    assert capsys.readouterr().out.count("confidence is not calibrated") == 1


def test_a_model_of_core_0_1_0_has_all_that_it_had():
    model = load_checkpoint(BEFORE / "best.pt")
    assert model.learned == {"presence": pytest.approx([0.05496, 0.05496], abs=1e-5)}
    assert model.learner["label_width.log"].shape == (2,)
    assert all(name.startswith(("network.", "label_width.")) for name in model.learner)
    assert model.run_info().outputs == ("0", "1")


def test_a_run_of_core_0_1_0_is_found_by_its_folder(tmp_path):
    for fold in (0, 1):
        (tmp_path / f"fold{fold}" / "checkpoints").mkdir(parents=True)
        (tmp_path / f"fold{fold}" / "checkpoints" / "best.pt").write_bytes((BEFORE / "best.pt").read_bytes())
    assert models_of(tmp_path / "fold0") == [tmp_path / "fold0"]
    assert models_of(tmp_path) == [tmp_path / f"fold{fold}" / "checkpoints" / "best.pt" for fold in (0, 1)]
    assert load_checkpoint(tmp_path / "fold0").learned["presence"]


@pytest.mark.parametrize("mode", [False, "isotropic", "covariance"])
def test_a_model_of_core_0_1_0_is_a_start(project, mode):
    project.set(
        model={"checkpoint": str(BEFORE / "best.pt")},
        solver={"regress_sigma": mode, "max_epochs": 1, "mini_batch_size": 1, "base_lr": 1e-12},
    )
    assert project.train() == 0
    began, ended = load_checkpoint(BEFORE / "best.pt").learner, load_checkpoint(project.out).learner
    kept = [name for name in began if name.startswith("network.")]
    assert kept
    for name in kept:
        np.testing.assert_allclose(ended[name], began[name], atol=1e-6)
    if mode == "isotropic":
        np.testing.assert_allclose(ended["label_width.log"], began["label_width.log"], atol=0.01)
