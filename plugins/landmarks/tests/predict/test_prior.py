"""Centres as a prior, from the weights of a map to the predictions of a second stage."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_landmarks.maps.decode import decode_peak
from lannunet_landmarks.predict.model import LandmarkModel
from lannunet_landmarks.predict.patchwise import coordinates_around
from lannunet_landmarks.predict.prior import CentrePrior, prior_scale
from scipy.stats import multivariate_t

from lannunet_core import BEST_MODEL, CENTRES_FILE, load_checkpoint, save_checkpoint


@given(st.integers(0, 2**31), st.sampled_from([2, 3]), st.sampled_from([1, 2]), st.floats(0.5, 20))
@settings(deadline=None, max_examples=30)
def test_maps_are_weighted_with_student_s_distribution(seed, dimensions, stride, scale):
    rng = np.random.default_rng(seed)
    size = tuple(int(side) * stride for side in rng.integers(4, 9, dimensions))
    maps = rng.random((2, 3, *(side // stride for side in reversed(size))))
    centres = rng.uniform(-3, 12, (2, dimensions))
    axes = [np.arange(side) * stride + (stride - 1) / 2 for side in maps.shape[:1:-1]]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1)  # (x, y[, z], D)
    density = np.stack(
        [multivariate_t(centre, scale**2 * np.eye(dimensions), df=3).pdf(places) for centre in centres]
    )
    expected = maps * density.transpose(0, *range(dimensions, 0, -1))[:, None]
    given_maps = torch.from_numpy(maps)
    spatial = tuple(range(2, maps.ndim))
    expected *= maps.sum(spatial, keepdims=True) / expected.sum(spatial, keepdims=True)
    found = CentrePrior(scale)(given_maps, torch.from_numpy(centres), size)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_a_map_without_any_mass_stays_empty():
    found = CentrePrior(2.0)(torch.zeros(1, 1, 4, 6), torch.zeros(1, 2), (6, 4))
    assert (found == 0).all()


def test_the_scale_is_that_of_most_errors():
    errors = np.random.default_rng(0).normal(0, 3, (50, 12, 2))
    errors[:, 0] = np.nan
    expected = 6 * 3 * np.sqrt(2 * np.log(2))  # the median of Rayleigh's distribution
    assert prior_scale(errors) == pytest.approx(expected, rel=0.05)
    errors[:10] += 500.0
    assert prior_scale(errors) < 1.5 * expected
    assert prior_scale(np.full((2, 3, 2), np.nan)) is None
    assert prior_scale(np.zeros((2, 3, 2))) is None  # annotations


class Hooks:
    @staticmethod
    def get_coords_from_heatmap(heatmaps, affine, original_sizes, evaluation_mode, image_size):
        return decode_peak(heatmaps, affine, original_sizes, evaluation_mode)


@pytest.mark.parametrize("size", [(40, 36), (30, 28, 26)])
def test_of_two_peaks_the_one_near_the_centre_is_chosen(size):
    """The image itself is the map; its higher peak is that of another structure."""
    near, far = np.array(size) // 2, np.array(size) // 2 + 6
    places = np.stack(np.meshgrid(*map(np.arange, reversed(size)), indexing="ij"), -1)[..., ::-1]

    def peak(at):
        return np.exp(-((places - at) ** 2).sum(-1) / 2)

    image = torch.from_numpy(peak(near) + 1.2 * peak(far)).float()[None, None]
    batch = {
        "image": image,
        "affine": torch.eye(len(size) + 1).double()[None],
        "original_size": torch.tensor([size]),
        "centres": torch.from_numpy(near + 0.4)[None, None],
    }

    def located(prior):
        patch = (20,) * len(size)
        found, _ = coordinates_around(
            lambda cut, _: cut["image"], Hooks, patch, 1, batch, "use_input_size", prior=prior
        )
        return found.points[0, 0].numpy()

    np.testing.assert_allclose(located(None), far, atol=0.01)
    np.testing.assert_allclose(located(CentrePrior(3.0)), near, atol=0.1)


def test_a_second_stage_measures_its_prior_and_stores_it(make_project, capsys):
    project = make_project(splits={"training": 6, "validation": 3, "testing": 3})
    project.set(refine={"sampler": {"patch": {"sample_patch_size": [16, 16]}}})
    assert project.train() == 0
    best, images = project.out / "refine" / BEST_MODEL, images_of(project)
    stored = load_checkpoint(best)
    scale = stored.learned["prior_scale"]
    assert f"half at {scale:.1f} pixels" in " ".join(capsys.readouterr().out.split())
    assert "prior_scale" not in load_checkpoint(project.out / BEST_MODEL).learned
    errors = errors_of_first_stage(project)
    assert scale == pytest.approx(6 * np.median(errors), abs=0.01)
    np.testing.assert_allclose(predicted(project, images), points_of(project.out / "refine"), atol=2e-3)

    save_checkpoint(best, replace(stored, learned=stored.learned | {"prior_scale": 1.0}))
    near = predicted(project, images)
    del stored.learned["prior_scale"]  # as in models of earlier versions
    save_checkpoint(best, stored)
    earlier = predicted(project, images)
    assert np.abs(near - earlier).max() > 0.1
    centres = points_of(project.out)
    assert distance(near, centres) < distance(earlier, centres)

    project.set(inference={"centre_prior": False}, output={"output_dir": "without"})
    assert project.train() == 0
    assert "prior_scale" not in load_checkpoint(project.folder / "without" / "refine" / BEST_MODEL).learned


def test_maps_that_are_no_probabilities_are_left_alone(make_project, capsys):
    project = make_project()
    project.set(
        refine={"sampler": {"patch": {"sample_patch_size": [16, 16]}}}, solver={"loss_function": "mse"}
    )
    assert project.train() == 0
    assert "positions count less" not in " ".join(capsys.readouterr().out.split())
    model = LandmarkModel(project.out)
    assert model.last.prior_scale and model.last.centre_prior is None


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({}, "sampler.sample_mode: full"),
        (
            {
                "sampler": {"sample_mode": "patch_centred", "patch": {"sample_patch_size": [16, 16]}},
                "solver": {"loss_function": "mse"},
            },
            "solver.loss_function: mse",
        ),
    ],
)
def test_a_prior_without_effect_is_refused(make_project, capsys, changes, cause):
    project = make_project()
    project.set(**changes, inference={"centre_prior": False})
    assert project.train() == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"inference.centre_prior: found False, but it has no effect with {cause}" in error


def distance(points, others):
    return np.linalg.norm(points - others, axis=-1).mean()


def images_of(project):
    return [project.folder / one["image"] for one in project.annotations["testing"]]


def errors_of_first_stage(project):
    """Of the validation images, in pixels."""
    found = {(one["id"], one["landmark"]): one for one in rows_of(project.out / CENTRES_FILE)}
    return [
        np.hypot(float(found[sample["id"], str(k)]["x"]) - x, float(found[sample["id"], str(k)]["y"]) - y)
        for sample in project.annotations["validation"]
        for k, (x, y) in enumerate(sample["coordinates"])
    ]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def points_of(folder):
    return np.array([[float(row["x"]), float(row["y"])] for row in rows_of(folder / "predictions.csv")])


def predicted(project, images):
    return np.concatenate([one.points for one in LandmarkModel(project.out).predict(images)])
