"""Runs in two stages, from one YAML."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from lannunet_landmarks.predict.stages import jitter_for
from lannunet_landmarks.types import Prediction

from lannunet_core.hookspecs import State

pytestmark = pytest.mark.usefixtures("without_charts")

SIZES = ((96, 80), (70, 100))


@pytest.fixture
def staged(make_project):
    project = make_project(sizes=SIZES)
    project.config["refine"] = {
        "sampler": {"patch": {"sample_patch_size": [32, 32]}},
        "solver": {"max_epochs": 1},
        "model": {"unet": {"init_features": 6}},
    }
    return project


def points(rows):
    return {(row["id"], row["landmark"]): (row["x"], row["y"]) for row in rows}


def test_one_yaml_trains_both_and_shows_them_side_by_side(staged, capsys):
    assert staged.train() == 0
    printed = capsys.readouterr().out
    second = staged.out / "refine"
    jitter = yaml.safe_load((second / "config.yaml").read_text())["sampler"]["patch"]["jitter"]
    assert f"second stage: patches around the predictions, in training up to {jitter:g} px off" in printed
    assert "first stage" in printed[printed.rindex("\nall ") :]  # a row below the second stage's

    # All patches of the second stage are around the points of the first stage.
    with (staged.out / "centres.csv").open(newline="") as file:
        centres = points(csv.DictReader(file))
    assert len(centres) == 2 * 8
    first = points(staged.rows())
    assert first.items() <= centres.items()
    refined = points(staged.rows(second))
    assert refined.keys() == first.keys()
    for key, point in refined.items():
        away = np.array(point, float) - np.array(first[key], float)
        assert np.abs(away).max() <= 16.5  # half of a patch

    # Each is an ordinary run.
    runs = [json.loads((folder / "run.json").read_text()) for folder in (staged.out, second)]
    assert [run["run"]["input_size"] for run in runs] == [[32, 32], [32, 32]]
    epochs = [len((folder / "metrics.jsonl").read_text().splitlines()) for folder in (staged.out, second)]
    assert epochs == [2, 1]
    resolved = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in (staged.out, second)]
    assert [config["model"]["unet"]["init_features"] for config in resolved] == [4, 6]
    assert "first stage" in (second / "report.html").read_text()

    # The results of the first stage name the folder of the final ones.
    page = (staged.out / "report.html").read_text()
    assert "This is the first of two stages." in page
    assert '<a href="refine/report.html">' in page
    assert "first of two stages" not in (second / "report.html").read_text()
    final = [json.loads((one / "summary.json").read_text()).get("final") for one in (staged.out, second)]
    assert final == ["refine/summary.json", None]
    assert f"the run's final results: {second}" in printed.splitlines()[-1]

    # The resolved configuration repeats both stages; that of the second stage repeats only the second.
    again = staged.folder / "again"
    assert staged.lannunet("train", staged.out / "config.yaml", "--set", f"output.output_dir={again}") == 0
    assert points(staged.rows(again / "refine")) == refined
    alone = staged.folder / "alone"
    assert staged.lannunet("train", second / "config.yaml", "--set", f"output.output_dir={alone}") == 0
    assert points(staged.rows(alone)) == refined


def test_loose_images_go_through_both_stages(staged, capsys):
    assert staged.train() == 0
    images = [staged.folder / sample["image"] for sample in staged.annotations["testing"]]
    refined = list(points(staged.rows(staged.out / "refine")).values())
    for model in (staged.out, staged.out / "checkpoints" / "best.safetensors"):
        assert staged.lannunet("predict", model, *images, "-o", staged.folder / "new", "--overwrite") == 0
        found = np.array(list(points(staged.rows(staged.folder / "new")).values()), float)
        # The second stage read the points of the first with three decimals.
        np.testing.assert_allclose(found, np.array(refined, float), atol=0.01)
    capsys.readouterr()
    assert staged.lannunet("predict", staged.out / "refine", *images, "-o", staged.folder / "other") == 2
    assert "give the folder of the run in two stages that it belongs to" in capsys.readouterr().err
    shutil.rmtree(staged.out / "refine")
    assert staged.lannunet("predict", staged.out, *images, "-o", staged.folder / "other") == 2
    assert f"{staged.out / 'refine'}" in capsys.readouterr().err


@pytest.mark.parametrize(("strike", "stage"), [("step 5 SIGINT", 0), ("step 7 SIGINT", 1)])
def test_a_run_goes_on_in_either_stage(staged, workshop, monkeypatch, strike, stage):
    staged.set(trainer={"plugins": ["saboteur"]})
    whole = staged.folder / "whole"
    assert staged.train("--set", f"output.output_dir={whole}") == 0
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", strike if stage == 0 else "step 2 SIGINT")
        if stage == 1:  # the first stage has been trained
            shutil.copytree(whole, staged.out)
            shutil.rmtree(staged.out / "refine")
            (staged.out / "centres.csv").unlink()
        assert staged.train("--resume") == 130
    assert (staged.out / "refine").exists() == bool(stage)
    assert staged.train("--resume") == 0
    assert staged.rows(staged.out / "refine") == staged.rows(whole / "refine")


def test_a_folder_with_both_stages_is_refused_or_replaced(staged, capsys):
    assert staged.train() == 0
    assert staged.train() == 2
    assert "already holds a run" in capsys.readouterr().err
    stale = staged.out / "refine" / "checkpoints" / "latest.pt"
    before = stale.stat().st_mtime_ns
    assert staged.train("--overwrite") == 0
    assert stale.stat().st_mtime_ns != before


def test_an_impossible_second_stage_is_refused_before_the_first(staged, capsys):
    staged.config["refine"]["sampler"]["patch"]["sample_patch_size"] = [96, 32]
    assert staged.train() == 2
    error = capsys.readouterr().err
    assert "sampler.patch.sample_patch_size: [96, 32] is larger than the training image" in error
    assert not staged.out.exists()


def test_jitter_as_it_is_set(staged):
    staged.config["refine"]["sampler"]["patch"]["jitter"] = 2.5
    assert staged.train() == 0
    resolved = yaml.safe_load((staged.out / "refine" / "config.yaml").read_text())
    assert resolved["sampler"]["patch"]["jitter"] == 2.5


def a_prediction(errors, states=None):
    """Predictions with the given radial errors."""
    target = np.full((len(errors), 2), 50.0)
    states = np.zeros(len(errors), np.int64) if states is None else np.array(states)
    target[states != State.VISIBLE] = np.nan
    found = np.full((len(errors), 2), 50.0) + np.outer(errors, [0.6, 0.8])
    return Prediction("a", Path("a.png"), found, np.ones(len(errors)), target=target, states=states)


def test_jitter_follows_the_validation_error():
    errors = np.linspace(0, 10, 101)
    assert jitter_for([a_prediction(errors[:50]), a_prediction(errors[50:])], (64, 96)) == 9.5
    assert jitter_for([a_prediction([40.0, 60.0])], (64, 96)) == 16  # a quarter of the patch
    assert jitter_for([a_prediction([0.1, 0.2])], (64, 96)) == 1
    ignored = a_prediction([3.0, np.nan, 100.0], [State.VISIBLE, State.VISIBLE, State.UNLABELLED])
    assert jitter_for([ignored], (64, 96)) == 3
    unannotated = Prediction("b", Path("b.png"), np.zeros((2, 2)), np.ones(2))
    assert jitter_for([unannotated], (64, 96)) == 16
    assert jitter_for([], (40, 96)) == 10


def test_a_finished_fold_with_another_second_stage_is_refused(staged, capsys):
    (staged.folder / "folds").mkdir()
    for sample in (
        one for split in ("training", "validation", "testing") for one in staged.annotations[split]
    ):
        sample["image"] = f"../{sample['image']}"
    (staged.folder / "folds" / "fold0.json").write_text(json.dumps(staged.annotations))
    staged.set(dataset={"src_targets": "folds"}, solver={"max_epochs": 1})
    assert staged.train("--folds", "0") == 0
    capsys.readouterr()
    assert staged.train("--folds", "0") == 0
    assert "fold 0 is finished" in capsys.readouterr().out
    staged.config["refine"]["solver"]["max_epochs"] = 3
    assert staged.train("--folds", "0") == 2
    assert "refine was trained differently: solver.max_epochs was 1, is 3" in capsys.readouterr().err


def test_two_stages_on_an_external_set(project):
    project.config["refine"] = {"sampler": {"patch": {"sample_patch_size": [16, 16]}}}
    project.config["solver"]["max_epochs"] = 1
    assert project.train() == 0
    known = project.rows(project.out / "refine")
    for split in ("training", "validation"):
        del project.annotations[split]
    options = (
        "trainer.inference_only=true",
        f"model.checkpoint={project.out}",
        f"output.output_dir={project.folder / 'again'}",
    )
    project.config["refine"]["model"] = {"checkpoint": str(project.out / "refine")}
    project.config["refine"]["trainer"] = {"inference_only": True}
    assert project.train(*(word for one in options for word in ("--set", one))) == 0
    assert project.rows(project.folder / "again" / "refine") == known
