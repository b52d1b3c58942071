import pickle
from pathlib import Path

import numpy as np
import pytest
from lannunet_images.geometry import affine_matrix, is_inside
from lannunet_landmarks.data.sampling import PatchBias, PatchCentred
from lannunet_landmarks.types import Sample
from scipy.stats import binomtest, chisquare

from lannunet_core import call_accepting
from lannunet_core.augment.elastic import Elastic
from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.hookspecs import State

IMAGE, PATCH = (90, 70), (12, 8)


def identity(dimensions=2):
    return SpatialTransform.identity(dimensions)


def turned(degrees, scale=1.0, offset=(3.0, -2.0), mirror=False):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[c, -s], [s, c]]) * scale
    return SpatialTransform(linear * ([-1, 1] if mirror else [1, 1]), np.array(offset))


def elastic(seed=0):
    field = Elastic.draw(np.random.default_rng(seed), PATCH, alpha=50, sigma=4)
    return SpatialTransform(turned(30, 1.2).linear, np.array([1.0, 2.0]), field)


def a_sample(points, states=None):
    points = np.asarray(points, float)
    states = np.zeros(len(points), np.int64) if states is None else np.asarray(states)
    return Sample("one", Path("one.png"), points, states)


def centre_of(sampling, rng, sample, transform, image=IMAGE, matrix=None):
    """The result for a sample whose image was not resized, or was resized by `matrix`."""
    matrix = np.eye(len(image) + 1) if matrix is None else matrix
    points = sample.coordinates @ np.linalg.inv(matrix)[:-1, :-1].T + np.linalg.inv(matrix)[:-1, -1]
    return call_accepting(
        sampling.centre, rng=rng, image_size=image, landmarks=points, states=sample.states,
        transform=transform, sample=sample, affine=matrix,
    )  # fmt: skip


# Patches with a bias


def places(sampling, transform, sample, draws=4000, image=IMAGE):
    """Positions of the sample's landmarks in the patches, (draws, N, D)."""
    rng = np.random.default_rng(1)
    points = []
    for _ in range(draws):
        centre = centre_of(sampling, rng, sample, transform, image)
        points.append(transform.to_output(sample.coordinates, centre, sampling.output_size))
    return np.array(points)


@pytest.mark.parametrize(
    "transform",
    [
        identity(),
        turned(0, mirror=True),
        turned(37, 1.3),
        turned(-100, 0.7, mirror=True),
        pytest.param(elastic(), marks=pytest.mark.slow),
    ],
    ids=["as it is", "mirror", "turned", "turned mirror", "elastic"],
)
def test_a_landmark_is_shown_at_every_pixel_of_the_patch_as_often(transform):
    # Near a corner of the image, where a patch that may not leave the image could not show it everywhere.
    sample = a_sample([[3.3, 2.6]])
    shown = places(PatchBias(PATCH, 1.0), transform, sample)[:, 0]
    assert is_inside(shown, PATCH).all()
    pixels = np.rint(shown).astype(int)
    counts = np.zeros(PATCH)
    np.add.at(counts, tuple(pixels.T), 1)
    assert counts.min() > 0
    assert chisquare(counts.ravel()).pvalue > 1e-3


def test_each_visible_landmark_is_as_often_the_one():
    points = [[10, 10], [80, 60], [10, 60], [45, 33], [np.nan, np.nan]]
    states = [State.VISIBLE, State.VISIBLE, State.VISIBLE, State.ABSENT, State.UNLABELLED]
    shown = places(PatchBias(PATCH, 1.0), identity(), a_sample(points, states), 3000)
    inside = is_inside(shown, PATCH)
    assert inside[:, :3].any(1).all()
    assert chisquare(inside[:, :3].sum(0)).pvalue > 1e-3


@pytest.mark.parametrize("transform", [identity(), turned(20, 1.2), elastic()])
def test_the_share_of_patches_with_a_landmark(transform):
    """Patches at random positions contain the only landmark with a known probability."""
    sample = a_sample([[44.0, 35.0]])
    anywhere = is_inside(places(PatchBias(PATCH, 0.0), transform, sample)[:, 0], PATCH).mean()
    inside = is_inside(places(PatchBias(PATCH, 0.66), transform, sample, 3000)[:, 0], PATCH)
    expected = 0.66 + 0.34 * anywhere
    assert 0 < anywhere < 0.1
    assert binomtest(int(inside.sum()), len(inside), expected).pvalue > 1e-3


@pytest.mark.parametrize("states", [[State.VISIBLE], [State.ABSENT], [State.UNLABELLED]])
def test_other_patches_lie_at_every_offset_inside_the_image(states):
    sample = a_sample([[10.0, 10.0]], states)
    bias = 0.0 if states == [State.VISIBLE] else 1.0  # without a visible landmark, no position is preferred
    image = (16, 10)
    rng = np.random.default_rng(0)
    centres = [centre_of(PatchBias(PATCH, bias), rng, sample, identity(), image) for _ in range(2000)]
    corners = np.array(centres) - (np.array(PATCH) - 1) / 2
    offsets, counts = np.unique(corners, axis=0, return_counts=True)
    assert offsets.tolist() == [[x, y] for x in range(5) for y in range(3)]  # the last one too
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("bias", [0.0, 1.0])
@pytest.mark.parametrize("turn", [0, 90, 180])
def test_what_is_not_resampled_is_not_blurred(bias, turn):
    rng = np.random.default_rng(0)
    transform = turned(turn, offset=(0.3, 0.4))
    transform = SpatialTransform(np.rint(transform.linear), transform.offset)
    grid = np.array([[0.0, 0], [5, 3], [11, 7]])
    for _ in range(50):
        centre = centre_of(PatchBias(PATCH, bias), rng, a_sample([[40.21, 30.77]]), transform)
        shown = transform.to_source(grid, centre, PATCH)
        np.testing.assert_allclose(shown, np.rint(shown), atol=1e-9)


def test_patches_of_volumes_hold_a_landmark():
    sample, size = a_sample([[20.2, 11.9, 3.4]]), (9, 8, 7)
    shown = places(PatchBias(size, 1.0), identity(3), sample, 300, (40, 30, 20))
    assert is_inside(shown, size).all()


# Patches around predictions


def test_a_patch_is_centred_on_what_an_earlier_run_saw():
    sample = a_sample([[40.0, 30.0], [70.0, 20.0], [np.nan, np.nan]], [0, 0, State.UNLABELLED])
    seen = np.array([[44.0, 28.0], [np.nan, np.nan], [10.0, 60.0]])
    matrix = affine_matrix(np.diag([2.0, 2.0]), np.array([0.5, 0.5]))  # the image is half its original size
    sampling = pickle.loads(pickle.dumps(PatchCentred(PATCH, 0.0, {"one": seen})))
    rng = np.random.default_rng(0)
    for transform in (turned(37, 1.3), elastic()):
        middles = []
        for _ in range(40):
            centre = centre_of(sampling, rng, sample, transform, matrix=matrix)
            middle = transform.to_source((np.array(PATCH) - 1) / 2, centre, PATCH)
            middles.append(tuple(np.round(matrix[:2, :2] @ middle + matrix[:2, 2], 6)))
        assert set(middles) == {(44.0, 28.0), (10.0, 60.0)}  # no patch for landmarks that were not found


def test_without_predictions_patches_are_around_the_annotations():
    sample = a_sample([[40.0, 30.0], [np.nan, np.nan]], [State.VISIBLE, State.UNLABELLED])
    rng = np.random.default_rng(0)
    shown = [
        centre_of(PatchCentred(PATCH, 5.0), rng, sample, turned(20)) + turned(20).offset for _ in range(2000)
    ]
    moved = np.array(shown) - [40.0, 30.0]
    assert np.abs(moved).max() <= 5
    for axis in range(2):
        assert chisquare(np.histogram(moved[:, axis], 10, (-5, 5))[0]).pvalue > 1e-3
    nothing = a_sample([[np.nan, np.nan]], [State.UNLABELLED])
    middle = centre_of(PatchCentred(PATCH, 5.0), rng, nothing, turned(20)) + turned(20).offset
    np.testing.assert_allclose(middle, [44.5, 34.5])


def test_a_prediction_outside_of_the_image_still_shows_something():
    sampling = PatchCentred(PATCH, 5.0, {"one": np.array([[-8.0, 75.0]])})
    rng = np.random.default_rng(0)
    for _ in range(20):
        middle = centre_of(sampling, rng, a_sample([[2.0, 68.0]]), turned(20)) + turned(20).offset
        assert middle[0] == 0
        assert middle[1] == 69


def test_jitter_can_belong_to_the_landmark():
    sample = a_sample([[40.0, 30.0], [60.0, 30.0]])
    other = Sample("two", sample.image, sample.coordinates, sample.states)

    def centres(sampling, sample, seed):
        rng = np.random.default_rng(seed)
        return {tuple(centre_of(sampling, rng, sample, turned(20))) for _ in range(40)}

    fixed = PatchCentred(PATCH, 5.0, seed=3)
    assert len(centres(fixed, sample, 0)) == 2
    assert centres(fixed, sample, 0) == centres(fixed, sample, 1)
    assert not centres(fixed, sample, 0) & centres(PatchCentred(PATCH, 5.0, seed=4), sample, 0)
    assert not centres(fixed, sample, 0) & centres(fixed, other, 0)
    assert len(centres(PatchCentred(PATCH, 5.0), sample, 0)) == 40
