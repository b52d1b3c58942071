"""Ensembles of models in two stages: the first stages, then the second stages around their points."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_landmarks.maps.decode import decode_peak
from lannunet_landmarks.predict.patchwise import coordinates_around
from lannunet_landmarks.predict.predictor import Located
from lannunet_landmarks.predict.prior import CentrePrior
from lannunet_landmarks.predict.views import mirrored
from lannunet_report import page

from lannunet_core.api import load

REFINE = {"sampler": {"patch": {"sample_patch_size": [32, 32], "jitter": 3.0}}, "solver": {"max_epochs": 1}}


@pytest.fixture(scope="module", autouse=True)
def no_charts():
    """Like `without_pictures`, for models that are trained once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "_svg", lambda figure, salt: "")
        yield


@pytest.fixture(scope="module")
def pair(no_charts, project_in, tmp_path_factory):
    """Two models in two stages, as the folds of a cross-validation lie."""
    project = project_in(
        tmp_path_factory.mktemp("stages") / "project",
        sizes=((96, 80), (70, 100)),
        splits={"training": 4, "validation": 2, "testing": 3},
    )
    project.set(refine=REFINE, solver={"max_epochs": 1}, sampler={"data_aug": "AffineSimple"})
    models = [project.folder / "cv" / f"fold{seed}" for seed in range(2)]
    for seed, model in enumerate(models):
        assert project.train("--set", f"solver.seed={seed}", "--set", f"output.output_dir={model}") == 0
    return project, models


def images_of(project):
    return [project.folder / sample["image"] for sample in project.annotations["testing"]]


def column(path, *names):
    with path.open(newline="") as file:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])


def words(*settings):
    return [word for setting in settings for word in ("--set", setting)]


@pytest.fixture(scope="module")
def expected(pair, tmp_path_factory):
    """The points of each second stage, as in a separate run around the mean of the first stages' points."""
    project, models = pair
    folder = tmp_path_factory.mktemp("alone")
    coarse = np.mean([column(model / "predictions.csv", "x", "y") for model in models], axis=0)
    with (models[0] / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    centres = folder / "centres.csv"
    with centres.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | {"x": str(x), "y": str(y)} for row, (x, y) in zip(rows, coarse, strict=True))
    found = []
    for number, model in enumerate(models):
        out = folder / str(number)
        changes = (
            "trainer.inference_only=true",
            f"model.checkpoint={model / 'refine'}",
            f"sampler.patch.centres={centres}",
            f"output.output_dir={out}",
        )
        assert project.lannunet("train", model / "refine" / "config.yaml", *words(*changes)) == 0
        found.append(column(out / "predictions.csv", "x", "y"))
    return np.array(found)


def test_folds_and_further_models_predict_in_both_stages(pair, expected, tmp_path):
    project, models = pair
    images = images_of(project)
    assert project.lannunet("predict", project.folder / "cv", *images, "-o", tmp_path / "a") == 0
    one, other = models[0] / "checkpoints" / "best.safetensors", models[1]
    assert project.lannunet("predict", one, *images, "-o", tmp_path / "b", "--also", other) == 0
    found = column(tmp_path / "a" / "predictions.csv", "x", "y", "uncertainty_px")
    np.testing.assert_array_equal(
        found, column(tmp_path / "b" / "predictions.csv", "x", "y", "uncertainty_px")
    )
    np.testing.assert_allclose(found[:, :2], expected.mean(0), atol=0.01)  # centres had three decimals
    spread = np.sqrt(expected.var(0, ddof=1).sum(-1))
    np.testing.assert_allclose(found[:, 2], spread, atol=0.01)
    assert np.isfinite(column(tmp_path / "a" / "methods" / "E-MHA.csv", "x", "y")).all()
    model = load(models[0], also=[models[1]])
    points = [one.points for one in model.predict(images)]
    np.testing.assert_allclose(np.concatenate(points), found[:, :2], atol=2e-3)
    # Its second stage is not replaced.
    again = ("-o", models[0] / "refine", "--overwrite")
    assert project.lannunet("predict", models[0], *images, *again) == 2


def test_each_member_applies_its_prior_once(pair, monkeypatch):
    """Decoding the mean of the members' maps does not apply it again."""
    project, models = pair
    images, weighted, own = images_of(project), [], CentrePrior.__call__
    monkeypatch.setattr(
        CentrePrior,
        "__call__",
        lambda prior, maps, *given: weighted.append(len(maps)) or own(prior, maps, *given),
    )
    found = load(models[0], also=[models[1]]).predict(images)
    assert sum(weighted) == len(models) * sum(len(one.points) for one in found)


def test_a_data_set_is_evaluated_by_all_folds(pair, expected, capsys, tmp_path):
    project, models = pair
    project.write()
    cv = tmp_path / "cv"
    shutil.copytree(models[0].parent, cv)
    together = ("inference.ensemble_inference=true", f"output.output_dir={cv}", "trainer.inference_only=true")
    assert project.lannunet("train", project.yaml, *words(*together)) == 0
    np.testing.assert_allclose(
        column(cv / "refine" / "predictions.csv", "x", "y"), expected.mean(0), atol=0.01
    )
    assert json.loads((cv / "refine" / "summary.json").read_text())["method"] == "E-CPV"
    capsys.readouterr()
    out = tmp_path / "pooled"
    assert project.lannunet("evaluate", "--runs", cv, "-o", out) == 0
    np.testing.assert_array_equal(
        column(out / "predictions.csv", "x", "y"), column(cv / "refine" / "predictions.csv", "x", "y")
    )
    table = cv / "refine" / "predictions.csv"
    assert project.lannunet("calibrate", table, "-o", tmp_path / "calibration.json") == 0
    options = ("--calibration", tmp_path / "calibration.json", "--coverage", "0.5", "-o", tmp_path / "found")
    assert project.lannunet("predict", cv, *images_of(project), *options) == 0


def test_a_run_in_two_stages_joins_the_models_it_names(pair, tmp_path):
    project, models = pair
    project.write()
    out = tmp_path / "out"
    named = ("inference.ensemble_inference=true", f"inference.ensemble_checkpoints=[{models[1]}]")
    settings = words(*named, f"output.output_dir={out}", "solver.seed=0")
    assert project.lannunet("train", project.yaml, *settings) == 0
    same, joined = (column(one / "refine" / "predictions.csv", "x", "y") for one in (models[0], out))
    assert not np.allclose(same, joined)
    coarse = np.mean([column(model / "predictions.csv", "x", "y") for model in models], axis=0)
    np.testing.assert_allclose(column(out / "predictions.csv", "x", "y"), coarse, atol=2e-3)
    # It trains in the same way as alone, and resumes in the same way.
    losses = [
        [json.loads(row)["loss"] for row in (one / "refine" / "metrics.jsonl").read_text().splitlines()]
        for one in (models[0], out)
    ]
    assert losses[0] == losses[1]
    assert project.lannunet("train", project.yaml, *settings, "--resume") == 0
    np.testing.assert_array_equal(column(out / "refine" / "predictions.csv", "x", "y"), joined)


def test_mirrors_in_both_stages(pair, tmp_path):
    project, models = pair
    images = images_of(project)
    assert project.lannunet("predict", models[0], *images, "--tta", "-o", tmp_path / "found") == 0
    assert (column(tmp_path / "found" / "predictions.csv", "uncertainty_px") > 0).all()
    assert np.isfinite(column(tmp_path / "found" / "methods" / "E-MHA.csv", "x", "y")).all()


def test_one_stage_and_two_are_no_ensemble(pair, capsys, tmp_path):
    project, models = pair
    project.write()
    single = tmp_path / "single"
    assert project.lannunet("train", project.yaml, *words("refine=null", f"output.output_dir={single}")) == 0
    image = images_of(project)[0]
    for one, other, stages in ((models[0], single, (1, 2)), (single, models[0], (2, 1))):
        capsys.readouterr()
        assert project.lannunet("predict", one, image, "-o", tmp_path / "no", "--also", other) == 2
        said = f"{other}: its number of stages is {stages[0]}, the others' {stages[1]}"
        assert said in capsys.readouterr().err
    named = ("inference.ensemble_inference=true", f"inference.ensemble_checkpoints=[{single}]")
    settings = words(*named, f"output.output_dir={tmp_path / 'no'}")
    assert project.lannunet("train", project.yaml, *settings) == 2
    assert f"inference.ensemble_checkpoints: {single} has no second stage" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@settings(max_examples=25, deadline=None)
@given(
    size=st.lists(st.integers(9, 24), min_size=2, max_size=3),
    side=st.sampled_from([6, 7, 8]),
    data=st.data(),
)
def test_patches_of_a_mirrored_image_are_the_mirrored_patches(size, side, data):
    """A network that returns its input, with centres between two pixels and beyond the image."""
    steps = st.integers(-8, 60).map(lambda half: half / 2)
    centres = torch.tensor([data.draw(st.tuples(*[steps] * len(size))) for _ in range(2)])[None].double()
    centres[..., 0] = torch.where(
        centres[..., 0] == (size[0] - 1) / 2, 0.0, centres[..., 0]
    )  # at the middle, the direction outwards is undefined
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, *reversed(size), generator=generator)
    batch = {
        "image": image,
        "affine": torch.eye(len(size) + 1).double()[None],
        "original_size": torch.tensor([size]),
        "centres": centres,
    }

    class Hooks:
        @staticmethod
        def get_coords_from_heatmap(heatmaps, affine, original_sizes, evaluation_mode, image_size):
            return decode_peak(heatmaps, affine, original_sizes, evaluation_mode)

    def locate(batch, mode):
        def shown(patches, landmarks):
            return patches["image"].repeat(1, 2, *[1] * len(size))

        found, own = coordinates_around(shown, Hooks, (side,) * len(size), 2, batch, mode)
        return Located([], {"net": found}, patches=own)

    plain = locate(batch, "use_input_size")
    turned = mirrored(locate, 0, torch.tensor([1, 0]))(
        batch | {"centres": centres[:, [1, 0]]}, "use_input_size"
    )
    assert torch.equal(turned.patches[:, [1, 0]], plain.patches)
    assert plain.patches.shape == (1, 2, *[side] * len(size))
