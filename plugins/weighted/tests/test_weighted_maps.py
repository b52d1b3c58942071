import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from lannunet_weighted.maps import weight_map
from numpy.typing import NDArray
from scipy import ndimage


@st.composite
def labels(draw: st.DrawFn) -> tuple[NDArray[np.int16], tuple[float, ...], int]:
    """Blobs of up to 3 classes in 2D or 3D, a spacing (x, y[, z]) and the number of classes."""
    dimensions, count = draw(st.integers(2, 3)), draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(2, 40 if dimensions == 2 else 16)) for _ in range(dimensions))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    fields = ndimage.gaussian_filter(
        rng.standard_normal((count + 1, *shape)), (0, *[draw(st.sampled_from([0.5, 2.0]))] * dimensions)
    )
    sides = st.just(1.0) if draw(st.booleans()) else st.sampled_from([0.4, 1.0, 2.5])
    spacing = tuple(draw(sides) for _ in range(dimensions))
    return fields.argmax(0).astype(np.int16), spacing, count


def class_weights(label: NDArray[np.int16], count: int) -> NDArray[np.float64]:
    weights = np.zeros(label.shape)
    for value in range(count + 1):
        share = (label == value).mean()
        weights[label == value] = 1 - share if share < 1 else 1
    return weights


def scipy_nearest(
    label: NDArray[np.int16], count: int, steps: tuple[float, ...], w0: float, sigma: float
) -> NDArray[np.float64]:
    """The simple computation over the whole volume."""
    cross = ndimage.generate_binary_structure(label.ndim, 1)
    interior = np.zeros(label.shape, bool)
    for value in range(1, count + 1):
        interior |= ndimage.binary_erosion(label == value, cross)
    weights = class_weights(label, count)
    if interior.any():
        distance = ndimage.distance_transform_edt(~interior, sampling=steps)
        weights += np.where(interior, 0, w0 * np.exp(-(distance**2) / (2 * sigma**2)))
    return weights


def brute_unet(
    label: NDArray[np.int16],
    objects: list[NDArray[np.bool_]],
    count: int,
    steps: tuple[float, ...],
    w0,
    sigma,
) -> NDArray[np.float64]:
    """Every voxel of no object against every voxel of every object."""
    weights = class_weights(label, count)
    places = np.stack(np.indices(label.shape), -1) * np.array(steps)
    for index in zip(*np.nonzero(~np.any(objects, axis=0)), strict=True) if objects else ():
        ways = sorted(np.linalg.norm(places[mask] - places[index], axis=-1).min() for mask in objects)
        if len(ways) > 1:
            weights[index] += w0 * np.exp(-((ways[0] + ways[1]) ** 2) / (2 * sigma**2))
    return weights


def components(label: NDArray[np.int16], count: int) -> list[NDArray[np.bool_]]:
    found = [ndimage.label(label == value) for value in range(1, count + 1)]
    return [parts == number for parts, total in found for number in range(1, total + 1)]


@settings(max_examples=60, deadline=None)
@given(labels(), st.sampled_from([0.7, 2.0, 5.0, 40.0]), st.sampled_from([0.0, 1.0, 10.0]))
def test_nearest_is_the_plain_scipy_way(drawn, sigma, w0):
    label, spacing, count = drawn
    expected = scipy_nearest(label, count, spacing[::-1], w0, sigma)

    weights = weight_map(label, range(1, count + 1), "nearest", w0=w0, sigma=sigma, spacing=spacing)

    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=2e-6)


@settings(max_examples=40, deadline=None)
@given(labels(), st.sampled_from([0.4, 1.0, 5.0]))
def test_unet_is_the_brute_force_way(drawn, sigma):
    label, spacing, count = drawn
    label = label[tuple(slice(12) for _ in label.shape)]
    expected = brute_unet(label, components(label, count), count, spacing[::-1], 10.0, sigma)

    weights = weight_map(label, range(1, count + 1), "unet", sigma=sigma, spacing=spacing)

    np.testing.assert_allclose(weights, expected, rtol=4e-6, atol=2e-6)


@pytest.mark.parametrize("shape", [(70, 160), (20, 40, 60)])
def test_unet_of_objects_further_apart_than_they_reach(shape):
    rng = np.random.default_rng(1)
    label = np.zeros(shape, np.int16)
    for number in range(25):
        corner = [rng.integers(0, side - 4) for side in shape]
        label[tuple(slice(c, c + rng.integers(1, 9)) for c in corner)] = 1 + number % 2
    steps = (1.7, 0.6, 1.1)[: len(shape)]
    distances = np.sort(
        [ndimage.distance_transform_edt(~mask, sampling=steps) for mask in components(label, 2)], axis=0
    )
    assert distances[0].max() > 10  # far beyond 6.3 σ
    border = 10 * np.exp(-((distances[0] + distances[1]) ** 2) / 2)
    expected = class_weights(label, 2) + np.where(label > 0, 0, border)

    weights = weight_map(label, [1, 2], "unet", sigma=1.0, spacing=steps[::-1])

    np.testing.assert_allclose(weights, expected, rtol=4e-6, atol=2e-6)


def test_instances_are_objects_of_one_class_even_where_they_touch():
    label = np.zeros((9, 11), np.int32)
    label[2:6, 2:5] = 4
    label[2:6, 5:9] = 9000
    masks = [label == 4, label == 9000]
    expected = brute_unet((label > 0).astype(np.int16), masks, 1, (1, 1), 10.0, 2.0)

    weights = weight_map(label, (), "unet", sigma=2.0, objects="instances")

    np.testing.assert_allclose(weights, expected, rtol=4e-6)
    assert weights[1, 4] > 4 > 1 > weights[3, 4]  # where they meet, beside them and within


def test_values_that_are_no_chosen_class_are_background():
    label = np.zeros((12, 12), np.int16)
    label[1:5, 1:5], label[7:11, 7:11] = 1, 2
    without = np.where(label == 2, 2, 0)

    for mode in ("unet", "nearest"):
        np.testing.assert_array_equal(
            weight_map(label, [2], mode), weight_map(without.astype(np.int16), [2], mode)
        )


def test_a_slice_of_a_volume_is_an_image():
    label = np.zeros((14, 17), np.int16)
    label[2:9, 3:8] = label[4:9, 10:15] = 1

    for mode in ("unet", "nearest"):
        np.testing.assert_allclose(
            weight_map(label[None], [1], mode)[0], weight_map(label, [1], mode), rtol=1e-6
        )


def test_ignored_voxels_count_in_no_share_and_make_no_border():
    label = np.zeros((20, 20), np.int16)
    label[5:15, 5:15] = 1
    partly = label.copy()
    partly[:, 10:] = -1
    known = label[:, :10]

    weights = weight_map(partly, [1], "nearest", w0=0)
    assert weights[0, 0] == pytest.approx(1 - (known == 0).mean())
    assert weights[10, 7] == pytest.approx(1 - (known == 1).mean())
    assert (weights[:, 10:] == 1).all()

    inside = weight_map(partly, [1], "nearest")[10, 9] - weights[10, 9]
    assert inside == 0  # an interior, though its neighbour is not annotated


def test_ignored_voxels_are_no_object():
    label = np.zeros((10, 30), np.int16)
    label[3:7, 3:7] = 1
    label[3:7, 10:14] = -1

    assert np.ptp(weight_map(label, [1], "unet")[label == 0]) == 0


@pytest.mark.parametrize("mode", ["unet", "nearest"])
@pytest.mark.parametrize("value", [-1, 0])
def test_without_any_class_there_is_no_border(mode, value):
    weights = weight_map(np.full((6, 7, 5), value, np.int16), [1, 2], mode)

    assert (weights == 1).all()


def test_one_object_that_fills_the_image():
    weights = weight_map(np.ones((5, 6), np.int16), [1], "unet")

    assert (weights == 1).all()


def test_the_label_is_left_as_it_is():
    label = np.random.default_rng(0).integers(-1, 3, (9, 9)).astype(np.int16)
    before = label.copy()

    for mode in ("unet", "nearest"):
        weight_map(label, [1, 2], mode)

    np.testing.assert_array_equal(label, before)


@pytest.mark.parametrize("mode", ["unet", "nearest"])
@pytest.mark.parametrize("only", [0, 2])
def test_a_case_of_one_class_alone_trains(mode, only):
    """A healthy control, and scribbles of one class: annotated voxels have a weight above 0."""
    label = np.full((8, 9, 10), -1, np.int16)
    label[2:6] = only
    weights = weight_map(label, [1, 2], mode)
    assert (weights[label == only] >= 1).all()
    assert weight_map(np.full((8, 9), only, np.int16), [1, 2], mode).min() >= 1
