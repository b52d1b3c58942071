from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lannunet_core.augment.schemes import SCHEMES, Drawn
from lannunet_core.augment.spatial import SpatialTransform

SIZES = [(96, 96), (96, 64), (33, 80), (24, 20, 28)]


def middle(size: tuple[int, ...]) -> np.ndarray:
    return (np.array(size) - 1) / 2


@settings(max_examples=100, deadline=None)
@given(scheme=st.sampled_from(list(SCHEMES)), seed=st.integers(0, 2**32), size=st.sampled_from(SIZES))
def test_to_output_undoes_to_source(scheme, seed, size):
    rng = np.random.default_rng(seed)
    spatial = SCHEMES[scheme]().draw(rng, size).spatial
    # Also far outside of the image, because augmentation moves most landmarks there that leave it.
    points = rng.uniform(-0.5, 1.5, (50, len(size))) * size
    centre = middle(size) + rng.uniform(-20, 20, len(size))
    source = spatial.to_source(points, centre, size)
    np.testing.assert_allclose(spatial.to_output(source, centre, size), points, atol=1e-5)
    output = spatial.to_output(points, centre, size)
    np.testing.assert_allclose(spatial.to_source(output, centre, size), points, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_the_strongest_elastic_field_is_inverted_too(size):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        elastic = SCHEMES["payer19"]().draw(rng, size).spatial.elastic
        spatial = SpatialTransform(np.eye(len(size)), np.zeros(len(size)), elastic)
        points = rng.uniform(-0.1, 1.1, (500, len(size))) * size
        back = spatial.to_source(spatial.to_output(points, middle(size), size), middle(size), size)
        np.testing.assert_allclose(back, points, atol=1e-6)


def test_points_keep_their_shape_and_missing_ones_stay_missing():
    size = (64, 48)
    spatial = next(
        drawn
        for seed in range(9)
        if (
            drawn := SCHEMES["AffineComplexElastic"]().draw(np.random.default_rng(seed), size).spatial
        ).elastic
    )
    points = np.random.default_rng(0).uniform(10, 40, (3, 4, 2))
    moved = spatial.to_output(points, middle(size), size)
    alone = spatial.to_output(points[1, 2], middle(size), size)
    np.testing.assert_allclose(moved[1, 2], alone, atol=1e-5)
    points[1, 2] = np.nan
    with_gap = spatial.to_output(points, middle(size), size)
    assert np.isnan(with_gap[1, 2]).all()
    assert np.isfinite(np.delete(with_gap.reshape(-1, 2), 6, axis=0)).all()
    assert np.isnan(spatial.to_source(points, middle(size), size)[1, 2]).all()


@pytest.mark.parametrize("size", SIZES)
def test_identity(size):
    identity = SpatialTransform.identity(len(size))
    points = np.random.default_rng(0).uniform(0, 20, (5, len(size)))
    np.testing.assert_allclose(identity.to_source(points, middle(size), size), points, atol=1e-12)
    assert identity.is_identity
    assert not identity.mirrored


def test_a_crop_shows_its_centre_in_its_middle():
    identity = SpatialTransform.identity(2)
    np.testing.assert_allclose(
        identity.to_source(np.array([0.0, 0.0]), np.array([50.0, 30.0]), (11, 21)), [45, 20]
    )


def test_a_flip_mirrors_about_the_middle_of_the_pixels():
    size = (31, 40)
    flip = SpatialTransform(np.diag([1.0, -1.0]), np.zeros(2))
    assert flip.mirrored
    points = np.array([[3.0, 0.0], [3.25, 38.5]])
    np.testing.assert_array_equal(flip.to_output(points, middle(size), size), [[3, 39], [3.25, 0.5]])


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_a_draw_pickles_small(scheme):
    for seed in range(20):
        drawn = SCHEMES[scheme]().draw(np.random.default_rng(seed), (512, 512))
        sent = pickle.dumps(drawn)
        assert len(sent) < 300_000
        received: Drawn = pickle.loads(sent)
        points = np.random.default_rng(1).uniform(0, 512, (9, 2))
        np.testing.assert_array_equal(
            received.spatial.to_output(points, middle((512, 512)), (512, 512)),
            drawn.spatial.to_output(points, middle((512, 512)), (512, 512)),
        )
        assert received.intensity == drawn.intensity
