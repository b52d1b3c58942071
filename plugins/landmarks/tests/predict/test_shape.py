"""The relative positions of landmarks as a prior, from the training annotations to predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_images import IMAGE_FILES
from lannunet_landmarks.maps.decode import decode_peak
from lannunet_landmarks.predict import shape
from lannunet_landmarks.predict.model import LandmarkModel
from lannunet_landmarks.predict.shape import (
    BLOCK,
    DOUBT,
    ROUNDS,
    WEIGHT,
    ShapePrior,
    by_candidate,
    candidates_of,
    shape_prior,
)
from lannunet_landmarks.predict.views import views
from scipy.spatial.transform import Rotation
from scipy.stats import multivariate_t, t as student_t

from lannunet_core import BEST_MODEL, load_checkpoint, save_checkpoint

DIMENSIONS = pytest.mark.parametrize("dimensions", [2, 3])
seeds = st.integers(0, 2**31)


def drawn_shapes(rng, images, landmarks, dimensions, spread=2.0):
    middle = rng.uniform(10, 40, (landmarks, dimensions))
    return middle + rng.normal(0, 3, (images, 1, dimensions)) + rng.normal(0, spread, (images, *middle.shape))


def turned(rng, shapes):
    """Shapes (images, N, D), each rotated by any angle about the origin."""
    if shapes.shape[-1] == 3:
        turns = Rotation.random(len(shapes), random_state=rng).as_matrix()
    else:
        turns = Rotation.from_rotvec(rng.uniform(0, 2 * np.pi, (len(shapes), 1)) * [0, 0, 1]).as_matrix()
        turns = turns[:, :2, :2]
    return shapes @ turns


@given(seeds, st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=20)
def test_relative_positions_are_those_of_the_training_images(seed, dimensions):
    rng = np.random.default_rng(seed)
    grid = np.indices((3, 3, 1)[:dimensions]).reshape(dimensions, -1).T
    shapes = 30 * grid + drawn_shapes(rng, 12, 9, dimensions) / 4  # far apart, so directions are clear
    shapes[rng.random(shapes.shape[:2]) < 0.3] = np.nan
    prior = shape_prior(shapes)
    assert (prior.distances == 0).all()
    for landmark in range(9):
        expected = {}
        for other in range(9):
            relative = shapes[:, landmark] - shapes[:, other]
            relative = relative[np.isfinite(relative).all(1)]
            if other == landmark or len(relative) < 5:
                continue
            covariance = np.cov(relative.T, bias=True)
            count, typical = len(relative), np.trace(covariance) / dimensions
            covariance = covariance * (1 + 1 / count)
            covariance += (2 * 16 / 12 + 2 * typical / count) * np.eye(dimensions)
            expected[other] = relative.mean(0), covariance
        nearest = sorted(expected, key=lambda other: np.linalg.det(expected[other][1]))[:5]
        found = prior.partners[landmark]
        assert list(found[found != landmark]) == nearest
        for number, other in enumerate(nearest):
            np.testing.assert_allclose(prior.means[landmark, number], expected[other][0], atol=1e-9)
            np.testing.assert_allclose(prior.covariances[landmark, number], expected[other][1], atol=1e-9)


@given(seeds, st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=20)
def test_distances_are_those_of_the_training_images_if_these_are_rotated(seed, dimensions):
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-60, 60, (9, dimensions))
    shapes = turned(rng, middle + rng.normal(0, 1, (40, 9, dimensions)))
    shapes[rng.random(shapes.shape[:2]) < 0.3] = np.nan
    prior = shape_prior(shapes)
    chosen = prior.distances > 0
    assert chosen.mean() > 0.8  # all but those that are hardly apart
    for landmark, number in zip(*chosen.nonzero(), strict=True):
        lengths = np.linalg.norm(shapes[:, landmark] - shapes[:, prior.partners[landmark, number]], axis=-1)
        lengths = lengths[np.isfinite(lengths)]
        count, variance = len(lengths), lengths.var()
        variance = variance * (1 + 1 / count) + 2 * 16 / 12 + 2 * variance / count
        assert prior.distances[landmark, number] == pytest.approx(lengths.mean())
        assert prior.spreads[landmark, number] == pytest.approx(np.sqrt(variance))


def test_without_enough_images_or_a_second_landmark_there_is_no_prior():
    shapes = drawn_shapes(np.random.default_rng(0), 20, 3, 2)
    assert shape_prior(shapes[:4]) is None
    assert shape_prior(shapes[:, :1]) is None
    shapes[4:, 0] = np.nan
    found = shape_prior(shapes)
    assert (found.partners[0] == 0).all()
    assert found.partners[1].tolist() == [2, 1]


@given(seeds, st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=20)
def test_places_have_the_stated_probabilities(seed, dimensions):
    rng = np.random.default_rng(seed)
    prior = shape_prior(drawn_shapes(rng, 15, 7, dimensions))
    of_distance = rng.random(prior.partners.shape) < 0.5
    distances = np.where(of_distance, rng.uniform(5, 40, of_distance.shape), 0)
    prior = replace(prior, distances=distances, spreads=rng.uniform(1, 5, of_distance.shape))
    points = rng.uniform(0, 48, (1, 7, 3, dimensions))
    masses = -np.sort(-(rng.random((1, 7, 3)) ** 3))
    masses[0, 2] = 0  # a flat map
    masses[0, 3, 1:] = 0
    present, size = rng.random((1, 7)), (48, 40, 32)[:dimensions]

    total = np.maximum(masses[0].sum(1, keepdims=True), 1e-300)
    alone = masses[0] / total
    values = map(torch.from_numpy, (alone[None], points, present))
    found = prior.probabilities(*values, size)
    now = new = alone
    for _ in range(ROUNDS):
        now = (now + new) / 2
        new = np.zeros_like(now)
        for landmark in range(7):
            partners = [p for p in enumerate(prior.partners[landmark]) if p[1] != landmark]
            logs = np.zeros(3)
            for number, other in partners:
                away = points[0, landmark][:, None] - points[0, other]
                mean = distances[landmark, number]
                if mean:
                    along = student_t(3, mean, prior.spreads[landmark, number])
                    radius = max(mean, 4)
                    surface = 2 * np.pi * radius if dimensions == 2 else 4 * np.pi * radius**2
                    density = along.pdf(np.linalg.norm(away, axis=-1)) / surface  # (K, K)
                else:
                    relative = multivariate_t(
                        prior.means[landmark, number], prior.covariances[landmark, number], 3
                    )
                    density = relative.pdf(away)  # (K, K)
                seen = (1 - DOUBT) * present[0, other]
                message = np.log(seen * density @ now[other] + (1 - seen) / np.prod(size))
                logs += message * WEIGHT * (dimensions if mean else 1) / len(partners)
            weights = alone[landmark] * np.exp(logs - logs.max())
            new[landmark] = weights / max(weights.sum(), 1e-300)
    np.testing.assert_allclose(found[0].numpy(), new, rtol=1e-6, atol=1e-12)


def blobs(size, stride, points, heights, width=2.0):
    """(*S) the sum of Gaussians at points in pixels of the image."""
    axes = [np.arange(side // stride) * stride + (stride - 1) / 2 for side in reversed(size)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)[..., ::-1]
    squares = ((grid[..., None, :] - np.asarray(points)) ** 2).sum(-1)
    return (np.exp(-squares / (2 * width**2)) * heights).sum(-1)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(60, 44), (40, 44, 36)])
def test_places_are_the_highest_peaks(size, stride):
    middle = np.array(size) / 2
    points = [middle - 10.3, middle + 9.6]
    maps = blobs(size, stride, points, [1.0, 0.5])
    given_maps = torch.from_numpy(np.stack([maps, 0 * maps]))[None]
    found = candidates_of(given_maps, size, heights=False)
    np.testing.assert_allclose(found.points[0, 0, :2].numpy(), points, atol=0.5)
    total = blobs(size, stride, points, [1.0, 0.0]).sum()
    np.testing.assert_allclose(found.masses[0, 0, :2].numpy(), [total, total / 2], rtol=0.05)
    assert (found.masses[0, 0, 2:] == 0).all()
    assert (found.masses[0, 1] == 0).all()
    found = candidates_of(given_maps - 0.02, size, heights=True)  # of whatever background
    np.testing.assert_allclose(found.points[0, 0, :2].numpy(), points, atol=0.5)
    heights = [blobs(size, stride, points, one).max() - 0.02 for one in ([1.0, 0], [0, 0.5])]
    np.testing.assert_allclose(found.masses[0, 0, :2].numpy(), heights, atol=0.01)
    assert (found.masses[0, 0, 2:] == 0).all()


def test_a_flat_top_is_one_place():
    maps = torch.zeros(1, 1, 48, 48)
    maps[..., 10:30, 12:34] = 1
    found = candidates_of(maps, (48, 48), heights=True)
    assert (found.masses[0, 0] > 0).tolist() == [True, False, False, False, False]


def test_a_map_of_a_few_pixels_has_places():
    maps = torch.zeros(1, 1, 2, 3)
    maps[0, 0, 1, 2] = 1
    found = candidates_of(maps, (12, 8), heights=False)
    assert found.masses[0, 0, 0] == 1
    assert found.points[0, 0, 0].tolist() == [9.5, 5.5]


@pytest.mark.parametrize("thin", [1, 2, 5, 8])
def test_a_map_of_a_thin_volume_has_places(thin):
    size, point = (40, 36, thin), np.array([9.6, 21.3, (thin - 1) / 2])
    maps = blobs(size, 1, [point], [1.0])
    for volume, sides, middle in ((maps, size, point), (maps.transpose(2, 1, 0), size[::-1], point[::-1])):
        given_maps = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
        found = candidates_of(given_maps, sides, heights=False)
        np.testing.assert_allclose(found.points[0, 0, 0].numpy(), middle, atol=BLOCK / 2)
        assert found.masses[0, 0, 0] == pytest.approx(maps.sum(), rel=0.05)


@DIMENSIONS
def test_a_peak_keeps_its_form_and_a_map_its_sum(dimensions):
    size = (48, 40, 32)[:dimensions]
    points = np.stack([np.array(size) / 4, 3 * np.array(size) / 4])
    maps = torch.from_numpy(blobs(size, 1, points, [1.0, 0.6]))[None]
    factors = torch.tensor([[0.1, 2.0]], dtype=torch.float64)
    found = by_candidate(maps, torch.from_numpy(points)[None], factors, size=size, keep_sums=True)
    assert float(found.sum()) == pytest.approx(float(maps.sum()))
    ratio = (found / maps)[0]
    first, second = (tuple(reversed(point.astype(int))) for point in points)
    assert float(ratio[second] / ratio[first]) == pytest.approx(20)
    near = (slice(None, 6),) * dimensions
    assert torch.allclose(ratio[near], ratio[(0,) * dimensions])


MIDDLE = ((14.0, 12, 12), (40, 14, 30), (16, 38, 14), (44, 40, 34))


def scene(rng, dimensions, middle=MIDDLE, rotated=False):
    """A prior, and the maps of an image in which the third landmark has a higher peak elsewhere."""
    size = (64, 56, 48)[:dimensions]
    middle = np.array(middle)[:, :dimensions]
    shapes = middle + rng.normal(0, 1.5, (20, 1, dimensions)) + rng.normal(0, 0.7, (20, *middle.shape))
    truth = middle + rng.normal(0, 0.7, middle.shape)
    other = np.array(size) - 12.0
    if rotated:
        centre = np.array(size) / 2
        shapes, truth = turned(rng, shapes - centre), 0.6 * turned(rng, (truth - centre)[None])[0] + centre
        shapes, other = 0.6 * shapes, truth[1]  # on another landmark
    peaks = [[(truth[k], 1.0)] for k in range(4)]
    peaks[2] = [(truth[2], 0.4), (other, 1.0)]
    maps = np.stack([blobs(size, 1, *map(list, zip(*one, strict=True)), width=1.5) for one in peaks])
    return shape_prior(shapes), torch.from_numpy(maps).float()[None], truth, size


def decoded(maps, size):
    affine = torch.eye(len(size) + 1).double()[None]
    return decode_peak(maps, affine, torch.tensor([size]), "use_input_size").points[0].numpy()


LABEL = torch.tensor(2 * np.pi * 1.5**2)


@given(seeds, st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=10)
def test_of_two_peaks_the_one_that_fits_the_others_is_chosen(seed, dimensions):
    prior, maps, truth, size = scene(np.random.default_rng(seed), dimensions)
    before = decoded(maps, size)
    assert np.linalg.norm(before[2] - truth[2]) > 15
    after = prior(maps.clone(), size, LABEL)
    np.testing.assert_allclose(decoded(after, size), truth, atol=0.02)
    others = [0, 1, 3]
    assert torch.equal(after[:, others], maps[:, others])
    torch.testing.assert_close(prior.in_graph(maps, size, LABEL), after, rtol=1e-4, atol=1e-7)
    sums = tuple(range(2, maps.ndim))
    torch.testing.assert_close(after.sum(sums), maps.sum(sums))

    heights = prior(maps.clone(), size, None)  # maps that are no probabilities keep the chosen peak
    np.testing.assert_allclose(decoded(heights, size), truth, atol=0.02)
    chosen = (0, 2, *reversed(truth[2].round().astype(int)))
    torch.testing.assert_close(heights[chosen], maps[chosen])
    torch.testing.assert_close(prior.in_graph(maps, size, None), heights, rtol=1e-4, atol=1e-7)


@given(seeds, st.sampled_from([2, 3]))
@settings(deadline=None, max_examples=20)
def test_of_two_peaks_the_one_that_fits_is_chosen_if_objects_are_rotated_by_any_angle(seed, dimensions):
    prior, maps, truth, size = scene(np.random.default_rng(seed), dimensions, rotated=True)
    before = decoded(maps, size)
    np.testing.assert_allclose(before[2], truth[1], atol=0.1)
    after = prior(maps.clone(), size, LABEL)
    np.testing.assert_allclose(decoded(after, size), truth, atol=0.1)
    torch.testing.assert_close(prior.in_graph(maps, size, LABEL), after, rtol=1e-4, atol=1e-7)


def test_few_maps_are_copied_at_a_time(monkeypatch):
    prior, maps, _, size = scene(np.random.default_rng(0), 3)
    expected = prior(maps.clone(), size, LABEL)
    monkeypatch.setattr(shape, "AT_ONCE", 1)
    copied = []
    monkeypatch.setattr(
        shape, "candidates_of", lambda part, *rest: copied.append(part) or candidates_of(part, *rest)
    )
    assert torch.equal(prior(maps.clone(), size, LABEL), expected)
    assert [len(part[0]) for part in copied] == [1, 1, 1, 1]


def lost_peaks(seed, rotated, angle=0.0, scale=1.0):
    """How many of 8 clear peaks are lost; each map has lower peaks at random positions.

    Training images are rotated by any angle, or not at all.
    """
    rng = np.random.default_rng(seed)
    size, middle = (256, 256), rng.uniform(-58, 58, (8, 2))
    if rotated:
        shapes = turned(rng, middle + rng.normal(0, 1.5, (40, 8, 2)))
    else:
        shapes = middle + rng.normal(0, 3, (40, 1, 2)) + rng.normal(0, 1.5, (40, 8, 2))
    truth = scale * middle @ Rotation.from_euler("z", angle, degrees=True).as_matrix()[:2, :2] + 128
    maps = [
        blobs(size, 1, [point, *rng.uniform(8, 248, (6, 2))], [1, *rng.uniform(0.02, 0.1, 6)], width=1.5)
        for point in truth
    ]
    found = shape_prior(shapes)(torch.from_numpy(np.stack(maps)).float()[None], size, LABEL)
    return (np.linalg.norm(decoded(found, size) - truth, axis=1) > 5).sum()


@pytest.mark.parametrize("angle", [30, 90, 180, 270])
def test_clear_peaks_stay_in_a_pose_that_no_training_image_has(angle):
    assert sum(lost_peaks(seed, False, angle=angle) for seed in range(20)) <= 4  # of 160


@pytest.mark.parametrize("scale", [0.85, 1.2])
def test_clear_peaks_stay_in_a_size_that_no_training_image_has(scale):
    assert sum(lost_peaks(seed, True, angle=90, scale=scale) for seed in range(20)) <= 8  # of 160


def test_maps_without_a_peak_stay_as_they_are_and_change_no_other():
    prior, maps, truth, size = scene(np.random.default_rng(0), 2)
    maps[0, 0] = torch.nan
    maps[0, 3, 0, 0] = torch.inf
    maps[0, 1] = 0
    after = prior(maps.clone(), size, LABEL)
    assert after[0, 0].isnan().all()
    assert (after[0, 1] == 0).all()
    np.testing.assert_allclose(decoded(after, size)[2], truth[2], atol=0.02)


@DIMENSIONS
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("rotated", [False, True])
def test_a_mirrored_image_has_the_mirrored_prior(dimensions, axis, rotated):
    prior, maps, _, size = scene(np.random.default_rng(1), dimensions, rotated=rotated)
    assert (prior.distances > 0).any() == rotated
    swapped = np.array([1, 0, 3, 2])
    reflected = maps.flip(-1 - axis)[:, swapped]
    found = prior.mirrored(axis, swapped)(reflected, size, LABEL)
    expected = prior(maps.clone(), size, LABEL).flip(-1 - axis)[:, swapped]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_a_model_stores_its_prior_and_predicts_with_it(make_project):
    project = make_project(splits={"training": 6, "validation": 3, "testing": 3})
    assert project.train() == 0
    stored = load_checkpoint(project.out / BEST_MODEL)
    found = ShapePrior.read(stored.learned["shape"])
    shapes = np.array([one["coordinates"] for one in project.annotations["training"]], float)
    scale = np.divide(project.config["sampler"]["input_size"], image_size(project))
    expected = shape_prior(shapes * scale.min())
    np.testing.assert_array_equal(found.partners, expected.partners)
    np.testing.assert_allclose(found.means, expected.means, atol=1e-6)
    np.testing.assert_allclose(found.covariances, expected.covariances, atol=1e-6)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-6)
    np.testing.assert_allclose(found.spreads, expected.spreads, atol=1e-6)

    model = LandmarkModel(project.out)
    np.testing.assert_allclose(model.session.shape_prior.means, found.means)
    images = [project.folder / one["image"] for one in project.annotations["testing"]]
    now = [one.points for one in model.predict(images)]
    prior = stored.learned["shape"]
    before = {key: prior[key] for key in ("partners", "covariances")}  # as in models that know no distances
    stored.learned["shape"] = before | {"means": (100 + found.means).tolist()}
    save_checkpoint(project.out / BEST_MODEL, stored)
    other = [one.points for one in LandmarkModel(project.out).predict(images)]
    assert np.abs(np.subtract(now, other)).max() > 1
    del stored.learned["shape"]  # as in models of earlier versions
    save_checkpoint(project.out / BEST_MODEL, stored)
    assert LandmarkModel(project.out).session.shape_prior is None

    project.set(model={"checkpoint": str(project.out)}, output={"output_dir": "tuned"})
    assert project.train() == 0
    assert load_checkpoint(project.folder / "tuned" / BEST_MODEL).learned["shape"] == prior


def test_mirrored_views_have_the_mirrored_prior(make_project):
    """The image's channels are the maps of a network that finds the same landmarks in mirrored images."""
    column = [(20.0, 6), (20, 18), (20, 30), (20, 42)]  # upside down, no pair is as in the training images
    prior, maps, truth, size = scene(np.random.default_rng(2), 2, column)
    project = make_project(splits={"training": 6, "validation": 3, "testing": 3}, landmarks=4)
    project.set(sampler={"data_aug": "AffineComplex"}, inference={"tta": True})
    assert project.train() == 0
    session = LandmarkModel(project.out).session
    session.shape, session.offsets = prior, None
    session.learner.maps = lambda batch: batch["image"].clone()
    affine = torch.eye(3).double()[None]
    batch = {"image": maps, "affine": affine, "original_size": torch.tensor([size])}
    found = [view(batch, "use_input_size").main.points[0].numpy() for view in views(session)]
    assert len(found) > 1
    for points in found:
        np.testing.assert_allclose(points, truth, atol=0.05)


def test_a_run_without_the_prior(make_project):
    project = make_project(splits={"training": 6, "validation": 3, "testing": 3})
    refine = {"sampler": {"patch": {"sample_patch_size": [16, 16]}}}
    project.set(inference={"shape_prior": False}, refine=refine)
    assert project.train() == 0
    assert LandmarkModel(project.out).session.shape_prior is None


def test_patches_around_centres_have_none(make_project, capsys):
    project = make_project(splits={"training": 6, "validation": 3, "testing": 3})
    patch = {"sample_mode": "patch_centred", "patch": {"sample_patch_size": [16, 16]}}
    project.set(sampler=patch, inference={"shape_prior": False})
    assert project.train() == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "inference.shape_prior: found False, but it has no effect with sampler.sample_mode" in error
    del project.config["inference"]["shape_prior"]
    assert project.train() == 0
    assert "shape" not in load_checkpoint(project.out / BEST_MODEL).learned


def image_size(project):
    return IMAGE_FILES.header(project.folder / project.annotations["training"][0]["image"], 2).size
