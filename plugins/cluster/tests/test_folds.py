"""A cross-validation from its folds to calibrated predictions, as its users call it."""

import json
import re
import shutil

import numpy as np
import pytest
import yaml

LANDMARKS = ("0", "1")


@pytest.fixture(scope="session")
def crossed(tmp_path_factory, project_in):
    """A project whose 14 images were cross-validated in 3 folds, of which fold 1 is still missing."""
    project = project_in(
        tmp_path_factory.mktemp("crossed") / "project", splits={"training": 10, "validation": 2, "testing": 2}
    )
    project.write()
    assert project.lannunet("folds", project.json, "-o", project.folder / "folds", "--count", 3) == 0
    project.set(dataset={"src_targets": "folds"}, solver={"max_epochs": 1})
    assert project.train("--folds", "0,2") == 0
    assert sorted(path.name for path in project.out.iterdir()) == ["fold0", "fold2"]
    return project


@pytest.fixture(scope="session")
def pooled(crossed):
    """The folder of pooled predictions, with fold 1 trained too."""
    assert crossed.train("--folds", "0-2") == 0
    runs = [crossed.out / f"fold{k}" for k in range(3)]
    assert crossed.lannunet("evaluate", "--runs", *runs, "-o", crossed.out / "pooled") == 0
    return crossed.out / "pooled"


@pytest.fixture
def copy(crossed, tmp_path):
    """A copy of the project that tests may damage."""
    shutil.copytree(crossed.folder, tmp_path / "project")
    return type(crossed)(tmp_path / "project", crossed.annotations, json.loads(json.dumps(crossed.config)))


def test_each_fold_is_a_run_of_its_own(crossed):
    for fold in (0, 2):
        resolved = yaml.safe_load((crossed.out / f"fold{fold}" / "config.yaml").read_text())
        assert resolved["trainer"]["fold"] == fold
        tested = json.loads((crossed.folder / "folds" / f"fold{fold}.json").read_text())["testing"]
        rows = crossed.rows(crossed.out / f"fold{fold}")
        assert {row["id"] for row in rows} == {one["id"] for one in tested}


def test_what_is_finished_is_skipped_and_what_was_interrupted_goes_on(copy, capsys):
    shutil.rmtree(copy.out / "fold1", ignore_errors=True)
    (copy.out / "fold2" / "report.html").unlink()
    before = (copy.out / "fold0" / "run.json").stat().st_mtime_ns
    predictions = copy.rows(copy.out / "fold2")
    assert copy.train("--folds", "0-2") == 0
    printed = capsys.readouterr().out
    assert "fold 0 is finished" in printed
    assert "resumed from" in printed.split("fold 2:")[1]
    assert "epoch 1/1" in printed.split("fold 1:")[1].split("fold 2:")[0]
    assert (copy.out / "fold0" / "run.json").stat().st_mtime_ns == before
    assert copy.rows(copy.out / "fold2") == predictions


def test_finished_folds_that_joined_others_are_skipped(copy, tmp_path, capsys):
    """This also holds if the other folds are named by the folder of their cross-validation."""
    others = tmp_path / "others"
    shutil.copytree(copy.out / "fold0", others / "fold0")
    joined = (
        "inference.ensemble_inference=true",
        f"inference.ensemble_checkpoints=[{others}]",
        f"output.output_dir={tmp_path / 'joined'}",
    )
    words = [word for setting in joined for word in ("--set", setting)]
    assert copy.train("--folds", "2", *words) == 0
    capsys.readouterr()
    assert copy.train("--folds", "2", *words) == 0
    assert "fold 2 is finished" in capsys.readouterr().out


def test_a_fold_alone_is_the_same_as_among_others(copy):
    predictions = copy.rows(copy.out / "fold2")
    assert copy.train("--folds", "2", "--overwrite") == 0
    assert copy.rows(copy.out / "fold2") == predictions


def test_a_finished_fold_of_other_settings_is_no_part_of_it(copy, capsys):
    assert copy.train("--folds", "0", "--set", "solver.seed=7") == 2
    message = capsys.readouterr().err
    assert "fold0" in message and "solver.seed" in message


@pytest.mark.parametrize("folds", ["", "x", "1-", "-1", "3-1", "0..2"])
def test_wrong_numbers(copy, folds, capsys):
    assert copy.train(f"--folds={folds}") == 2
    assert "0-4 or 0,2,4" in capsys.readouterr().err


def test_all_folds_have_to_be_there_before_the_first_is_trained(copy, capsys):
    shutil.rmtree(copy.out)
    assert copy.train("--folds", "0-3") == 2
    assert "fold3.json" in capsys.readouterr().err
    copy.set(dataset={"src_targets": "points.json"})
    assert copy.train("--folds", "0-2") == 2
    assert "lannunet folds" in capsys.readouterr().err
    assert not copy.out.exists()


def test_pooled_predictions_hold_each_image_once(pooled, crossed):
    rows = crossed.rows(pooled)
    assert [row["landmark"] for row in rows] == [*LANDMARKS] * 14
    every = [one for split in ("training", "validation", "testing") for one in crossed.annotations[split]]
    targets = {(one["id"], str(n)): p for one in every for n, p in enumerate(one["coordinates"])}
    assert {(row["id"], row["landmark"]) for row in rows} == set(targets)
    for row in rows:
        assert float(row["target_x"]) == pytest.approx(targets[row["id"], row["landmark"]][0], abs=1e-3)
        fold = next(
            k for k in range(3) if row["id"] in {r["id"] for r in crossed.rows(crossed.out / f"fold{k}")}
        )
        assert row["x"] in {r["x"] for r in crossed.rows(crossed.out / f"fold{fold}") if r["id"] == row["id"]}
    summary = json.loads((pooled / "summary.json").read_text())
    assert summary["images"] == 14
    found = [float(row["error_px"]) for row in rows if row["error_px"]]
    assert summary["overall"]["px"]["mean"] == pytest.approx(np.mean(found), abs=2e-3)
    assert "3 runs" in (pooled / "report.html").read_text()


def test_an_image_twice_is_refused(pooled, crossed, tmp_path, capsys):
    run = crossed.out / "fold0"
    again = shutil.copytree(run, tmp_path / "again")
    for other, words in ((run, "is given twice. Give each once."), (again, "was predicted by")):
        assert crossed.lannunet("evaluate", "--runs", run, other, "-o", tmp_path / "twice") == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "twice").exists()


def test_two_samples_of_one_image_in_a_run_are_no_contradiction(copy, tmp_path):
    """An example are the left and the right side of one radiograph."""
    path = copy.folder / "folds" / "fold0.json"
    fold = json.loads(path.read_text())
    first, second, *_ = fold["testing"]
    second["image"] = first["image"]
    path.write_text(json.dumps(fold))
    assert copy.lannunet("evaluate", "--runs", copy.out / "fold0", "-o", tmp_path / "pooled") == 0
    assert len(copy.rows(tmp_path / "pooled")) == len(LANDMARKS) * len(fold["testing"])


def test_wrong_runs(pooled, crossed, tmp_path, capsys):
    for arguments, message in (
        (("--runs", tmp_path), "is not the folder of a run"),
        (("--runs", crossed.out / "fold0", "--fold", 0), "leave out"),
        ((crossed.out / "fold0",), "give predictions and their annotations"),
        (("--runs", crossed.out / "fold0", "-o", crossed.out / "fold0"), "Name another folder"),
        (("--runs", crossed.out / "fold0", "--coverage", 90), "between 0 and 1"),
    ):
        assert crossed.lannunet("evaluate", *arguments) == 2
        assert message in capsys.readouterr().err


def test_calibrated_from_the_folds(pooled, crossed, tmp_path, capsys):
    """Regions of new images: as wide as the k-th largest of the out-of-fold errors."""
    calibration = tmp_path / "calibration.json"
    assert crossed.lannunet("calibrate", pooled / "predictions.csv", "-o", calibration) == 0
    radii = {
        name: sorted(
            float(row["error_px"] or "inf") for row in crossed.rows(pooled) if row["landmark"] == name
        )[
            13  # ⌈15 · 0.9⌉ = 14
        ]
        for name in LANDMARKS
    }
    command = ("predict", crossed.out / "fold0", crossed.folder / "images", "--calibration", calibration)
    assert crossed.lannunet(*command, "-o", tmp_path / "new") == 0
    rows = crossed.rows(tmp_path / "new")
    assert len(rows) == 28
    for row in rows:
        if row["x"]:
            assert float(row["radius_px"]) == pytest.approx(radii[row["landmark"]], abs=1e-3)
            assert int(row["confidence_bin"]) in (1, 2)
            assert row["bin_from_px"] != "" and (row["bin_to_px"] == "") == (row["confidence_bin"] == "2")
    assert "radius_mm" not in rows[0]
    assert "Calibrated regions" in (tmp_path / "new" / "report.html").read_text()

    capsys.readouterr()
    assert crossed.lannunet(*command, "-o", tmp_path / "sure", "--coverage", 0.95) == 0
    assert "14 held-out errors are too few" in capsys.readouterr().err
    assert {row["radius_px"] for row in crossed.rows(tmp_path / "sure")} == {""}


def test_evaluated_with_a_calibration(pooled, crossed, tmp_path, capsys):
    calibration = tmp_path / "calibration.json"
    assert crossed.lannunet("calibrate", pooled / "predictions.csv", "-o", calibration) == 0
    command = ("evaluate", pooled / "predictions.csv", crossed.json, "--calibration", calibration)
    csv = tmp_path / "testing.csv"
    lines = (pooled / "predictions.csv").read_text().splitlines()
    csv.write_text("\n".join([lines[0], *(line for line in lines if line.startswith("testing"))]) + "\n")
    capsys.readouterr()
    command = ("evaluate", csv, crossed.json, "--calibration", calibration, "-o", tmp_path / "out")
    assert crossed.lannunet(*command) == 0
    assert "regions for 90.0% of the true points contain" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())["calibration"]
    assert summary["overall"]["cases"] == 4
    rows = crossed.rows(tmp_path / "out")
    held = [float(row["error_px"] or "inf") <= float(row["radius_px"] or "nan") for row in rows]
    assert summary["overall"]["held"] == sum(held)
    assert "Coverage of the regions" in (tmp_path / "out" / "report.html").read_text()


def test_predictions_without_annotation_calibrate_nothing(pooled, crossed, tmp_path, capsys):
    command = ("predict", crossed.out / "fold0", crossed.folder / "images", "-o", tmp_path / "new")
    assert crossed.lannunet(*command) == 0
    assert crossed.lannunet("calibrate", tmp_path / "new" / "predictions.csv", "-o", tmp_path / "c.json") == 2
    assert "has no errors" in capsys.readouterr().err
    assert not (tmp_path / "c.json").exists()


def test_a_calibration_of_other_landmarks(pooled, crossed, tmp_path, capsys):
    calibration = tmp_path / "c.json"
    crossed.lannunet("calibrate", pooled / "predictions.csv", "-o", calibration)
    calibration.write_text(calibration.read_text().replace('"1"', '"elbow"'))
    command = ("predict", crossed.out / "fold0", crossed.folder / "images", "-o", tmp_path / "new")
    assert crossed.lannunet(*command, "--calibration", calibration) == 2
    assert "no landmark '1'; it holds 0, elbow" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_calibration_that_cannot_be_written(pooled, crossed, tmp_path, capsys):
    predictions = tmp_path / "predictions.csv"
    shutil.copy(pooled / "predictions.csv", predictions)
    before = predictions.read_bytes()
    for output in (tmp_path, tmp_path / "none" / "c.json", predictions):
        assert crossed.lannunet("calibrate", predictions, "-o", output) == 2
        said = capsys.readouterr().err
        assert "--output" in said and re.search("(name|choose) another", said, re.IGNORECASE)
    assert predictions.read_bytes() == before
