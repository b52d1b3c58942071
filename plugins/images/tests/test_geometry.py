import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from lannunet_images.geometry import affine_matrix, is_inside, resize_affine, transform_points
from torch.nn import functional

sides = st.integers(8, 4000)
dimensions = st.sampled_from([2, 3])
modes = st.sampled_from(["letterbox", "stretch"])


def sizes(count):
    return dimensions.flatmap(lambda d: st.tuples(*[st.tuples(*[sides] * d)] * count))


def corners(size):
    """The outer corners of an image, not the centres of its corner pixels."""
    return np.stack(np.meshgrid(*[(-0.5, s - 0.5) for s in size], indexing="ij"), -1).reshape(-1, len(size))


@given(sizes(2))
def test_stretch_maps_corners_to_corners(pair):
    original, wanted = pair
    mapped = transform_points(resize_affine(original, wanted, "stretch"), corners(wanted))
    np.testing.assert_allclose(mapped, corners(original), atol=1e-8)


@given(sizes(2))
def test_letterbox_keeps_the_aspect_and_centres(pair):
    original, wanted = (np.array(size) for size in pair)
    to_input = np.linalg.inv(resize_affine(original, wanted))
    scales = np.diag(to_input)[:-1]
    np.testing.assert_allclose(scales, (wanted / original).min())
    mapped = transform_points(to_input, corners(original))
    near, far = mapped.min(0) + 0.5, wanted - 0.5 - mapped.max(0)  # margins
    np.testing.assert_allclose(near, far, atol=1e-8)
    assert np.all(near > -1e-8)
    assert near.min() == pytest.approx(0, abs=1e-8)


@given(sizes(2), modes, st.integers(0, 2**32 - 1))
def test_there_and_back(pair, mode, seed):
    original, wanted = pair
    points = np.random.default_rng(seed).uniform(-10, 4010, (5, len(original)))
    matrix = resize_affine(original, wanted, mode)
    np.testing.assert_allclose(
        transform_points(np.linalg.inv(matrix), transform_points(matrix, points)), points
    )


def test_a_resized_point_keeps_its_place_in_the_picture():
    """Shrinking by averaging moves a blob's centroid as the affine says; another's resize as reference."""
    original, wanted = (160, 120), (40, 30)
    point = np.array([71.3, 44.8])
    y, x = np.mgrid[: original[1], : original[0]]
    blob = torch.from_numpy(np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / 50))
    small = functional.interpolate(blob[None, None], wanted[::-1], mode="area")[0, 0].numpy()
    centroid = (
        np.array([(small.sum(0) * np.arange(40)).sum(), (small.sum(1) * np.arange(30)).sum()]) / small.sum()
    )
    np.testing.assert_allclose(
        transform_points(resize_affine(original, wanted), centroid[None])[0], point, atol=0.01
    )


@given(st.floats(-math.pi, math.pi), dimensions)
def test_numpy_and_torch_agree_on_batches(angle, d):
    rng = np.random.default_rng(0)
    matrices = np.stack(
        [affine_matrix(rng.normal(size=(d, d)) * math.cos(angle), rng.normal(size=d)) for _ in range(3)]
    )
    points = rng.normal(size=(3, 4, d))
    mapped = transform_points(matrices, points)
    for matrix, before, after in zip(matrices, points, mapped, strict=True):
        homogeneous = np.c_[before, np.ones(4)] @ matrix.T
        np.testing.assert_allclose(after, homogeneous[:, :-1])
    from_torch = transform_points(torch.from_numpy(matrices), torch.from_numpy(points))
    np.testing.assert_allclose(from_torch.numpy(), mapped)


def test_inside_is_on_the_pixels():
    points = np.array(
        [[-0.5, 0], [9.49, 7.49], [9.5, 3], [3, 7.5], [-0.51, 2], [math.nan, 1], [math.nan] * 2]
    )
    np.testing.assert_array_equal(is_inside(points, (10, 8)), [True, True, *[False] * 5])


def test_a_letterbox_keeps_proportions_in_mm():
    """A CT with thick slices: with proportions in voxels, an input slice has 12 mm, and 15 of 64 are used."""
    spacing = np.array([0.7, 0.7, 3.0])
    matrix = resize_affine((512, 512, 60), (128, 128, 64), pixel=spacing)
    np.testing.assert_allclose(np.diag(matrix)[:-1] * spacing, 180 / 64)
    edges = transform_points(np.linalg.inv(matrix), corners((512, 512, 60)))
    assert np.ptp(edges, axis=0)[2] == pytest.approx(64)


@given(sizes(2), st.lists(st.floats(0.1, 5), min_size=3, max_size=3))
def test_a_letterbox_in_mm_fits_and_is_centred(pair, lengths):
    original, wanted = pair
    pixel = np.array(lengths[: len(original)])
    matrix = resize_affine(original, wanted, pixel=pixel)
    steps = np.diag(matrix)[:-1] * pixel
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)
    edges = transform_points(np.linalg.inv(matrix), corners(original))
    sides = np.ptp(edges, axis=0)
    assert (sides <= np.array(wanted) * (1 + 1e-9)).all()
    assert np.isclose(sides, wanted).any()
    np.testing.assert_allclose(edges.mean(0), (np.array(wanted) - 1) / 2, atol=1e-6)
    np.testing.assert_array_equal(
        resize_affine(original, wanted), resize_affine(original, wanted, pixel=[0.3] * len(original))
    )
