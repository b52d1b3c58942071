"""Shapes are compared independently of position, rotation and size."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from lannunet_landmarks.loop.shapes import Shapes, aligned
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.transform import Rotation

DIMENSIONS = st.sampled_from([2, 3])
SEEDS = st.integers(0, 10_000)


def turn(rng, dimensions):
    if dimensions == 3:
        return Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
    angle = rng.uniform(-np.pi, np.pi)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


@given(SEEDS, DIMENSIONS)
def test_place_turn_and_size_do_not_matter(seed, dimensions):
    rng = np.random.default_rng(seed)
    known = [rng.normal(size=(6, dimensions)) * 0.1 + np.eye(6)[:, :dimensions] for _ in range(4)]
    shapes, other = Shapes(known), rng.normal(size=(6, dimensions))
    moved = rng.uniform(0.1, 9) * other @ turn(rng, dimensions).T + rng.normal(size=dimensions) * 50
    assert shapes.distance(moved) == pytest.approx(shapes.distance(other), rel=1e-6)
    elsewhere = [3.0 * one @ turn(rng, dimensions).T - 7 for one in known]
    assert Shapes(elsewhere).distance(other) == pytest.approx(shapes.distance(other), rel=1e-6)


@given(SEEDS, DIMENSIONS)
def test_the_turn_is_that_of_procrustes(seed, dimensions):
    """SciPy's orthogonal Procrustes problem, where its solution is no mirror image."""
    rng = np.random.default_rng(seed)
    points, mean = rng.normal(size=(2, 7, dimensions))
    a, b = points - points.mean(axis=0), mean - mean.mean(axis=0)
    rotation, scale = orthogonal_procrustes(a, b)
    found = aligned(points, mean)
    if np.linalg.det(rotation) > 0:
        expected = a @ rotation * scale / (a**2).sum() + mean.mean(axis=0)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    else:  # a mirror image would be closer, but is not allowed
        assert np.linalg.det(np.linalg.lstsq(a, found - mean.mean(axis=0), rcond=None)[0]) > 0


def test_a_shape_with_one_landmark_elsewhere_is_farther_than_any_known():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(8, 2)) * 10
    known = [base + rng.normal(size=base.shape) * 0.2 for _ in range(10)]
    odd = base.copy()
    odd[3] += 15
    shapes = Shapes(known)
    assert shapes.distance(odd) > 2 * max(map(shapes.distance, known))
    mirrored = base * [-1, 1]
    assert shapes.distance(mirrored) > 2 * max(map(shapes.distance, known))


def test_what_is_not_placed_takes_no_part():
    rng = np.random.default_rng(1)
    base = rng.normal(size=(6, 2))
    known = [base + rng.normal(size=base.shape) * 0.01 for _ in range(5)]
    known[0][2] = np.nan
    shapes = Shapes([*known, np.full((6, 2), np.nan)])
    assert np.isfinite(shapes.mean).all()
    part = base.copy()
    part[4] = np.nan
    assert shapes.distance(part) < 2
    part[:4] = np.nan
    assert shapes.distance(part) == np.inf
    with pytest.raises(ValueError, match="three points"):
        Shapes([np.array([[0.0, 1.0], [1.0, 0.0], [np.nan, np.nan]])])
