"""`lannunet evaluate` of label maps: two folders, a run against a data set, runs of a cross-validation."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_segmentation.evaluation.folders import pair_folders
from lannunet_segmentation.evaluation.metrics import case_metrics
from lannunet_segmentation.evaluation.pooled import write_postprocessing
from lannunet_segmentation.evaluation.report import measure

from benchmarks.monai_figures import draw
from lannunet_core import api, cli
from tests.fixtures.projects import draw_segmentation_project

pytestmark = pytest.mark.usefixtures("without_charts")

SPACING = (0.8, 1.1, 2.5)


def evaluate(*arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", *map(str, arguments)])
    return end.value.code or 0


def rows(folder):
    with (folder / "cases.csv").open(newline="") as file:
        return {(row["id"], row["class"]): row for row in csv.DictReader(file)}


def drawn(seed, size=(9, 11, 7)):
    labels = np.zeros(size, np.uint8)
    rng = np.random.default_rng(seed)
    for value in (1, 2):
        corner = [rng.integers(0, side - 4) for side in size]
        labels[tuple(slice(at, at + rng.integers(3, 5)) for at in corner)] = value
    return labels


def write(path, labels, spacing=SPACING, origin=(3.0, -2.0, 1.0), direction=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folders(tmp_path):
    """Three cases, predictions as NIfTI, annotations as MetaImage and NRRD."""
    for number, ending in enumerate((".mha", ".nrrd", ".mha")):
        write(tmp_path / "found" / f"case{number}.nii.gz", drawn(number))
        write(tmp_path / "truth" / f"case{number}{ending}", drawn(number + 10))
    return tmp_path / "found", tmp_path / "truth"


def test_figures_of_two_folders(folders, tmp_path, capsys):
    (folders[0] / "notes.txt").write_text("no label map")
    assert evaluate(*folders, "-o", tmp_path / "out") == 0
    table = rows(tmp_path / "out")
    assert len(table) == 6
    voxel = np.prod(SPACING)
    for number in range(3):
        found, truth = drawn(number), drawn(number + 10)
        for wanted in case_metrics(found.astype(np.int16), truth.astype(np.int16), SPACING, (1, 2)):
            row = table[f"case{number}", str(wanted.index)]
            assert float(row["dice"]) == pytest.approx(wanted.dice, abs=1e-4)
            assert float(row["hausdorff95_mm"]) == pytest.approx(wanted.hausdorff95, abs=1e-4)
            assert float(row["predicted_volume_mm3"]) == pytest.approx((found == wanted.index).sum() * voxel)
            assert float(row["target_volume_mm3"]) == pytest.approx((truth == wanted.index).sum() * voxel)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert "Dice" in capsys.readouterr().out
    assert "found against truth" in (tmp_path / "out" / "report.html").read_text()
    assert evaluate(*folders) == 0  # without a folder it only prints
    assert api.evaluate(*map(str, folders), task="segmentation") == summary


def test_names_of_classes_and_what_is_not_annotated(folders, tmp_path):
    declared = {
        "labels": {"background": 0, "liver": 1, "spleen": 2, "ignore": 3},
        "channel_names": {"0": "CT"},
    }
    (folders[1] / "dataset.json").write_text(json.dumps(declared))
    truth = drawn(10)
    truth[4:] = 3
    write(folders[1] / "case0.mha", truth)
    assert evaluate(*folders, "-o", tmp_path / "out") == 0
    table = rows(tmp_path / "out")
    assert {name for _, name in table} == {"liver", "spleen"}
    assert int(table["case0", "liver"]["target_voxels"]) == (truth == 1).sum()
    assert int(table["case0", "liver"]["compared_voxels"]) == (drawn(0)[:4] == 1).sum()


def test_what_is_on_one_side_only_is_said(folders, tmp_path, capsys):
    (folders[0] / "case0.nii.gz").rename(folders[0] / "other.nii.gz")
    assert evaluate(*folders, "-o", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert f"{folders[0]}: left out, as there is no annotation: other" in said
    assert f"{folders[1]}: left out, as there is no prediction: case0" in said
    assert {name for name, _ in rows(tmp_path / "out")} == {"case1", "case2"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": drawn(1, (9, 11, 8))}, "its size is 8×11×9"),
        ({"spacing": (0.8, 1.1, 2.0)}, "its spacing is 0.8×1.1×2"),
        ({"direction": (-1, 0, 0, 0, 1, 0, 0, 0, 1)}, "its direction is"),
        ({"origin": (300.0, -2.0, 1.0)}, "does not overlap it"),
        ({"labels": drawn(1).astype(np.float32) + 0.5}, "is no integer"),
    ],
)
def test_label_maps_on_other_grids_are_refused(folders, tmp_path, capsys, change, said):
    write(folders[0] / "case1.nii.gz", **{"labels": drawn(1), **change})
    assert evaluate(*folders, "-o", tmp_path / "out") == 2
    printed = capsys.readouterr().err
    assert said in printed and "case1.nii.gz" in printed
    assert not (tmp_path / "out" / "cases.csv").exists()


def test_a_shift_is_said(folders, capsys):
    write(folders[0] / "case1.nii.gz", drawn(1), origin=(4.0, -2.0, 1.0))
    assert evaluate(*folders) == 0
    assert "lies 1 mm away" in capsys.readouterr().err


def test_spacing_is_the_annotations_where_predictions_hold_none(folders, tmp_path):
    for number in range(3):
        (folders[0] / f"case{number}.nii.gz").unlink()
        np.save(folders[0] / f"case{number}.npy", drawn(number))
    assert evaluate(*folders, "-o", tmp_path / "out") == 0
    table = rows(tmp_path / "out")
    for number in range(3):
        found, truth = (drawn(seed).astype(np.int16) for seed in (number, number + 10))
        for wanted in case_metrics(found, truth, SPACING, (1, 2)):
            row = table[f"case{number}", str(wanted.index)]
            assert float(row["hausdorff95_mm"]) == pytest.approx(wanted.hausdorff95, abs=1e-4)


def test_what_predict_writes_beside_a_label_map_is_no_further_case(folders, tmp_path):
    assert evaluate(*folders, "-o", tmp_path / "plain") == 0
    (folders[0] / "case0.dcm").write_bytes(b"\0" * 128 + b"DICM")
    np.savez(folders[0] / "case0.npz", probabilities=np.zeros(3))
    assert evaluate(*folders, "-o", tmp_path / "out") == 0
    assert rows(tmp_path / "out") == rows(tmp_path / "plain")


def test_a_label_beyond_all_classes_is_one_sentence(folders, capsys):
    """Without a `dataset.json` every number up to 32767 is a class."""
    write(folders[1] / "case0.mha", drawn(3).astype(np.int32) * 30000)
    assert evaluate(*folders) == 2
    said = capsys.readouterr().err
    assert "holds the label 60000" in said and len(said) < 2000


def test_wrong_folders(folders, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ((tmp_path / "empty", folders[1]), "holds no label map"),
        ((*folders, "-o", folders[0]), "Name another folder"),
        ((*folders, "--radii", "2"), "--radii: has no meaning"),
        (folders[:1], "give predictions and their annotations"),
        (("--runs", tmp_path), "is not the folder of a run"),
    ):
        assert evaluate(*arguments) == 2
        assert said in capsys.readouterr().err
    for path in folders[0].iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    assert evaluate(*folders) == 2
    assert "none of its 3 label maps is called as one of" in capsys.readouterr().err


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Two folds that were trained, of the five cases."""
    project = draw_segmentation_project(tmp_path_factory.mktemp("crossed"), spacing=(1.0, 1.0, 2.0))
    cases = [f"Tr{number}" for number in range(5)]
    splits = [{"train": cases[:3], "val": cases[3:]}, {"train": cases[3:], "val": cases[:3]}]
    (project.raw / "splits_final.json").write_text(json.dumps(splits))
    project.set(solver={"max_epochs": 2, "mini_batch_size": 4}, inference={"split": "validation"})
    assert project.train("--folds", "0,1") == 0
    return project


def test_the_runs_of_a_cross_validation(crossed, tmp_path, capsys):
    """Each case occurs once, with the metrics of its run; runs are named one by one, or by their folder."""
    folds = [crossed.out / f"fold{number}" for number in range(2)]
    for number, runs in enumerate((folds, [crossed.out])):
        assert evaluate("--runs", *runs, "-o", tmp_path / str(number)) == 0
        assert rows(tmp_path / str(number)) == {**rows(folds[0]), **rows(folds[1])}
    summary = json.loads((tmp_path / "0" / "summary.json").read_text())
    assert summary["cases"] == summary["evaluated"] == 5
    capsys.readouterr()
    assert evaluate("--runs", folds[0], folds[0]) == 2
    assert "was segmented by" in capsys.readouterr().err


def test_a_run_against_its_data_set(crossed, tmp_path):
    """The metrics of the run, whether labels are named by their folder or by that of the data set."""
    run = crossed.out / "fold0"
    for number, truth in enumerate((crossed.raw, crossed.raw / "labelsTr")):
        for predictions in (run, run / "predictions"):
            out = tmp_path / f"{number}{predictions.name}"
            assert evaluate(predictions, truth, "-o", out) == 0
            assert rows(out) == rows(run)


def test_a_missing_prediction_of_a_run(crossed, tmp_path, capsys):
    shutil.copytree(crossed.out / "fold0", tmp_path / "fold0")
    (tmp_path / "fold0" / "predictions" / "Tr3.nii.gz").unlink()
    assert evaluate("--runs", tmp_path / "fold0") == 2
    assert "Tr3.nii.gz: is missing" in capsys.readouterr().err


def test_the_figures_are_those_of_monai(tmp_path):
    """20 pairs of anisotropic label maps; see `benchmarks/monai_figures.py`, which wrote MONAI's figures."""
    given = json.loads(Path(__file__).with_name("monai.json").read_text())["cases"]
    assert len(given) == 20
    for one in given:
        predicted, target, spacing = draw(one["seed"])
        write(tmp_path / "found" / f"{one['seed']}.mha", predicted, spacing)
        write(tmp_path / "truth" / f"{one['seed']}.nrrd", target, spacing)
    dataset, cases = pair_folders(tmp_path / "found", tmp_path / "truth")
    measured = {case.id: measure(case, dataset).metrics for case in cases}
    summary = api.evaluate(tmp_path / "found", tmp_path / "truth", task="segmentation")
    for one in given:
        metrics = measured[str(one["seed"])]
        np.testing.assert_allclose([m.dice for m in metrics], one["dice"], rtol=1e-6)
        np.testing.assert_allclose([m.hausdorff95 for m in metrics], one["hausdorff95"], rtol=1e-6)
        np.testing.assert_allclose(list(summary["dice"][str(one["seed"])].values()), one["dice"], rtol=1e-6)


def test_largest_components_are_kept_of_the_classes_that_they_help(tmp_path):
    """Class 1 has a stray predicted part, class 2 two annotated parts, and class 3 is absent."""
    target = np.zeros((6, 10, 10), np.uint8)
    target[1:4, 1:4, 1:4], target[1:4, 6:9, 1:4], target[1:3, 1:4, 6:9] = 1, 2, 2
    found = target.copy()
    found[5, 9, 9] = 1
    for name, labels in (("found", found), ("truth", target)):
        write(tmp_path / name / "a.mha", labels)
    declared = {"labels": {"background": 0, "stray": 1, "parts": 2, "none": 3}, "channel_names": {"0": "CT"}}
    (tmp_path / "truth" / "dataset.json").write_text(json.dumps(declared))
    dataset, cases = pair_folders(tmp_path / "found", tmp_path / "truth")
    told = write_postprocessing(tmp_path, cases, dataset)
    assert told["largest_component"] == ["stray"]
    assert told["mean_dice"] == {"stray": pytest.approx(54 / 55), "parts": 1.0, "none": None}
    assert told["mean_dice_of_largest_component"]["parts"] == pytest.approx(54 / 72)
    assert json.loads((tmp_path / "postprocessing.json").read_text()) == told


def test_means_with_and_without_the_largest_component_are_of_the_same_cases(tmp_path):
    """In the first case the largest component is where nothing is annotated, so that none is left to compare.

    In the second it is worse than all components: it alone decides.
    """
    nothing = np.zeros((6, 10, 10), np.uint8)
    hidden, stray = nothing.copy(), nothing.copy()
    hidden[3:] = 2
    stray[4:6, 1:6, 1:6] = stray[0, 0, 0] = 1
    target = nothing.copy()
    target[1:3, 1:4, 1:4] = target[5, 9, 9] = 1
    found = target.copy()
    found[1, 1, 1] = 0
    for name, predicted, annotated in (("a", stray, hidden), ("b", found, target)):
        write(tmp_path / "found" / f"{name}.mha", predicted)
        write(tmp_path / "truth" / f"{name}.mha", annotated)
    declared = {"labels": {"background": 0, "a": 1, "ignore": 2}, "channel_names": {"0": "CT"}}
    (tmp_path / "truth" / "dataset.json").write_text(json.dumps(declared))
    dataset, cases = pair_folders(tmp_path / "found", tmp_path / "truth")
    told = write_postprocessing(tmp_path, cases, dataset)
    assert told["largest_component"] == []
    assert told["mean_dice"]["a"] == pytest.approx(36 / 37)
    assert told["mean_dice_of_largest_component"]["a"] == pytest.approx(34 / 36)
