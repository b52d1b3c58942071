"""Image and points move together, in both packages: spots drawn at points are found where the points go."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_images import on_device
from lannunet_imgaug import augment as with_imgaug
from lannunet_segmentation import IGNORE

from lannunet_core.augment.schemes import SCHEMES, Drawn, IntensityOp, SpatialTransform
from lannunet_core.errors import UserError

SIZES_2D = [(128, 128), (128, 96), (97, 121)]
SIZES_3D = [(48, 48, 48), (56, 40, 47)]
SPOT = 1.5  # standard deviation, px

# Noise hides a spot's centroid, and emboss shifts it.
MOVING = ("add", "multiply", "emboss")

Warp = Callable[[np.ndarray, Drawn, np.ndarray, tuple[int, ...], str, float], np.ndarray]
Apply = Callable[[np.ndarray, Drawn, np.ndarray, tuple[int, ...]], np.ndarray]


def with_torch(image: np.ndarray, drawn: Drawn, centre: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    images = torch.as_tensor(image, dtype=torch.float32)[None]
    return on_device.augment(images, [drawn], torch.as_tensor(centre)[None], size)[0].numpy()


def warp_with_torch(
    maps: np.ndarray, drawn: Drawn, centre: np.ndarray, size: tuple[int, ...], interpolation: str, fill: float
) -> np.ndarray:
    moved = on_device.warp(
        torch.as_tensor(maps)[None], [drawn], torch.as_tensor(centre)[None], size, interpolation, fill
    )
    return moved[0].numpy()


@pytest.fixture(scope="module", params=["torch", "imgaug"])
def package(request: pytest.FixtureRequest) -> str:
    if request.param == "imgaug":
        try:
            with_imgaug.load()
        except UserError as error:
            pytest.skip(str(error))
    return request.param


@pytest.fixture(scope="module")
def apply(package: str) -> Apply:
    return with_torch if package == "torch" else with_imgaug.augment


@pytest.fixture(scope="module")
def warp(package: str) -> Warp:
    return warp_with_torch if package == "torch" else with_imgaug.warp


def spots(points: np.ndarray, size: tuple[int, ...], deviation: float = SPOT) -> np.ndarray:
    """One Gaussian spot per channel, (P, *S)."""
    image = np.ones((len(points), *[1] * len(size)))
    for axis, length in enumerate(size):
        line = np.exp(-((np.arange(length) - points[:, axis, None]) ** 2) / (2 * deviation**2))
        shape = [len(points), *[length if other == axis else 1 for other in reversed(range(len(size)))]]
        image = image * line.reshape(shape)
    return image


def centroids(image: np.ndarray) -> np.ndarray:
    """Centroids (P, D) of the pixels above the background of an image (P, *S)."""
    image = image.astype(np.float64)
    # Contrast changes the background, which is most of the image.
    image = image - np.median(image, axis=tuple(range(1, image.ndim)), keepdims=True)
    axes = range(1, image.ndim)
    found = []
    for axis in reversed(axes):
        line = image.sum(axis=tuple(other for other in axes if other != axis))
        found.append(line @ np.arange(line.shape[1]) / line.sum(1))
    return np.stack(found, -1)


def errors(apply: Apply, drawn: Drawn, size: tuple[int, ...], seed: int) -> np.ndarray:
    """Distances between centroids of spots and their transformed points, for spots away from the border."""
    points = np.random.default_rng([seed, 1]).uniform(0.1, 0.9, (8, len(size))) * (np.array(size) - 1)
    centre = (np.array(size) - 1) / 2
    expected = drawn.spatial.to_output(points, centre, size)
    margin = 7 * SPOT
    inside = np.all((expected > margin) & (expected < np.array(size) - 1 - margin), axis=1)
    inside &= np.all((points > margin) & (points < np.array(size) - 1 - margin), axis=1)
    if not inside.any():
        return np.zeros(0)
    found = centroids(apply(spots(points[inside], size), drawn, centre, size))
    return np.linalg.norm(found - expected[inside], axis=1)


def without_moving_operations(drawn: Drawn) -> Drawn:
    return Drawn(drawn.spatial, tuple(one for one in drawn.intensity if one.name not in MOVING))


@pytest.mark.parametrize("scheme", list(SCHEMES))
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.sampled_from(SIZES_2D))
def test_every_scheme_moves_image_and_points_together(apply, scheme, seed, size):
    drawn = without_moving_operations(SCHEMES[scheme]().draw(np.random.default_rng(seed), size))
    limit = 0.5 if drawn.spatial.elastic else 0.1
    assert errors(apply, drawn, size, seed).max(initial=0) < limit


@pytest.mark.parametrize("scheme", list(SCHEMES))
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.sampled_from(SIZES_3D))
def test_every_scheme_moves_volume_and_points_together(scheme, seed, size):
    drawn = without_moving_operations(SCHEMES[scheme]().draw(np.random.default_rng(seed), size))
    limit = 0.5 if drawn.spatial.elastic else 0.1
    assert errors(with_torch, drawn, size, seed).max(initial=0) < limit


def assert_labels_move_with_the_image(warp: Warp, drawn: Drawn, size: tuple[int, ...], seed: int) -> None:
    """An image whose values are its pixel coordinates shows the source of each output pixel."""
    rng = np.random.default_rng([seed, 2])
    image_size = tuple(int(length + rng.integers(-length // 3, length // 3)) for length in size)
    centre = (np.array(image_size) - 1) / 2 + rng.uniform(-9, 9, len(size))
    lines = [np.arange(length, dtype=np.float64) for length in reversed(image_size)]
    coordinates = np.stack(np.meshgrid(*lines, indexing="ij")[::-1])
    label = rng.integers(IGNORE, 4, (1, *image_size[::-1])).astype(np.int16)

    outputs = [np.arange(length, dtype=np.float64) for length in reversed(size)]
    pixels = np.stack(np.meshgrid(*outputs, indexing="ij")[::-1], -1)
    source = drawn.spatial.to_source(pixels, centre, size)  # (*S, D)
    shown = np.moveaxis(warp(coordinates, drawn, centre, size, "linear", 0.0), 0, -1)
    inside = ((source >= 0) & (source <= np.array(image_size) - 1)).all(-1)
    np.testing.assert_allclose(shown[inside], source[inside], atol=0.03)
    np.testing.assert_allclose(drawn.spatial.to_output(source, centre, size), pixels, atol=1e-4)

    found = warp(label, drawn, centre, size, "nearest", float(IGNORE))[0]
    nearest = np.rint(source).astype(int)
    decided = (np.abs(source - np.floor(source) - 0.5) > 0.03).all(-1)  # not half-way between two pixels
    there = ((nearest >= 0) & (nearest < np.array(image_size))).all(-1)
    expected = np.full(found.shape, IGNORE)
    expected[there] = label[0][tuple(nearest[there].T[::-1])]
    np.testing.assert_array_equal(found[decided], expected[decided])


@pytest.mark.parametrize("scheme", list(SCHEMES))
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([(48, 48), (48, 30), (21, 56), (17, 90)]))
def test_every_scheme_moves_image_points_and_labels_alike(warp, scheme, seed, size):
    drawn = SCHEMES[scheme]().draw(np.random.default_rng(seed), size)
    assert_labels_move_with_the_image(warp, drawn, size, seed)


@pytest.mark.parametrize("scheme", list(SCHEMES))
@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**32), size=st.sampled_from([(24, 24, 24), (28, 20, 23), (30, 26, 7), (13, 9, 31)])
)
def test_every_scheme_moves_volume_points_and_labels_alike(scheme, seed, size):
    drawn = SCHEMES[scheme]().draw(np.random.default_rng(seed), size)
    assert_labels_move_with_the_image(warp_with_torch, drawn, size, seed)


@pytest.mark.parametrize("size", [(32, 24), (31, 25), (2048, 16)])
def test_a_flip_is_exact(apply, size):
    image = np.random.default_rng(0).normal(size=(2, *size[::-1]))
    flip = Drawn(SpatialTransform(np.diag([1.0, -1.0]), np.zeros(2)))
    moved = apply(image, flip, (np.array(size) - 1) / 2, size)
    np.testing.assert_allclose(moved, image[:, ::-1], atol=1e-3)


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_large_images_are_placed_as_exactly_as_small_ones(apply, fraction):
    size = (2048, 64)
    points = np.array([[1.0 + x + fraction, 30.4] for x in (20, 700, 1020, 1999)])
    moved = Drawn(SpatialTransform(np.eye(2), np.array([0.37, -0.21])))
    image = apply(spots(points, size), moved, (np.array(size) - 1) / 2, size)
    np.testing.assert_allclose(
        centroids(image), points - [0.37, -0.21], atol=0.005 if apply is with_torch else 0.02
    )


@pytest.mark.parametrize("output_size", [(24, 30), (31, 17)])
def test_a_crop_is_cut_around_its_centre(apply, output_size):
    image = np.random.default_rng(0).normal(size=(1, 50, 60))
    corner = np.array([11, 7])
    centre = corner + (np.array(output_size) - 1) / 2
    cut = apply(image, Drawn(SpatialTransform.identity(2)), centre, output_size)
    expected = image[:, 7 : 7 + output_size[1], 11 : 11 + output_size[0]]
    np.testing.assert_allclose(cut, expected, atol=1e-4)


def test_outside_of_the_image_is_the_fill(apply):
    image = np.ones((1, 20, 20))
    away = Drawn(SpatialTransform(np.eye(2), np.array([500.0, 0.0])))
    centre = np.array([9.5, 9.5])
    assert (apply(image, away, centre, (20, 20)) == 0).all()


@pytest.mark.parametrize("size", [(96, 80), (95, 81)])
@pytest.mark.parametrize(
    "operation",
    [
        IntensityOp("gaussian_blur", {"sigma": 0.2}),
        IntensityOp("mean_blur", {"size": 3}),
        IntensityOp("mean_blur", {"size": 5}),
        IntensityOp("median_blur", {"size": 3}),
        IntensityOp("median_blur", {"size": 5}),
        IntensityOp("average_pooling", {"size": 2}),
        IntensityOp("sharpen", {"alpha": 0.5, "lightness": 0.5}),
        IntensityOp("contrast", {"factor": 1.6}),
    ],
    ids=lambda one: one.name,
)
def test_intensity_operations_stay_in_place(apply, operation, size):
    still = Drawn(SpatialTransform.identity(2), (operation,))
    assert errors(apply, still, size, 0).max() < 0.05
