"""Segmentation runs from the command line to label files, in 2D and 3D."""

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_report import bootstrap_statistics, bootstrap_weights
from lannunet_segmentation.task import SegmentationTask

from tests.fixtures.nnunet import preprocessed, raw


def dice(project) -> dict[str, float]:
    """The mean Dice of each class."""
    with (project.out / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: np.mean([float(r["dice"]) for r in rows if r["class"] == name]) for name in ("bright", "dark")
    }


def predictions(project) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((project.out / "predictions").iterdir())}


@pytest.mark.parametrize(
    "data",
    [
        {"size": (20, 24, 16), "spacing": (1.0, 0.5, 2.0)},
        {"size": (48, 40), "ending": ".png", "patch": (32, 32)},
        pytest.param(
            {"size": (48, 40), "ending": ".nii.gz", "patch": (32, 24), "spacing": (0.7, 0.7)},
            marks=pytest.mark.slow,
        ),
        {"size": (48, 40, 1), "ending": ".nii.gz", "patch": (32, 32), "spacing": (0.7, 0.7, 5.0)},
    ],
    ids=["volumes", "png", "nifti-2d", "nifti-slice"],
)
def test_a_short_run_learns_and_writes_labels_in_the_images_geometry(segmentation_project, data):
    project = segmentation_project(**data)
    project.set(solver={"max_epochs": 6, "mini_batch_size": 20, "base_lr": 0.01})
    project.set(sampler={"data_aug": "None"})
    assert project.train() == 0
    assert min(dice(project).values()) > 0.7
    ending = data.get("ending", ".nii.gz")
    image = sitk.ReadImage(str(project.raw / "imagesTs" / f"Ts0_0000{ending}"))
    label = sitk.ReadImage(str(project.out / "predictions" / f"Ts0{ending}"))
    assert label.GetSize() == image.GetSize()
    if ending == ".nii.gz":
        assert label.GetSpacing() == pytest.approx(image.GetSpacing())
        assert label.GetOrigin() == pytest.approx(image.GetOrigin())
        assert label.GetDirection() == pytest.approx(image.GetDirection())


def test_what_stands_where_nothing_is_annotated_changes_nothing(segmentation_project, tmp_path):
    """The ignore label of version 2 and -1 in the file are the same run."""
    found = []
    for value in (-1, 3):
        project = segmentation_project(name=f"as{value}")
        description = json.loads((project.raw / "dataset.json").read_text())
        description["labels"]["ignore"] = 3
        (project.raw / "dataset.json").write_text(json.dumps(description))
        project.relabel(
            lambda label, number, value=value: np.where(np.arange(label.shape[2]) % 3 == 0, label, value)
        )
        project.set(trainer={"plugins": ["sparse"]})
        assert project.train() == 0
        found.append(predictions(project))
    assert found[0] == found[1]


@pytest.mark.parametrize("plugin", ["sparse", "nnUNetTrainerV2SparseNormalSampling"])
def test_a_case_without_annotation_is_named_once_and_not_used(segmentation, plugin, capsys):
    segmentation.relabel(lambda label, number: np.full_like(label, -1) if number == 2 else label)
    segmentation.set(trainer={"plugins": [plugin]})
    assert segmentation.train() == 0
    printed = capsys.readouterr()
    assert printed.err.count("nothing in them is annotated: Tr2") == 1


def test_a_test_image_that_trains_is_named(segmentation, capsys):
    segmentation.set(solver={"max_epochs": 1, "mini_batch_size": 1})
    train, test = (segmentation.raw / f"images{part}/{part}0_0000.nii.gz" for part in ("Tr", "Ts"))
    test.write_bytes(train.read_bytes())
    assert segmentation.train() == 0
    assert f"{test} of testing is the image {train} of training" in capsys.readouterr().err


def test_a_data_set_without_annotation_is_refused(segmentation, capsys):
    segmentation.relabel(lambda label, number: np.full_like(label, -1))
    assert segmentation.train() == 2
    assert "no voxel of any training case is annotated" in capsys.readouterr().err
    assert not (segmentation.out / "checkpoints").exists()


def test_one_annotated_voxel_a_case_is_enough_to_train(segmentation):
    def one(label, number):
        rest = np.full_like(label, -1)
        rest[-1, -1, number] = label[-1, -1, number]
        return rest

    segmentation.relabel(one)
    for plugin in ("sparse", "sparse-normal-sampling"):
        segmentation.set(trainer={"plugins": [plugin]})
        assert segmentation.train("--overwrite") == 0
        assert all(np.isfinite(row["loss"]) for row in segmentation.metrics())


def test_folds_hold_cases_out_and_report_how_well_they_are_segmented(segmentation):
    segmentation.set(trainer={"fold": 1, "validate_every": 1}, inference={"split": "validation"})
    assert segmentation.train() == 0
    assert 0 <= segmentation.metrics()[-1]["validation_error"] <= 1
    assert len(predictions(segmentation)) == 1  # of five


def test_the_report_gives_the_difference_to_another_run(segmentation, capsys):
    assert segmentation.train() == 0
    segmentation.set(output={"output_dir": "second", "compare_with": ["out"]})
    assert segmentation.train() == 0
    summary = json.loads((segmentation.folder / "second" / "summary.json").read_text())
    assert summary["comparison"]["out"]["overall"]["difference"] == 0  # the same run again
    assert "out" in (segmentation.folder / "second" / "report.html").read_text()
    segmentation.set(output={"output_dir": "third", "compare_with": ["second"]})
    for damaged in ("[]", '{"dice": [1]}', '{"dice": {"Ts0": {"bright": "much"}}}', "[" * 10**5):
        (segmentation.folder / "second" / "summary.json").write_text(damaged)
        assert segmentation.train() == 2
        assert "output.compare_with" in capsys.readouterr().err
    segmentation.set(output={"output_dir": "third", "compare_with": ["nowhere"]})
    assert segmentation.train() == 2
    assert "output.compare_with" in capsys.readouterr().err


def test_the_runs_seed_draws_the_intervals(segmentation):
    segmentation.set(solver={"seed": 7, "max_epochs": 2, "mini_batch_size": 10, "base_lr": 0.01})
    segmentation.set(inference={"split": "training"})
    assert segmentation.train() == 0
    summary = json.loads((segmentation.out / "summary.json").read_text())
    dice = np.array([list(case.values()) for case in summary["dice"].values()], np.float64)
    image = np.repeat(np.arange(len(dice)), dice.shape[1])
    intervals = [
        bootstrap_statistics(dice.ravel(), image, bootstrap_weights(len(dice), seed))["mean_ci95"]
        for seed in (0, 7)
    ]
    assert intervals[0] != intervals[1]
    assert summary["overall"]["dice"]["mean_ci95"] == pytest.approx(intervals[1])


@pytest.mark.parametrize("size", [(20, 24, 16), (48, 40)])
def test_debug_draws_the_first_patches(segmentation_project, size):
    project = segmentation_project(size=size)
    project.set(sampler={"debug": True})
    assert project.train() == 0
    pictures = list((project.out / "debug").glob("*.png"))
    assert len(pictures) == 2  # one per sample of the batch
    assert all(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).std() > 10 for path in pictures)


def test_a_trained_model_segments_loose_images(segmentation):
    assert segmentation.train() == 0
    image = segmentation.raw / "imagesTs" / "Ts0_0000.nii.gz"
    assert segmentation.lannunet("predict", segmentation.out, image, "-o", segmentation.folder / "new") == 0
    assert (segmentation.folder / "new" / "Ts0.nii.gz").read_bytes() == predictions(segmentation)[
        "Ts0.nii.gz"
    ]
    assert segmentation.lannunet("predict", segmentation.out, segmentation.folder, "-o", "elsewhere") == 2


def test_damaged_images_do_not_stop_the_others(segmentation, capsys):
    segmentation.set(solver={"max_epochs": 1, "mini_batch_size": 1})
    assert segmentation.train() == 0
    folder, out = segmentation.folder / "images", segmentation.folder / "new"
    folder.mkdir()
    content = (segmentation.raw / "imagesTs" / "Ts0_0000.nii.gz").read_bytes()
    for name in ("first", "last"):
        (folder / f"{name}.nii.gz").write_bytes(content[: len(content) // 2])
    capsys.readouterr()
    assert segmentation.lannunet("predict", segmentation.out, folder, "-o", out) == 2
    assert "first.nii" in capsys.readouterr().err
    assert not out.exists()
    (folder / "middle.nii.gz").write_bytes(content)
    assert segmentation.lannunet("predict", segmentation.out, folder, "-o", out) == 2
    said = capsys.readouterr().err
    assert "first.nii" in said and "last.nii" in said and "2 of 3 cases are not predicted" in said
    assert [path.name for path in out.glob("*.nii*")] == ["middle.nii.gz"]


def test_options_of_other_tasks_are_refused(segmentation, capsys):
    segmentation.set(solver={"max_epochs": 1, "mini_batch_size": 1})
    assert segmentation.train() == 0
    image, out = segmentation.raw / "imagesTs" / "Ts0_0000.nii.gz", segmentation.folder / "new"
    known = segmentation.folder / "calibration.json"
    known.write_text('{"lannunet_calibration": 1, "unit": "mm", "landmarks": {}}')
    for option in (("--spacing", 2), ("--calibration", known), ("--coverage", 0.9)):
        assert segmentation.lannunet("predict", segmentation.out, image, "-o", out, *option) == 2
        error = capsys.readouterr().err
        assert f"{option[0]}: has no meaning" in error
        assert "`task: segmentation`" in error
        assert not out.exists()
    assert segmentation.lannunet("predict", segmentation.out, image, "-o", out, "--tta") == 0


SABOTEUR = """
import os, signal
from lannunet_core import Plugin, hookimpl

class Saboteur(Plugin):
    steps = 0

    @hookimpl(wrapper=True)
    def generate_segmentation_labels(self):
        labels = yield
        self.steps += 1
        if self.steps == int(os.environ.get("KILL_AT", 0)):
            os.kill(os.getpid(), signal.SIGKILL)
        return labels
"""


def test_a_killed_run_goes_on_and_gives_what_an_uninterrupted_one_gives(segmentation_project, distribution):
    distribution("saboteur", {"saboteur": "saboteur:Saboteur"}, {"saboteur.py": SABOTEUR})
    whole, killed = (segmentation_project(name=name) for name in ("whole", "killed"))
    for project in (whole, killed):
        project.set(trainer={"plugins": ["sparse", "saboteur"]}, solver={"max_epochs": 3})
    assert whole.train() == 0
    assert killed.start("train", killed.yaml, KILL_AT="8").returncode == -signal.SIGKILL
    again = killed.start("train", killed.yaml, "--resume")
    assert again.returncode == 0, again.stderr
    assert "resumed from" in again.stdout
    assert predictions(killed) == predictions(whole)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"sampler": {"patch": {"sample_patch_size": [16, 16]}}}, "sampler.patch.sample_patch_size"),
        ({"preprocess": {"spacing": [1.0, 1.0]}}, "preprocess.spacing"),
        ({"preprocess": {"normalisation": ["zscore", "zscore"]}}, "preprocess.normalisation"),
        ({"preprocess": {"normalisation": ["ct"]}}, "preprocess.clip"),
        ({"inference": {"split": "validation"}}, "there are no validation cases"),
        ({"solver": {"loss_function": "kl"}}, "solver.loss_function"),
        ({"dataset": {"landmarks": [0]}}, "dataset.landmarks"),
        ({"sampler": {"data_aug": "thaler"}}, "sampler.data_aug"),
        ({"refine": {"inference": {"tta": True}}}, "refine.inference.tta"),
    ],
)
def test_what_is_wrong_in_the_yaml_is_said(segmentation, capsys, keys, said):
    segmentation.set(**keys)
    assert segmentation.train() == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert not segmentation.out.exists()


def test_a_plan_is_called_after_the_data_set(tmp_path, monkeypatch):
    task = SegmentationTask()
    stage = preprocessed(tmp_path / "Task001_Some")
    assert task.dataset_name(stage) == task.dataset_name(stage.parent) == "Task001_Some"
    monkeypatch.chdir(raw(tmp_path / "Dataset002_v2.1"))
    assert task.dataset_name(Path()) == task.dataset_name(Path("../Dataset002_v2.1")) == "Dataset002_v2.1"
    assert task.dataset_name(Path("nowhere")) == "nowhere"
