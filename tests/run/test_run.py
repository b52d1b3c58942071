"""Whole runs: their outputs, and the data that they accept."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from lannunet_images.geometry import resize_affine, transform_points

from lannunet_core.config.compose import load_config
from lannunet_core.run import checkpoint, run


def points(rows):
    return np.array([[float(row[axis]) for axis in "xyz" if row.get(axis)] for row in rows])


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


# The outputs of a run


def test_the_files_of_a_run(trained):
    names = {path.name for path in trained.out.iterdir()}
    assert names == {
        "config.yaml",
        "run.json",
        "checkpoints",
        "metrics.jsonl",
        "predictions.csv",
        "summary.json",
        "report.html",
        ".lannunet-files",
    }
    assert {path.name for path in (trained.out / "checkpoints").iterdir()} == {
        "best.safetensors",
        "latest.pt",
    }


def test_run_json_says_where_results_come_from(trained):
    said = json.loads((trained.out / "run.json").read_text())
    assert said["config"] == trained.yaml.name
    assert said["seed"] == 0
    assert said["run"]["outputs"] == ["0", "1"]
    assert said["run"]["input_size"] == [32, 32]
    sizing = {"max_epochs": 2, "mini_batch_size": 3, "validate_every": 1, "budget": None, "shortened": []}
    assert said["sizing"] == sizing
    assert said["num_workers"] == 0
    assert [plugin["name"] for plugin in said["plugins"]] == ["unet"]
    assert ["network", [["unet", said["plugins"][0]["version"]]]] in said["hooks"]
    assert said["libraries"]["torch"] == torch.__version__
    assert {"started", "python", "platform", "device", "precision", "cores", "git"} <= said.keys()
    assert "command" not in said


def test_the_checkpoint_says_it_too(trained):
    for name in ("best.safetensors", "latest.pt"):
        model = checkpoint.load_checkpoint(trained.out / "checkpoints" / name)
        said = json.loads((trained.out / "run.json").read_text())
        assert json.loads(json.dumps(model.provenance)) == said


def test_config_yaml_is_the_run_with_everything_spelled_out(trained):
    resolved = yaml.safe_load((trained.out / "config.yaml").read_text())
    assert resolved["solver"]["base_lr"] == 2e-3
    assert resolved["solver"]["loss_function"] == "kl"
    assert resolved["model"]["unet"]["min_feature_resolution"] == 4
    assert resolved["dataset"]["src_targets"] == str(trained.json)
    given = load_config(trained.yaml).resolved()
    given["solver"]["base_lr"] = 2e-3
    assert resolved == given == load_config(trained.out / "config.yaml").resolved()


def test_metrics_predictions_and_summary_agree(trained):
    metrics = trained.metrics()
    assert [row["epoch"] for row in metrics] == [1, 2]
    assert all(row["loss"] == pytest.approx(sum(row["terms"].values())) for row in metrics)
    assert all(row["validation_error"] > 0 and row["seconds"] > 0 for row in metrics)

    rows = trained.rows()
    assert [(row["id"], row["landmark"]) for row in rows] == [
        (sample["id"], name) for sample in trained.annotations["testing"] for name in "01"
    ]
    targets = np.concatenate([sample["coordinates"] for sample in trained.annotations["testing"]])
    errors = np.linalg.norm(points(rows) - targets, axis=1)
    assert np.allclose([float(row["error_px"]) for row in rows], errors, atol=2e-3)
    figures = summary(trained.out)
    assert figures["images"] == 2
    assert figures["overall"]["px"]["mean"] == pytest.approx(errors.mean(), abs=2e-3)
    assert figures["per_landmark"]["1"]["px"]["mean"] == pytest.approx(errors[1::2].mean(), abs=2e-3)


def test_the_report_is_of_this_run(trained):
    report = (trained.out / "report.html").read_text()
    assert "blobs: testing" in report
    assert f"{summary(trained.out)['overall']['px']['mean']:.2f}" in report
    assert "max_epochs: 2" in report
    assert "base_lr: 0.002" in report


def test_overwriting_replaces_a_run_and_nothing_else(project):
    assert project.train("--set", "output.xlsx=true") == 0
    (project.out / "notes.txt").write_text("mine")
    assert project.train("--overwrite", "--set", "solver.max_epochs=1") == 0
    assert (project.out / "notes.txt").read_text() == "mine"
    assert not (project.out / "predictions.xlsx").exists()
    assert len(project.metrics()) == 1
    (project.out / "predictions.xlsx").write_text("mine")
    assert project.train("--overwrite") == 2
    assert (project.out / "predictions.xlsx").read_text() == "mine"
    assert len(project.metrics()) == 1


def test_observers_are_told(project, workshop):
    project.set(trainer={"plugins": ["watcher"]})
    assert project.train() == 0
    told = workshop().events
    assert [event.name for event in told] == ["start", *[*["batch"] * 3, "epoch"] * 2, "end"]
    assert {event.output_dir for event in told} == {project.out}
    assert len({id(event.module.network) for event in told}) == 1
    assert told[0].values["seed"] == 0
    batches = [event.values for event in told if event.name == "batch"]
    assert [(said["epoch"], said["batch"]) for said in batches] == [(e, b) for e in (1, 2) for b in (1, 2, 3)]
    rows = [event.values for event in told if event.name == "epoch"]
    assert rows == project.metrics()
    assert rows[0]["terms"]["kl"] == pytest.approx(np.mean([said["terms"]["kl"] for said in batches[:3]]))
    assert told[-1].values == summary(project.out)


def test_observers_are_told_of_an_interruption(project, workshop, monkeypatch):
    monkeypatch.setenv("SABOTAGE", "step 2 SIGINT")
    project.set(trainer={"plugins": ["watcher", "saboteur"]})
    assert project.train() == 130
    assert [event.name for event in workshop().events] == ["start", "batch", "batch", "failure"]


def test_a_workbook_on_request(project):
    openpyxl = pytest.importorskip("openpyxl")
    project.set(output={"xlsx": True})
    assert project.train() == 0
    book = openpyxl.load_workbook(project.out / "predictions.xlsx")
    assert book.sheetnames == ["unet"]
    assert book["unet"].max_row == 1 + len(project.rows())


def test_without_openpyxl_a_workbook_is_refused_before_training(project, monkeypatch, capsys):
    monkeypatch.setattr("lannunet_landmarks.evaluation.predictions.find_spec", lambda name: None)
    project.set(output={"xlsx": True})
    assert project.train() == 2
    assert "output.xlsx: writing .xlsx needs openpyxl" in capsys.readouterr().err
    assert not project.out.exists()


def test_a_folder_that_refuses_permissions_and_times(project, monkeypatch):
    """The file system behaves like a network share."""

    def refuse(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    for module, names in ((os, ("chmod", "utime", "chown")), (shutil, ("copystat", "copymode"))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    project.set(sampler={"debug": True}, inference={"debug": True}, output={"xlsx": True})
    assert project.train() == 0
    assert project.train("--overwrite") == 0
    found = project.folder / "found"
    assert project.lannunet("predict", project.out, project.folder / "images", "-o", found) == 0
    assert len(project.rows(found)) == 2 * 8


# Sizing


def test_a_run_sized_by_a_budget_is_repeated_from_its_configuration(project, monkeypatch, capsys):
    project.set(solver={"max_epochs": "auto", "budget_minutes": 0.2}, sampler={"num_workers": "auto"})
    with monkeypatch.context() as patch:
        patch.setattr(run, "seconds_per_batch", lambda batches, use: (0.01, 1.0))
        assert project.train() == 0
    assert "5 epochs of 2 batches fit into 0.2 minutes" in capsys.readouterr().out
    resolved = yaml.safe_load((project.out / "config.yaml").read_text())
    assert (resolved["solver"]["max_epochs"], resolved["solver"]["mini_batch_size"]) == (5, 2)
    assert len(project.metrics()) == 5
    assert "max_epochs: 5" in (project.out / "report.html").read_text()

    again = project.folder / "again"
    assert project.lannunet("train", project.out / "config.yaml", "--set", f"output.output_dir={again}") == 0
    assert (again / "predictions.csv").read_bytes() == (project.out / "predictions.csv").read_bytes()


def test_a_resumed_run_is_not_sized_anew(project, workshop, monkeypatch):
    project.set(solver={"max_epochs": "auto", "budget_minutes": 0.2}, trainer={"plugins": ["saboteur"]})
    with monkeypatch.context() as patch:
        patch.setattr(run, "seconds_per_batch", lambda batches, use: (0.0, 1.0))
        patch.setenv("SABOTAGE", "step 3 SIGINT")
        assert project.train() == 130
    sized = checkpoint.load_checkpoint(project.out / "checkpoints" / "latest.pt").sizing["max_epochs"]
    assert project.train("--resume") == 0
    assert len(project.metrics()) == sized > 1


def test_measuring_leaves_no_trace(project, workshop):
    """Even running statistics of a network are unchanged."""
    project.set(model={"architecture": "probe"})
    del project.config["model"]["unet"]
    assert project.train() == 0
    plain = (project.out / "predictions.csv").read_bytes()
    project.set(sampler={"num_workers": "auto"})
    assert project.train("--overwrite") == 0
    assert (project.out / "predictions.csv").read_bytes() == plain


# Data


def test_landmarks_that_are_missing(project):
    project.annotations["training"][0]["coordinates"][1] = None
    project.annotations["training"][1]["coordinates"][0] = "absent"
    project.annotations["validation"][0] |= {"coordinates": None, "has_annotation": False}
    project.annotations["testing"][0]["coordinates"][0] = "absent"
    project.annotations["testing"][1]["coordinates"][1] = None
    assert project.train() == 0
    assert [row["state"] for row in project.rows()] == ["absent", "visible", "visible", "unlabelled"]
    assert [bool(row["error_px"]) for row in project.rows()] == [False, True, True, False]
    assert all(row["x"] and row["confidence"] for row in project.rows())
    figures = summary(project.out)["overall"]
    assert figures["counts"] == {"evaluated": 2, "not_found": 0, "absent": 1, "unlabelled": 1}
    assert np.isfinite([row["loss"] for row in project.metrics()]).all()


def test_a_training_batch_without_any_landmark(project):
    """Images without any annotation cause no error and no NaN."""
    for sample in project.annotations["training"][1:]:
        sample["coordinates"] = [None, None]
    project.set(solver={"data_loader_batch_size_train": 1})
    assert project.train() == 0
    assert np.isfinite([row["loss"] for row in project.metrics()]).all()


def test_a_split_without_annotations_is_predicted(project):
    for split in ("validation", "testing"):
        for sample in project.annotations[split]:
            sample |= {"coordinates": None, "has_annotation": False}
    assert project.train() == 0
    assert all(row["x"] and not row["error_px"] for row in project.rows())
    assert (project.out / "report.html").exists()


def test_mixed_sizes_extra_keys_and_spacing(make_project):
    project = make_project(sizes=((64, 64), (90, 50), (41, 77)), splits=dict.fromkeys(("training",), 4))
    project.annotations["validation"] = []
    project.annotations["testing"] = [
        sample | {"id": f"again {sample['id']}", "spacing": [0.5, 0.25], "scanner": "A", "age": n}
        for n, sample in enumerate(project.annotations["training"])
    ]
    assert project.train() == 0
    rows = project.rows()
    assert [row["age"] for row in rows] == ["0", "0", "1", "1", "2", "2", "3", "3"]
    assert {row["scanner"] for row in rows} == {"A"}
    targets = np.concatenate([sample["coordinates"] for sample in project.annotations["testing"]])
    millimetres = np.linalg.norm((points(rows) - targets) * (0.5, 0.25), axis=1)
    assert np.allclose([float(row["error_mm"]) for row in rows], millimetres, atol=2e-3)
    assert summary(project.out)["unit"] == "mm"


def test_chosen_landmarks_keep_their_names(make_project):
    project = make_project(landmarks=3)
    project.annotations["landmark_names"] = ["tip", "base", "left"]
    project.set(dataset={"landmarks": [2, 0]})
    assert project.train() == 0
    assert [row["landmark"] for row in project.rows()] == ["left", "tip"] * 2
    targets = [(float(row["target_x"]), float(row["target_y"])) for row in project.rows()]
    first = project.annotations["testing"][0]["coordinates"]
    assert np.allclose(targets[:2], [first[2], first[0]], atol=1e-3)


def test_folds(project):
    project.write()
    folds = project.folder / "folds"
    folds.mkdir()
    for fold in (0, 1):
        other = project.annotations | {
            "name": f"fold {fold}",
            "testing": project.annotations["testing"][fold:],
        }
        (folds / f"fold{fold}.json").write_text(json.dumps(other))
    project.set(dataset={"src_targets": "folds", "root": "."}, trainer={"fold": 1})
    assert project.train() == 0
    assert len(project.rows()) == 2
    assert "fold 1: testing" in (project.out / "report.html").read_text()


@pytest.mark.parametrize("split", ["training", "validation"])
def test_another_split_is_evaluated(project, split):
    project.set(inference={"split": split})
    assert project.train() == 0
    assert {row["id"] for row in project.rows()} == {s["id"] for s in project.annotations[split]}


def test_images_that_do_not_fit_into_memory_are_read_when_needed(project, trained, capsys):
    project.set(trainer={"cache_data": False})
    assert project.train() == 0
    assert (project.out / "predictions.csv").read_bytes() == (trained.out / "predictions.csv").read_bytes()


def test_volumes(make_project):
    project = make_project(sizes=((32, 28, 20),), input_size=[24, 24, 16])
    assert project.train() == 0
    assert points(project.rows()).shape == (4, 3)
    assert {"target_z", "error_mm"} <= project.rows()[0].keys()
    assert summary(project.out)["unit"] == "mm"
    assert json.loads((project.out / "run.json").read_text())["run"]["dimensions"] == 3


def test_colour_pictures(make_project):
    project = make_project(channels=3)
    assert project.train() == 0
    assert json.loads((project.out / "run.json").read_text())["run"]["in_channels"] == 3


# Evaluation


@pytest.fixture
def evaluated(make_project, trained):
    """Evaluate the trained model again, and return the folder."""
    project = make_project()
    project.set(
        model={"checkpoint": str(trained.out / "checkpoints" / "best.safetensors")},
        trainer={"inference_only": True},
    )

    def evaluate(name, **inference):
        project.set(inference=inference, output={"output_dir": name})
        assert project.train() == 0
        return project.folder / name

    evaluate.rows = project.rows
    return evaluate


def test_inference_only_gives_what_training_gave(evaluated, trained):
    folder = evaluated("again")
    assert (folder / "predictions.csv").read_bytes() == (trained.out / "predictions.csv").read_bytes()
    assert not (folder / "metrics.jsonl").exists()
    assert {"config.yaml", "run.json", "report.html"} <= {path.name for path in folder.iterdir()}


def test_starting_from_a_model(project, trained):
    """With a learning rate near zero, the model does not change."""
    project.set(
        model={"checkpoint": str(trained.out / "checkpoints" / "best.safetensors")}, solver={"base_lr": 1e-12}
    )
    assert project.train() == 0
    assert np.allclose(points(project.rows()), points(trained.rows()), atol=0.01)


def test_evaluation_modes(evaluated, trained):
    rows = {
        mode: evaluated.rows(evaluated(mode, evaluation_mode=mode))
        for mode in ("scale_heatmap_first", "scale_pred_coords", "use_input_size")
    }
    found = {mode: points(of_mode) for mode, of_mode in rows.items()}
    # From the same map, which is poor after so few steps.
    assert np.abs(found["scale_heatmap_first"] - found["scale_pred_coords"]).max() < 4
    to_original = resize_affine((64, 64), (32, 32))
    mapped = transform_points(to_original, found["use_input_size"])
    assert np.allclose(mapped, found["scale_pred_coords"], atol=2e-3)
    errors = {mode: [float(row["error_px"]) for row in of_mode] for mode, of_mode in rows.items()}
    assert np.allclose(errors["scale_pred_coords"], np.multiply(errors["use_input_size"], 2), atol=3e-3)
    targets = [[float(row["target_x"]), float(row["target_y"])] for row in rows["use_input_size"]]
    annotated = np.concatenate([sample["coordinates"] for sample in trained.annotations["testing"]])
    assert np.allclose(transform_points(to_original, np.array(targets)), annotated, atol=2e-3)


def test_debug_pictures(evaluated):
    folder = evaluated("debug", debug=True)
    assert {path.name for path in (folder / "debug").iterdir()} == {"testing6.png", "testing7.png"}


def test_lannunets_own_yaml_trains(project, capsys):
    project.write()
    (project.folder / "theirs.yaml").write_text(
        "DATASET: {ROOT: '.', SRC_TARGETS: points.json, LANDMARKS: [0, 1]}\n"
        "SAMPLER: {INPUT_SIZE: [32, 32], DATA_AUG: AffineSimple, NUM_WORKERS: 0}\n"
        "SOLVER: {MAX_EPOCHS: 1, MINI_BATCH_SIZE: 2, DATA_LOADER_BATCH_SIZE_TRAIN: 2}\n"
        "MODEL: {ARCHITECTURE: U-Net, UNET: {INIT_FEATURES: 4}}\n"
        "OUTPUT: {OUTPUT_DIR: theirs}\n"
    )
    assert project.lannunet("train", project.folder / "theirs.yaml") == 0
    assert "LaNNU-Net's keys are accepted" in capsys.readouterr().err
    assert len(project.rows(project.folder / "theirs")) == 4


# Learning


@pytest.mark.slow
def test_a_volume_phantom_is_learned(make_project):
    """Two blobs in 48³ voxels are located with an error below 1.5 voxels."""
    project = make_project(
        sizes=((48, 48, 48),), splits={"training": 16, "validation": 3, "testing": 5}, input_size=[48, 48, 48]
    )
    project.set(
        solver={"max_epochs": 6, "mini_batch_size": 12, "data_loader_batch_size_train": 2},
        trainer={"validate_every": 2},
        model={"unet": {"init_features": 8, "max_features": 64}},
    )
    assert project.train() == 0
    assert summary(project.out)["overall"]["px"]["mean"] < 1.5


@pytest.mark.slow
def test_two_channels_are_learned(make_project):
    """Each landmark is visible in only one channel."""
    project = make_project(
        channels=2, splits={"training": 20, "validation": 4, "testing": 6}, input_size=[64, 64]
    )
    project.set(
        solver={"max_epochs": 4, "mini_batch_size": 25, "data_loader_batch_size_train": 4},
        trainer={"validate_every": 4},
        model={"unet": {"init_features": 8, "max_features": 64}},
    )
    assert project.train() == 0
    assert summary(project.out)["overall"]["px"]["mean"] < 1.5
