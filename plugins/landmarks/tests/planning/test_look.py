"""Measured properties of a data set, against generated shapes with known ones."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from lannunet_landmarks.planning.look import mean_shape, mirror_pairs, named_pairs, turned_by
from scipy.spatial.transform import Rotation


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["left eye", "Right Eye", "nose"], [(0, 1)]),
        (["ear_R", "tip", "ear_L"], [(0, 2)]),
        (["leftHip", "kneeL", "rightHip", "kneeR"], [(0, 2), (1, 3)]),
        (["LElbow", "RElbow", "hip.l", "hip.r"], [(0, 1), (2, 3)]),
        (["lefteye", "righteye"], [(0, 1)]),
        (["paw1LH_top", "paw2LF_top", "paw3RF_top", "nose"], []),
        (["left", "left ear", "bright", "l"], []),
        (["eyeL", "eye_l", "eyeR"], [(0, 2)]),
        (["0", "1", "2"], []),
    ],
)
def test_pairs_by_names(names, pairs):
    assert list(named_pairs(names)) == pairs


def turned(shape, degrees, rng):
    """The shape turned by an angle about any axis, moved and scaled."""
    dimensions = shape.shape[1]
    if dimensions == 2:
        matrix = Rotation.from_euler("z", degrees, degrees=True).as_matrix()[:2, :2]
    else:
        axis = rng.normal(size=3)
        matrix = Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()
    return rng.uniform(0.5, 2) * shape @ matrix.T + rng.uniform(-50, 50, dimensions)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), degrees=st.floats(0, 170), dimensions=st.sampled_from([2, 3]))
def test_how_far_a_shape_is_turned(seed, degrees, dimensions):
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(7, dimensions)) * 20
    mean = mean_shape(shape[None])
    image = turned(shape, degrees, rng)
    image[3] = np.nan  # not labelled
    assert turned_by(image[None], mean) == pytest.approx(degrees, abs=1e-3)


def test_one_in_twenty_may_be_turned_further():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(7, 2))
    images = np.array([turned(shape, degrees, rng) for degrees in [*[4.0] * 97, 180.0, 180.0, 180.0]])
    assert turned_by(images, mean_shape(images[:90])) < 10
    every_way = np.array([turned(shape, degrees, rng) for degrees in range(0, 360, 5)])
    assert turned_by(every_way, mean_shape(every_way)) > 90
    assert turned_by(images[:, :2], mean_shape(images[:, :2])) is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), degrees=st.floats(0, 360), dimensions=st.sampled_from([2, 3]))
def test_a_symmetric_shape_has_its_pairs_however_it_lies(seed, degrees, dimensions):
    rng = np.random.default_rng(seed)
    half = rng.uniform(3, 10, (4, dimensions)) * ([1, 3] if dimensions == 2 else [1, 3, 9])
    mirror = np.ones(dimensions)
    mirror[0] = -1
    middle = rng.uniform(-1, 1, (1, dimensions)) * (1 - (mirror < 0))
    shape = np.concatenate([half, half * mirror, middle])
    pairs = mirror_pairs(mean_shape(turned(shape, degrees, rng)[None]), 0.01)
    assert pairs == ((0, 4), (1, 5), (2, 6), (3, 7))
    shape[0] += 5
    assert mirror_pairs(mean_shape(shape[None]), 0.01) == ()
