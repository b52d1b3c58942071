"""Folds side by side on this machine."""

import pytest


@pytest.fixture
def crossed(make_project):
    project = make_project(splits={"training": 6, "validation": 2})
    project.write()
    assert project.lannunet("folds", project.json, "-o", project.folder / "folds", "--count", 2) == 0
    project.set(dataset={"src_targets": "folds"}, solver={"max_epochs": 1}, trainer={"device": "cpu"})
    return project


@pytest.mark.slow
def test_folds_side_by_side(crossed):
    mine = crossed.folder / "out-fold0.log"
    mine.write_text("mine\n")
    words = ("--folds", "0-1", "--submit", "local:2", "--overwrite")
    ended = crossed.start("train", crossed.yaml, *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert mine.read_text().startswith("mine\n")
    assert ended.stdout.count("is finished") == 2 and "epoch" not in ended.stdout  # none is trained twice
    for fold in (0, 1):
        assert (crossed.out / f"fold{fold}" / "report.html").exists()
        assert "epoch 1/1" in (crossed.folder / f"out-fold{fold}.log").read_text()
        assert f"fold {fold} is done" in ended.stdout
    assert "evaluate --runs" in ended.stdout


@pytest.mark.slow
def test_a_fold_that_fails_does_not_stop_the_others(crossed):
    assert crossed.train("--folds", "0") == 0
    (crossed.folder / "folds" / "fold0.json").write_text("{}")
    ended = crossed.start("train", crossed.yaml, "--folds", "0-1", "--submit", "local:1")
    assert ended.returncode == 1
    assert "fold 0 failed (2)" in ended.stdout and "fold 1 is done" in ended.stdout
    assert "folds 0 are not done" in ended.stderr
    assert (crossed.out / "fold1" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--submit", "local:2"), "--folds 0-4"),
        (("--folds", "0-1", "--submit", "local"), "local:2"),
        (("--folds", "0-1", "--submit", "local:2", "--devices", "2"), "trainer.devices"),
    ],
)
def test_what_cannot_be_trained_side_by_side(crossed, words, told, capsys):
    assert crossed.train(*words) == 2
    assert told in capsys.readouterr().err
    assert not crossed.out.exists()
