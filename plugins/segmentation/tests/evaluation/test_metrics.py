"""Overlap and surface distances against plain loops over voxels."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from lannunet_segmentation.evaluation.metrics import case_metrics, percentile_95, surface_distances
from lannunet_segmentation.types import IGNORE
from scipy import ndimage

SHAPES = st.sampled_from([(4, 5), (1, 7), (3, 4, 5), (2, 1, 6)])


def surface(voxels, known, shape):
    """Voxels of a set with a face neighbour that is known and not in the set, or beyond the image."""
    found = []
    for voxel in voxels:
        for axis, step in itertools.product(range(len(shape)), (-1, 1)):
            other = tuple(v + step * (a == axis) for a, v in enumerate(voxel))
            beyond = not all(0 <= v < size for v, size in zip(other, shape, strict=True))
            if beyond or (other in known and other not in voxels):
                found.append(voxel)
                break
    return found


def distances(start, ends, spacing):
    steps = spacing[::-1]
    return [
        min(sum(((u - v) * s) ** 2 for u, v, s in zip(a, b, steps, strict=True)) ** 0.5 for b in ends)
        for a in start
    ]


def percentile(values, q):
    """The percentile with its rank in single precision, as in torch and MONAI."""
    values = sorted(values)
    place = float(np.float32(q / 100) * np.float32(len(values) - 1))
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (place - low) * (values[high] - values[low])


def reference(predicted, target, spacing, index, weight):
    """Dice, weighted Dice, 95 % Hausdorff and mean surface distance of one class, voxel by voxel."""
    voxels = set(np.ndindex(target.shape))
    known = {v for v in voxels if target[v] != IGNORE}
    p, t = ({v for v in known if labels[v] == index} for labels in (predicted, target))
    nan = float("nan")
    dice = 2 * len(p & t) / (len(p) + len(t)) if p or t else nan
    total = sum(float(weight[v]) for v in p) + sum(float(weight[v]) for v in t)
    weighted = 2 * sum(float(weight[v]) for v in p & t) / total if total else nan
    a, b = (surface(mask, known, target.shape) for mask in (p, t))
    if not a or not b:
        return dice, weighted, nan, nan
    there, back = distances(a, b, spacing), distances(b, a, spacing)
    mean = sum(there + back) / (len(there) + len(back))
    return dice, weighted, max(percentile(there, 95), percentile(back, 95)), mean


def figures(metrics):
    return metrics.dice, metrics.weighted_dice, metrics.hausdorff95, metrics.mean_surface_distance


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_figures_equal_a_loop_over_voxels(data):
    shape = data.draw(SHAPES)
    predicted = data.draw(arrays(np.int16, shape, elements=st.integers(0, 3)))
    target = data.draw(arrays(np.int16, shape, elements=st.sampled_from([IGNORE, 0, 1, 1, 2, 3])))
    weight = data.draw(arrays(np.float32, shape, elements=st.sampled_from([0, 0.25, 1, 3])))
    spacing = (0.5, 2.0, 3.0)[: len(shape)]
    found = case_metrics(predicted, target, spacing, (1, 2, 3), weight)
    for index, metrics in zip((1, 2, 3), found, strict=True):
        assert metrics.index == index
        wanted = reference(predicted, target, spacing, index, weight)
        assert figures(metrics) == pytest.approx(wanted, nan_ok=True, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_what_nobody_annotated_changes_nothing(data):
    """Metrics are bit-equal for any prediction and any weight there."""
    shape = data.draw(SHAPES)
    target = data.draw(arrays(np.int16, shape, elements=st.sampled_from([IGNORE, IGNORE, 0, 1, 2])))
    known = target != IGNORE
    first, second = (data.draw(arrays(np.int16, shape, elements=st.integers(-1, 2))) for _ in range(2))
    weight = data.draw(arrays(np.float32, shape, elements=st.sampled_from([0, 0.5, 7])))
    results = [
        case_metrics(np.where(known, first, other), target, (1, 2, 3)[: len(shape)], (1, 2), w)
        for other, w in ((first, weight), (second, np.where(known, weight, 99)))
    ]
    assert repr(results[0]) == repr(results[1])


@pytest.mark.parametrize(
    ("predicted", "target", "state", "dice"),
    [
        ((0, 0), (0, 0), "absent", float("nan")),
        ((0, 0), (1, 0), "missed", 0.0),
        ((1, 0), (0, 0), "invented", 0.0),
        ((1, 0), (IGNORE, 0), "absent", float("nan")),
        ((1, 0), (1, 1), "both", 2 / 3),
    ],
)
def test_a_class_that_one_side_lacks(predicted, target, state, dice):
    arrays_ = (np.array([labels, (0, 0)], dtype=np.int16) for labels in (predicted, target))
    (metrics,) = case_metrics(*arrays_, (1, 1), (1,))
    assert metrics.state == state
    assert metrics.dice == pytest.approx(dice, nan_ok=True)
    assert np.isnan(metrics.hausdorff95) == np.isnan(metrics.mean_surface_distance) == (state != "both")
    assert metrics.weighted_dice is None


def test_distances_count_the_spacing_of_each_axis():
    first, second = np.zeros((2, 20, 20, 20), dtype=bool)
    first[5, 5, 5] = second[7, 9, 10] = True
    expected = ((2 * 3) ** 2 + (4 * 0.5) ** 2 + (5 * 2) ** 2) ** 0.5
    assert surface_distances(first, second, (2.0, 0.5, 3.0)) == pytest.approx((expected, expected))


def test_an_outlier_moves_the_mean_but_hardly_the_percentile():
    square = np.zeros((60, 60), dtype=bool)
    square[10:20, 10:20] = True
    with_speck = square.copy()
    with_speck[50, 50] = True
    hausdorff, mean = surface_distances(with_speck, square, (1, 1))
    assert hausdorff == 0
    assert mean == pytest.approx(np.hypot(31, 31) / (36 + 36 + 1))


def test_slices_between_ignored_ones_have_their_own_outlines():
    """Their faces do not count, because the voxels above and below them are unknown."""
    target = np.full((9, 20, 20), IGNORE, dtype=np.int16)
    target[4] = 0
    target[4, 5:15, 5:15] = 1
    predicted = np.zeros_like(target)
    predicted[:, 6:14, 5:15] = 1
    (metrics,) = case_metrics(predicted, target, (1, 1, 5), (1,))
    flat = surface_distances(predicted[4] == 1, target[4] == 1, (1, 1))
    assert (metrics.hausdorff95, metrics.mean_surface_distance) == flat
    assert metrics.mean_surface_distance > 0.5


def test_distances_of_large_shapes_equal_a_distance_transform():
    z, y, x = np.ogrid[:40, :60, :50]
    first = (z - 20) ** 2 * 4 + (y - 30) ** 2 + (x - 25) ** 2 < 300
    second = (z - 21) ** 2 * 5 + (y - 27) ** 2 + (x - 26) ** 2 < 350
    spacing = (0.8, 0.7, 2.5)
    faces = ndimage.generate_binary_structure(3, 1)
    surfaces = [mask & ~ndimage.binary_erosion(mask, faces) for mask in (first, second)]
    far = [ndimage.distance_transform_edt(~each, sampling=spacing[::-1]) for each in surfaces]
    there, back = far[1][surfaces[0]], far[0][surfaces[1]]
    found = surface_distances(first, second, spacing)
    assert found[0] == pytest.approx(max(percentile(there, 95), percentile(back, 95)), rel=1e-12)
    assert found[1] == pytest.approx(np.concatenate([there, back]).mean())


def test_constant_weights_are_no_weights():
    rng = np.random.default_rng(0)
    predicted, target = rng.integers(0, 3, size=(2, 6, 7, 8)).astype(np.int16)
    for factor in (0.1, 1, 7):
        weight = np.full(target.shape, factor, dtype=np.float16)
        for metrics in case_metrics(predicted, target, (1, 1, 1), (1, 2), weight):
            assert metrics.weighted_dice == pytest.approx(metrics.dice, rel=1e-12)


def test_the_percentile_is_that_of_torch_in_single_precision():
    """500 vectors; for some of them the exact rank gives another value."""
    rng = np.random.default_rng(0)
    off = []
    for _ in range(500):
        values = rng.gamma(2, 3, rng.integers(1, 4000)).astype(np.float32)
        wanted = torch.quantile(torch.from_numpy(values), 0.95).item()
        assert percentile_95(values.astype(float)) == pytest.approx(wanted, rel=2e-7)
        off.append(abs(np.percentile(values.astype(float), 95) / wanted - 1))
    assert max(off) > 1e-6
