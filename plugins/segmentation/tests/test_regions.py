"""Nested regions, and classes that some cases lack: from dataset.json to the results."""

import csv
import json

import lannunet
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.evaluation.metrics import case_metrics
from lannunet_segmentation.regions import painted

from benchmarks import one_of_three
from tests.fixtures.nnunet import redeclare

REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing": 3}


def rows(project):
    with (project.out / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def nested(project, ignore=False):
    """Blobs in blobs: each label map gets three rings, brighter inwards, as tumours of BraTS have."""
    rng = np.random.default_rng(0)
    for part in ("Tr", "Ts"):
        for path in sorted((project.raw / f"labels{part}").iterdir()):
            image = sitk.ReadImage(str(path))
            shape = image.GetSize()[::-1]
            centre = rng.uniform(0.4, 0.6, len(shape)) * shape
            grid = np.moveaxis(np.indices(shape), 0, -1)
            far = np.sqrt((((grid - centre) / (0.36 * np.array(shape))) ** 2).sum(-1))
            label = (far < 1).astype(np.uint8) + (far < 0.72) + (far < 0.45)
            pixels = rng.normal(60, 6, shape) + 50 * label
            if ignore and part == "Tr":
                label[::3] = 4
            for kind, array, channel in (("labels", label, ""), ("images", pixels.clip(0, 255), "_0000")):
                written = sitk.GetImageFromArray(array.astype(np.uint8))
                written.CopyInformation(image)
                name = path.name.replace(".", f"{channel}.", 1)
                sitk.WriteImage(written, str(project.raw / f"{kind}{part}" / name))
    labels = {**REGIONS, "ignore": 4} if ignore else REGIONS
    redeclare(project.raw, labels=labels, regions_class_order=[1, 2, 3])


@pytest.mark.parametrize("ignore", [pytest.param(False, marks=pytest.mark.slow), True])
def test_nested_regions_train_and_are_evaluated_one_by_one(segmentation_project, ignore, capsys):
    project = segmentation_project(size=(48, 40), ending=".png", patch=(48, 40))
    nested(project, ignore)
    project.set(solver={"max_epochs": 7, "mini_batch_size": 20, "base_lr": 0.01})
    project.set(sampler={"data_aug": "None"})
    assert project.train() == 0
    found = rows(project)
    assert [row["class"] for row in found] == 2 * ["whole tumor", "tumor core", "enhancing"]
    assert min(float(row["dice"]) for row in found) > 0.75
    dataset = read_dataset(project.raw)
    for case in dataset.testing:
        predicted, target = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.int16)
            for path in (project.out / "predictions" / case.label.name, case.label)
        )
        assert set(np.unique(predicted)) <= {0, 1, 2, 3}
        for row, values in zip(
            [row for row in found if row["id"] == case.id], [(1, 2, 3), (2, 3), (3,)], strict=True
        ):
            p, t = np.isin(predicted, values), np.isin(target, values)
            assert float(row["dice"]) == pytest.approx(2 * (p & t).sum() / (p.sum() + t.sum()), abs=1e-4)
            assert float(row["hausdorff95_px"]) < 10 and int(row["target_voxels"]) == t.sum()
    model = lannunet.load(project.out)
    image = dataset.testing[0].images[0]
    (answer,) = model.predict([image], probabilities=True)
    assert answer.probabilities.shape == (3, 40, 48) and len(answer.regions) == 3
    target = sitk.GetArrayFromImage(sitk.ReadImage(str(dataset.testing[0].label)))
    summary = lannunet.evaluate([answer], [target])
    assert list(summary["per_class"]) == ["whole tumor", "tumor core", "enhancing"]
    written = sitk.GetArrayFromImage(
        sitk.ReadImage(str(project.out / "predictions" / dataset.testing[0].label.name))
    )
    np.testing.assert_array_equal(answer.labels, written)
    if ignore:
        return
    out = project.folder / "predicted"
    assert project.lannunet("predict", project.out, image, "-o", out, "--save-probabilities") == 0
    (archive,) = out.glob("*.npz")
    kept = np.load(archive)["probabilities"]
    np.testing.assert_allclose(kept, answer.probabilities, atol=1e-3)
    for labels in (project.raw / "labelsTs", project.raw):  # with dataset.json beside it, and by itself
        capsys.readouterr()
        assert project.lannunet("evaluate", out, labels) == 0
        assert "tumor core" in capsys.readouterr().out
    assert project.lannunet("predict", project.out, image, "-o", out, "--overwrite", "--postprocess") == 2
    assert "is for classes" in capsys.readouterr().err


def test_a_model_of_regions_is_none_of_classes(segmentation, capsys):
    assert segmentation.train() == 0
    redeclare(
        segmentation.raw, labels={"a": [1, 2, 3], "b": [2, 3], "c": [3]}, regions_class_order=[1, 2, 3]
    )  # as many
    model = segmentation.out / "checkpoints" / "best.safetensors"
    segmentation.set(model={"checkpoint": str(model)}, trainer={"inference_only": True})
    segmentation.set(output={"output_dir": "again"})
    capsys.readouterr()
    assert segmentation.train() == 2
    assert "regions" in capsys.readouterr().err


def test_a_region_is_written_over_those_before_it():
    maps = torch.tensor([[0.9, 0.9, 0.9, 0.1, 0.5], [0.2, 0.9, 0.9, 0.2, 0.5], [0.1, 0.1, 0.8, 0.7, 0.5]])
    assert painted(maps, [(1, 2, 3), (2, 3), (3,)]).tolist() == [1, 2, 3, 3, 0]


def test_regions_are_compared_as_unions():
    rng = np.random.default_rng(0)
    predicted, target = rng.integers(0, 4, (2, 9, 8, 7)).astype(np.int16)
    (union,) = case_metrics(predicted, target, (1, 1, 2), [(1, 3)])
    as_one = [np.isin(labels, (1, 3)).astype(np.int16) for labels in (predicted, target)]
    (single,) = case_metrics(*as_one, (1, 1, 2), [1])
    assert union == single


# --- classes that some cases lack ----------------------------------------------------


def test_what_a_case_lacks_is_left_out_of_the_evaluation_with_words(segmentation, capsys):
    segmentation.relabel(lambda label, number: np.where(label == 1 + number % 2, label, 0))
    lacking = {f"Tr{n}": [("bright", "dark")[n % 2]] for n in range(5)}
    redeclare(segmentation.raw, annotated={**lacking, "Ts1": ["dark"]})
    segmentation.set(trainer={"fold": 0})
    assert segmentation.train() == 0
    printed = capsys.readouterr().out
    assert "annotated, of 4 training cases: bright in" in printed
    assert "not annotated, so not evaluated, in some of 2 cases: bright in 1" in printed
    states = {(row["id"], row["class"]): row for row in rows(segmentation)}
    left_out = states["Ts1", "bright"]
    assert left_out["state"] == "unannotated" and left_out["dice"] == left_out["target_voxels"] == ""
    assert states["Ts1", "dark"]["state"] != "unannotated"
    summary = json.loads((segmentation.out / "summary.json").read_text())
    assert summary["per_class"]["bright"]["counts"]["unannotated"] == 1
    assert summary["dice"]["Ts1"]["bright"] is None
    assert "unannotated" in (segmentation.out / "report.html").read_text()


@pytest.mark.parametrize(
    ("annotated", "said"),
    [
        ({"Tr1": ["bright"]}, ("does not list dark for the case Tr1", "has voxels of it")),
        (
            {f"Tr{n}": ["bright"] for n in range(5)},
            ("dark is not annotated in any training case",),
        ),
    ],
)
def test_labels_that_contradict_annotated_are_refused(segmentation, capsys, annotated, said):
    if len(annotated) == 5:
        segmentation.relabel(lambda label, number: np.where(label == 1, label, 0))
    redeclare(segmentation.raw, annotated=annotated)
    assert segmentation.train() == 2
    printed = capsys.readouterr().err
    assert all(part in " ".join(printed.split()) for part in said)


@pytest.mark.slow
def test_three_organs_are_learned_where_each_case_has_one_of_them(tmp_path):
    """The Dice of each organ is within .05 of that with full annotation."""
    one_of_three.main(["--folder", str(tmp_path)])
    found = []
    for arm in one_of_three.ARMS:
        summary = json.loads((tmp_path / f"{arm}-0" / "summary.json").read_text())
        found.append({name: block["dice"]["mean"] for name, block in summary["per_class"].items()})
    every, one = found
    assert min(every.values()) > 0.8
    assert all(one[name] > every[name] - 0.05 for name in one_of_three.ORGANS), found
