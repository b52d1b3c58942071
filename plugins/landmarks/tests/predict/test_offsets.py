"""The systematic error of a landmark, from its estimate to the predictions of a trained model."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from lannunet_landmarks.predict.ensemble import together
from lannunet_landmarks.predict.model import LandmarkModel
from lannunet_landmarks.predict.offsets import systematic
from lannunet_landmarks.session import same_decoder
from lannunet_landmarks.types import unannotated

from lannunet_core import BEST_MODEL, load_checkpoint, save_checkpoint

SHIFT = (1.2, -0.8)  # pixels of the network's input, less than a label's width
DECODER = f"""
from dataclasses import replace

from lannunet_core import Plugin, hookimpl
from lannunet_landmarks.maps.decode import decode_peak


class Shifted(Plugin):
    @hookimpl
    def decoders(self):
        return {{"shifted": lambda: shifted}}


def shifted(heatmaps, affine, original_sizes, evaluation_mode):
    found = decode_peak(heatmaps, affine, original_sizes, evaluation_mode)
    return replace(found, points=found.points + found.points.new_tensor({SHIFT}))
"""


@given(st.integers(0, 2**31), st.sampled_from([2, 3]), st.integers(20, 60), st.floats(0.1, 3))
@settings(deadline=None, max_examples=50)
def test_an_offset_is_found_despite_gross_errors_and_gaps(seed, dimensions, images, spread):
    rng = np.random.default_rng(seed)
    offsets = rng.normal(0, 1, (6, dimensions))
    errors = offsets + rng.normal(0, spread, (images, 6, dimensions))
    gross = rng.random((images, 6)) < 0.05
    errors[gross] += 1000.0
    errors[rng.random((images, 6)) < 0.2] = np.nan
    found = systematic(errors, np.inf)
    used = np.where(np.linalg.norm(errors, axis=-1, keepdims=True) < 500, errors, np.nan)
    plain = np.nanmean(used, axis=0)
    assert (np.abs(found) <= np.abs(plain) + 1e-12).all()  # shrunk towards 0, never moved past it
    assert (found * plain >= 0).all()
    assert np.abs(found - offsets).max() < 6 * spread / np.sqrt(0.5 * images) + 0.01


def test_the_limit_of_an_offset_is_each_landmark_s_own_width():
    errors = np.random.default_rng(0).normal([2.5, 0.0], 0.2, (20, 2, 2))
    found = systematic(errors, np.array([1.0, 4.0]))
    np.testing.assert_allclose(found, [[0.0, 0.0], [2.5, 0.0]], atol=0.2)


def test_without_an_offset_chance_is_not_subtracted():
    """Of 200 draws; the plain mean's squares are known: the variance over the number of images."""
    drawn = np.random.default_rng(0).normal(size=(200, 30, 12, 2))
    left = np.mean([(systematic(errors, np.inf) ** 2).mean() for errors in drawn])
    assert left < 0.15 / 30


@pytest.mark.parametrize("errors", [np.full((4, 3, 2), np.nan), np.ones((1, 3, 2)), np.empty((0, 3, 2))])
def test_too_few_points_have_no_offset(errors):
    assert (systematic(errors, np.inf) == 0).all()


def test_a_landmark_that_is_not_learned_is_left_unchanged():
    errors = np.random.default_rng(0).normal([[0.5, 0.0], [8.0, 3.0]], 0.1, (20, 2, 2))
    found = systematic(errors, 2.0)
    np.testing.assert_allclose(found, [[0.5, 0.0], [0.0, 0.0]], atol=0.1)


def test_a_landmark_that_is_not_learned_does_not_make_chance_count_for_the_others():
    rng = np.random.default_rng(0)
    moved = []
    for _ in range(20):
        errors = rng.normal(size=(20, 12, 2))
        errors[:, 0] += (3.5, 0.0)
        moved.append(systematic(errors, 2.0)[1:])
    assert np.square(moved).mean() < 0.15 / 20  # the plain means': 1 / 20


def test_gross_errors_are_left_out_although_most_landmarks_are_not_learned():
    rng = np.random.default_rng(0)
    for _ in range(20):
        errors = rng.normal(0, 0.3, (50, 12, 2))
        errors[:, 5:] *= 100
        errors[rng.random((50, 12)) < 0.05] += (30.0, 0.0)
        assert np.linalg.norm(systematic(errors, 2.0)[:5], axis=-1).max() < 0.2


def of_network(project):
    """The offsets in the project's model."""
    return np.array(load_checkpoint(project.out).learned["offsets"])


def test_a_biased_decoder_is_corrected(make_project, tmp_path, capsys):
    """The same network with and without a constant shift."""
    (tmp_path / "shifted.py").write_text(DECODER)
    project = make_project(splits={"training": 12, "validation": 2, "testing": 4}, landmarks=1)
    project.set(solver={"max_epochs": 2, "mini_batch_size": 60}, trainer={"validate_every": 2})
    assert project.train() == 0
    assert "the systematic error of each landmark on 12 training images" in capsys.readouterr().out
    plain, own = errors_of(project), of_network(project)
    assert max(plain) < 3

    project.set(trainer={"plugins": [str(tmp_path / "shifted.py")]}, inference={"decoder": "shifted"})
    assert project.train("--overwrite") == 0
    np.testing.assert_allclose(of_network(project), own + SHIFT, atol=0.1)
    np.testing.assert_allclose(errors_of(project), plain, atol=0.3)  # pixels of images of twice the size

    project.set(trainer={"inference_only": True}, model={"checkpoint": str(project.out)})
    project.set(inference={"decoder": "peak"}, output={"output_dir": "other"})
    capsys.readouterr()
    assert project.train() == 0
    assert "measured with inference.decoder shifted, not with peak" in " ".join(
        capsys.readouterr().out.split()
    )
    found = np.mean(errors_of(project, project.folder / "other"))
    assert found == pytest.approx(np.mean(plain), abs=2 * np.linalg.norm(own) + 0.01)
    assert same_decoder("auto", "Peak") and not same_decoder("auto", "dark")  # two names of one

    project.set(inference={"decoder": "shifted", "correct_offsets": False}, output={"output_dir": "without"})
    assert project.train() == 0
    shift = 2 * np.linalg.norm(own + SHIFT)
    without = np.mean(errors_of(project, project.folder / "without"))
    assert without == pytest.approx(shift, abs=1) and without > np.mean(plain) + 1


def errors_of(project, folder=None):
    return [float(row["error_px"]) for row in project.rows(folder)]


VARIANTS = {
    "2D": {},
    "3D": {"resize": "stretch", "input_size": [16, 16, 8]},
    "patches": {
        "sample_mode": "patch_bias",
        "patch": {"sample_patch_size": [16, 16], "inference_mode": "patchify_and_stitch"},
    },
    "mirrored": {"data_aug": "AffineComplex"},
    "two stages": {},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_subtracts_what_its_run_measured(make_project, variant):
    size = (24, 20, 12) if variant == "3D" else (64, 64)
    project = make_project(sizes=(size,))
    project.set(sampler=VARIANTS[variant], inference={"tta": variant == "mirrored"})
    folder, scale = project.out, np.array(size) / project.config["sampler"]["input_size"]
    if variant == "two stages":
        project.config["refine"] = {"sampler": {"patch": {"sample_patch_size": [16, 16]}}}
        folder, scale = project.out / "refine", 1.0
    assert project.train() == 0
    images = [project.folder / one["image"] for one in project.annotations["testing"]]
    known = np.array([[float(row[axis]) for axis in "xyz"[: len(size)]] for row in project.rows(folder)])
    np.testing.assert_allclose(points(project, images), known, atol=2e-3)

    best, offsets = folder / BEST_MODEL, np.random.default_rng(0).normal(size=(2, len(size)))
    trained = load_checkpoint(best)
    assert np.shape(trained.learned["offsets"]) == offsets.shape
    save_checkpoint(best, replace(trained, learned=trained.learned | {"offsets": offsets.tolist()}))
    moved = points(project, images)
    del trained.learned["offsets"]  # as in models of earlier versions
    save_checkpoint(best, trained)
    if variant == "mirrored":  # the offsets of two views mirrored in y cancel each other in y
        offsets = offsets * [1, 0]
    away = points(project, images) - moved
    np.testing.assert_allclose(away.reshape(-1, *offsets.shape), [offsets * scale] * len(images), atol=1e-4)


def test_the_mean_map_of_mirrored_views_has_the_mean_of_their_offsets(make_project):
    """Landmarks 0 and 1 are swapped by the mirror in y."""
    project = make_project()
    project.set(sampler={"data_aug": "AffineComplex"}, inference={"tta": True})
    project.set(dataset={"flip_pairs": [[0, 1]]})
    assert project.train() == 0
    image = project.folder / project.annotations["testing"][0]["image"]
    samples = [unannotated("a", image, opened(project, None)[0].run)]
    plain = opened(project, None, samples)[1]
    offsets = np.array([[0.3, 0.5], [-0.2, 0.1]])
    moved = opened(project, offsets, samples)[1]
    expected = (offsets + (offsets * [1, -1])[::-1]) / 2
    for method in ("E-CPV", "E-MHA"):
        away = plain[method][0].coordinates - moved[method][0].coordinates
        np.testing.assert_allclose(away, 2 * expected, atol=1e-4, err_msg=method)


def opened(project, offsets, samples=()):
    """The session of the project's model with these offsets, and its predictions by each method."""
    model = LandmarkModel(project.out)
    model.session.offsets = offsets
    model.looks[-1] = together([model.session])
    return model.session, model.locate(samples, model.prepare(model.session, samples)) if samples else {}


def points(project, images):
    return np.concatenate([one.points for one in LandmarkModel(project.out).predict(images)])
