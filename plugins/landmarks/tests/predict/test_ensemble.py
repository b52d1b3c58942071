"""Several models together: the three methods by hand, and from the command line."""

import csv
import json
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings, strategies as st
from lannunet_landmarks.maps.decode import decode_peak
from lannunet_landmarks.maps.labels import gaussian_heatmaps
from lannunet_landmarks.predict.ensemble import combined
from lannunet_landmarks.predict.predictor import Located
from openpyxl import load_workbook

from lannunet_core.hookspecs import Coordinates
from lannunet_core.run import checkpoint

MODE = "scale_pred_coords"


def decoded(maps, batch, mode):
    return decode_peak(maps, batch["affine"], batch["original_size"], mode)


def answering(points, confidence, maps=(), present=None):
    """A member that returns the same for every batch."""
    found = Coordinates(torch.tensor(points), torch.tensor(confidence))
    return lambda batch, mode: Located(maps, {"net": found}, present)


def radius(batch):
    """Members that are 100 pixels apart disagree."""
    return torch.full((len(batch["image"]),), 100.0, dtype=torch.float64)


def a_batch(size=(20, 16), images=1):
    affine = torch.eye(3, dtype=torch.float64).repeat(images, 1, 1)
    image = torch.zeros(images, 1, *size[::-1])
    return {"image": image, "affine": affine, "original_size": torch.tensor([size] * images)}


def test_mean_coordinate_and_its_covariance():
    rng = np.random.default_rng(0)
    points, confidence = rng.normal(10, 3, (5, 2, 3, 2)), rng.uniform(size=(5, 2, 3))
    members = [answering(p, c) for p, c in zip(points, confidence, strict=True)]
    located = combined(members, decoded, radius)(a_batch(images=2), MODE)
    assert list(located.methods) == ["E-CPV", "most-confident"]  # without maps there is no mean map
    found = located.methods["E-CPV"]
    np.testing.assert_allclose(found.points, points.mean(0))
    away = np.linalg.norm(points - points.mean(0), axis=-1)
    np.testing.assert_allclose(found.confidence, (confidence * (1 - away / 100)).mean(0))
    for image in range(2):
        for landmark in range(3):
            expected = np.cov(points[:, image, landmark].T)
            np.testing.assert_allclose(found.covariance[image, landmark], expected)


def test_most_confident_member():
    points = np.arange(12.0).reshape(3, 1, 2, 2)
    confidence = np.array([[[0.2, 0.9]], [[0.7, 0.1]], [[0.5, 0.8]]])
    members = [answering(p, c) for p, c in zip(points, confidence, strict=True)]
    found = combined(members, decoded, radius)(a_batch(), MODE).methods["most-confident"]
    assert found.points[0].tolist() == [points[1, 0, 0].tolist(), points[0, 0, 1].tolist()]
    away = np.linalg.norm(points - found.points.numpy(), axis=-1)
    np.testing.assert_allclose(found.confidence, (confidence * (1 - away / 100)).mean(0))


def test_mean_map():
    """The peak of three overlapping Gaussians lies between them, where no member has its peak."""
    size, centres = (32, 24), [[10.0, 12.0], [12.0, 12.0], [11.0, 14.0]]
    state = torch.zeros(1, 1, dtype=torch.long)
    maps = [
        gaussian_heatmaps(torch.tensor([[c]]), state, torch.full((1, 1), 3.0), size, [size], 0.9)[0]
        for c in centres
    ]
    members = [answering([[c]], [[0.9]], m) for c, m in zip(centres, maps, strict=True)]
    batch = a_batch(size)
    located = combined(members, decoded, radius)(batch, MODE)
    mean = np.mean([m.numpy() for m in maps], axis=0)
    np.testing.assert_allclose(located.maps, mean, rtol=1e-6)
    expected = decode_peak(torch.from_numpy(mean), batch["affine"], batch["original_size"], MODE)
    found = located.methods["E-MHA"]
    np.testing.assert_allclose(found.points, expected.points, atol=1e-5)
    np.testing.assert_allclose(found.points[0, 0], np.mean(centres, 0), atol=0.1)


@pytest.mark.parametrize(
    "maps",
    [
        [torch.ones(1, 1, 16, 20), []],
        [torch.ones(1, 1, 16, 20), torch.ones(1, 1, 8, 10)],
        [torch.ones(1, 1, 7, 9)] * 2,  # no whole fraction of the image
        [torch.ones(1, 2, 16, 20)] * 2,  # not one per landmark
    ],
)
def test_maps_of_another_kind_have_no_mean(maps):
    members = [answering([[[1.0, 2.0]]], [[0.5]], m) for m in maps]
    located = combined(members, decoded, radius)(a_batch(), MODE)
    assert "E-MHA" not in located.methods
    assert located.maps == []


def test_coarse_maps_have_a_mean_too():
    members = [answering([[[1.0, 2.0]]], [[0.5]], torch.full((1, 1, 8, 10), value)) for value in (0.0, 0.5)]
    located = combined(members, decoded, radius)(a_batch(), MODE)
    assert torch.equal(located.maps, torch.full((1, 1, 8, 10), 0.25))
    assert "E-MHA" in located.methods


def test_who_found_nothing_has_no_part():
    nan = np.nan
    points = np.array([[[[1.0, 2.0], [nan, nan], [nan, nan]]], [[[3.0, 2.0], [5.0, 6.0], [nan, nan]]]])
    confidence = np.array([[[0.4, 0.0, 0.0]], [[0.6, 0.8, 0.0]]])
    members = [answering(p, c) for p, c in zip(points, confidence, strict=True)]
    methods = combined(members, decoded, radius)(a_batch(), MODE).methods
    np.testing.assert_array_equal(methods["E-CPV"].points[0], [[2, 2], [5, 6], [nan, nan]])
    np.testing.assert_array_equal(methods["most-confident"].points[0], [[3, 2], [5, 6], [nan, nan]])
    np.testing.assert_allclose(methods["E-CPV"].confidence[0], [0.99 * 0.5, 0.4, 0])
    covariance = methods["E-CPV"].covariance[0]
    np.testing.assert_array_equal(covariance[0], [[2, 0], [0, 0]])
    assert covariance[1:].isnan().all()


@pytest.mark.parametrize("dimensions", [2, 3])
@settings(deadline=None)
@given(confidence=st.tuples(st.floats(0, 1), st.floats(0, 1)), apart=st.floats(1, 50))
def test_two_that_are_apart_never_give_more_than_half(dimensions, confidence, apart):
    """The worst confident points were the midpoints of members that disagree."""
    shape = (1, 1, dimensions)
    there = np.full(shape, 100 * apart / dimensions**0.5)
    members = [answering(p, [[c]]) for p, c in zip((np.zeros(shape), there), confidence, strict=True)]
    for found in combined(members, decoded, radius)(a_batch(), MODE).methods.values():
        assert found.confidence.item() <= 0.5 + 1e-9


def test_three_of_which_one_is_lost_are_less_certain_than_two():
    points = np.array([[[[10.0, 10.0]]], [[[11.0, 10.0]]], [[[400.0, 10.0]]]])
    members = [answering(p, [[0.9]]) for p in points]
    two, three = (
        combined(members[:n], decoded, radius)(a_batch(), MODE).main.confidence.item() for n in (2, 3)
    )
    assert three < 0.1 < 0.85 < two


def test_members_vote_on_presence():
    points = np.array([[[[1.0, 1.0]] * 3], [[[3.0, 3.0]] * 3], [[[8.0, 8.0]] * 3]])
    votes = torch.tensor([[[True, True, False]], [[True, False, False]], [[False, False, False]]])
    members = [answering(p, np.full((1, 3), 0.5), present=v) for p, v in zip(points, votes, strict=True)]
    located = combined(members, decoded, radius)(a_batch(), MODE)
    assert located.present.tolist() == [[True, False, False]]
    assert located.methods["E-CPV"].points[0, 0].tolist() == [2.0, 2.0]  # of the members that find it
    assert combined(members[:2], decoded, radius)(a_batch(), MODE).present.tolist() == [[True, True, False]]


# --- from the command line


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def column(rows, *names):
    return np.array([[float(row[name]) for name in names] for row in rows])


@pytest.fixture(scope="module")
def five(project_in, tmp_path_factory):
    """Five models of a data set, and 20 images."""
    project = project_in(
        tmp_path_factory.mktemp("ensemble") / "project",
        splits={"training": 4, "validation": 2, "testing": 20},
    )
    project.set(solver={"max_epochs": 1})
    models = []
    for seed in range(5):
        folder = project.folder / f"seed{seed}"
        assert project.train("--set", f"solver.seed={seed}", "--set", f"output.output_dir={folder}") == 0
        models.append(folder)
    return project, models


def test_five_models_predict_together_and_each_is_read_once(five, monkeypatch, tmp_path):
    project, models = five
    images = [project.folder / sample["image"] for sample in project.annotations["testing"]]
    singles = []
    for model in models:
        assert project.lannunet("predict", model, *images, "-o", tmp_path / model.name) == 0
        singles.append(table(tmp_path / model.name / "predictions.csv"))

    reads: Counter[str] = Counter()
    read = checkpoint.read_safetensors

    def counted(path):
        reads[str(path)] += 1
        return read(path)

    monkeypatch.setattr(checkpoint, "read_safetensors", counted)
    also = [word for model in models[1:] for word in ("--also", model)]
    assert project.lannunet("predict", models[0], *images, "-o", tmp_path / "all", *also) == 0
    files = [str(model / "checkpoints" / "best.safetensors") for model in models]
    assert reads == dict.fromkeys(files, 1) | {files[0]: 2}  # the first one is asked for its task too

    points = np.array([column(rows, "x", "y") for rows in singles])  # (5, 40, 2)
    confidence = np.array([column(rows, "confidence")[:, 0] for rows in singles])
    reach = 3 * 2.0 * 64 / 32  # three widths of the labels, in pixels of the images
    main = table(tmp_path / "all" / "predictions.csv")
    np.testing.assert_allclose(column(main, "x", "y"), points.mean(0), atol=2e-3)
    share = np.clip(1 - np.linalg.norm(points - points.mean(0), axis=-1) / reach, 0, None)
    np.testing.assert_allclose(column(main, "confidence")[:, 0], (confidence * share).mean(0), atol=2e-3)
    spread = np.sqrt(points.var(0, ddof=1).sum(-1))
    np.testing.assert_allclose(column(main, "uncertainty_px")[:, 0], spread, atol=5e-3)
    best = table(tmp_path / "all" / "methods" / "most-confident.csv")
    most_certain = confidence == confidence.max(0)  # several, if they are equal in the digits of the table
    its_own = (points == column(best, "x", "y")).all(-1)
    assert (most_certain & its_own).any(0).all()
    assert (~most_certain & ~its_own).any(0).all()
    assert len(table(tmp_path / "all" / "methods" / "E-MHA.csv")) == 40
    described = json.loads((tmp_path / "all" / "run.json").read_text())
    assert described["also"] == [model.name for model in models[1:]]


def test_the_folds_of_a_cross_validation(five, tmp_path):
    project, models = five
    for number, model in enumerate(models[:2]):
        shutil.copytree(model, tmp_path / "cv" / f"fold{number}")
    image = project.folder / project.annotations["testing"][0]["image"]
    assert project.lannunet("predict", tmp_path / "cv", image, "-o", tmp_path / "a") == 0
    assert project.lannunet("predict", models[0], image, "-o", tmp_path / "b", "--also", models[1]) == 0
    assert table(tmp_path / "a" / "predictions.csv") == table(tmp_path / "b" / "predictions.csv")

    project.write()
    evaluate = ("--set", "inference.ensemble_inference=true", "--set", "trainer.inference_only=true")
    where = ("--set", f"output.output_dir={tmp_path / 'cv'}", "--set", "output.xlsx=true")
    assert project.lannunet("train", project.yaml, *evaluate, *where) == 0
    rows = table(tmp_path / "cv" / "predictions.csv")
    loose = table(tmp_path / "a" / "predictions.csv")
    np.testing.assert_allclose(column(rows[:2], "x", "y"), column(loose, "x", "y"), atol=2e-3)

    # Each method has its table, sheet and row in the report.
    summary = json.loads((tmp_path / "cv" / "summary.json").read_text())
    assert summary["method"] == "E-CPV"
    for name in ("most-confident", "E-MHA"):
        errors = column(table(tmp_path / "cv" / "methods" / f"{name}.csv"), "error_px")
        assert summary["methods"][name]["overall"]["px"]["mean"] == pytest.approx(errors.mean(), abs=1e-3)
        assert name in (tmp_path / "cv" / "report.html").read_text()
    sheets = load_workbook(tmp_path / "cv" / "predictions.xlsx").sheetnames
    assert sheets == ["E-CPV", "E-MHA", "most-confident"]
    # The folds are not replaced.
    assert project.lannunet("train", project.yaml, *evaluate, *where, "--overwrite") == 0
    assert table(tmp_path / "cv" / "predictions.csv") == rows
    resolved = yaml.safe_load((tmp_path / "cv" / "config.yaml").read_text())
    folds = [
        str(tmp_path / "cv" / f"fold{number}" / "checkpoints" / "best.safetensors") for number in range(2)
    ]
    assert resolved["model"]["checkpoint"] == folds[0]
    assert resolved["inference"]["ensemble_checkpoints"] == folds[1:]


def test_a_run_joins_the_models_it_names(five, tmp_path):
    project, models = five
    project.write()
    together = ("inference.ensemble_inference=true", f"inference.ensemble_checkpoints=[{models[1]}]")
    settings = (*together, f"output.output_dir={tmp_path / 'out'}")
    assert project.lannunet("train", project.yaml, *(word for s in settings for word in ("--set", s))) == 0
    points = [column(table(model / "predictions.csv"), "x", "y") for model in models[:2]]
    rows = table(tmp_path / "out" / "predictions.csv")
    np.testing.assert_allclose(column(rows, "x", "y"), np.mean(points, 0), atol=2e-3)


def test_images_that_a_member_was_trained_on_are_told(five, capsys, tmp_path):
    project, models = five
    content = json.loads(json.dumps(project.annotations))
    content["testing"][0]["image"] = content["training"][0]["image"]
    leaky = project.folder / "leaky.json"
    leaky.write_text(json.dumps(content))
    project.write()
    for data, told in ((leaky, models[:2]), (project.json, [])):
        settings = (
            "trainer.inference_only=true",
            "inference.ensemble_inference=true",
            f"inference.ensemble_checkpoints=[{models[0]}, {models[1]}]",
            f"dataset.src_targets={data}",
            f"output.output_dir={tmp_path / data.stem}",
        )
        words = [word for setting in settings for word in ("--set", setting)]
        assert project.lannunet("train", project.yaml, *words) == 0
        said = capsys.readouterr().err
        for model in models:
            assert (f"warning: {model}: was trained on 1 of the 20 testing images" in said) == (model in told)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"inference": {"ensemble_inference": True}}, "has no folds (fold0, fold1 …)"),
        (
            {"inference": {"ensemble_inference": True, "ensemble_checkpoints": ["none.pt"]}},
            "none.pt is not a model file or a run's folder",
        ),
        (
            {"inference": {"ensemble_checkpoints": ["a.pt"]}},
            "inference.ensemble_checkpoints: is only read with inference.ensemble_inference: true",
        ),
    ],
)
def test_impossible_ensembles_are_refused(project, capsys, sections, message):
    project.set(**sections)
    project.write()
    for command in (("train",), ("config", "check")):
        assert project.lannunet(*command, project.yaml) == 2
        assert message in capsys.readouterr().err
    assert not project.out.exists()


def test_models_of_other_images_are_refused(five, capsys, tmp_path):
    project, models = five
    other = tmp_path / "other"
    options = ("sampler.input_size=[48, 48]", "solver.max_epochs=1", f"output.output_dir={other}")
    project.write()
    assert project.lannunet("train", project.yaml, *(word for o in options for word in ("--set", o))) == 0
    image = project.folder / project.annotations["testing"][0]["image"]
    assert project.lannunet("predict", models[0], image, "-o", tmp_path / "o", "--also", other) == 2
    assert f"{other}: its image size is (48, 48), the others' (32, 32)" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_members_are_not_overwritten(five, capsys, tmp_path):
    project, models = five
    shutil.copytree(models[1], tmp_path / "one")
    before = sorted(tmp_path.rglob("*"))
    settings = (
        "inference.ensemble_inference=true",
        f"inference.ensemble_checkpoints=[{tmp_path / 'one'}]",
        f"output.output_dir={tmp_path / 'one'}",
    )
    project.write()
    words = [word for setting in settings for word in ("--set", setting)]
    assert project.lannunet("train", project.yaml, "--overwrite", *words) == 2
    assert f"inference.ensemble_checkpoints: {tmp_path / 'one'} is in" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
