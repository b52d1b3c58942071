from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_segmentation.maps.labels import segmentation_labels
from lannunet_segmentation.types import IGNORE

# image size, size of a level, the stride between them (x, y[, z])
LEVELS = [
    ((24, 16), (24, 16), (1, 1)),
    ((24, 16), (12, 8), (2, 2)),
    ((24, 16), (6, 8), (4, 2)),
    ((21, 13), (6, 7), (4, 2)),  # the last block of an axis is cut off
    ((17, 9), (5, 3), (4, 4)),
    ((25, 16), (10, 16), (2.5, 1)),
    ((16, 12, 10), (8, 6, 10), (2, 2, 1)),
    ((9, 12, 5), (3, 3, 2), (4, 4, 4)),
]


def random_labels(size, seed=0, annotated=0.6):
    rng = np.random.default_rng(seed)
    shape = (2, *size[::-1])
    label = rng.integers(0, 4, shape)
    label[rng.random(shape) > annotated] = IGNORE
    weight = rng.random(shape) * (rng.random(shape) < 0.8)
    return label.astype(np.int16), weight


def reference(label, weight, level_size, strides):
    """A voxel of the level at a time, in float64."""
    shape, step = level_size[::-1], strides[::-1]
    labels = np.zeros((len(label), *shape), np.int64)
    weights = np.zeros((len(label), *shape))
    for index in np.ndindex(*labels.shape):
        middle, block = [index[0]], [slice(index[0], index[0] + 1)]
        for place, stride, full in zip(index[1:], step, label.shape[1:], strict=True):
            middle.append(min(int((place + 0.5) * stride), full - 1))
            inside = [p for p in range(full) if int((p + 0.5) / stride) == place]
            block.append(slice(inside[0], inside[-1] + 1))
        labels[index] = label[tuple(middle)]
        annotated = label[tuple(block)] != IGNORE
        if labels[index] != IGNORE and weight[tuple(middle)] > 0:
            weights[index] = weight[tuple(block)][annotated].mean()
    return labels, weights


@pytest.mark.parametrize(("size", "level", "strides"), LEVELS)
def test_each_level_against_its_definition(size, level, strides):
    label, weight = random_labels(size)
    found = segmentation_labels(torch.as_tensor(label), [size, level], torch.as_tensor(weight))
    labels, weights = reference(label, weight, level, strides)
    assert [one.dtype for one in found["segmentation"]] == [torch.int64] * 2
    assert [one.dtype for one in found["weight"]] == [torch.float32] * 2
    np.testing.assert_array_equal(found["segmentation"][0], label)
    np.testing.assert_allclose(found["weight"][0], np.where(label == IGNORE, 0, weight), rtol=1e-6)
    np.testing.assert_array_equal(found["segmentation"][1], labels)
    np.testing.assert_allclose(found["weight"][1], weights, rtol=1e-6)


@pytest.mark.parametrize(("size", "level", "strides"), LEVELS)
def test_without_a_weight_map_each_annotated_voxel_counts_one(size, level, strides):
    label = torch.as_tensor(random_labels(size)[0])
    found = segmentation_labels(label, [level])
    np.testing.assert_array_equal(found["weight"][0], found["segmentation"][0] != IGNORE)
    for constant in (0.1, 7.0):
        weighted = segmentation_labels(label, [level], torch.full(label.shape, constant))
        torch.testing.assert_close(weighted["weight"][0], constant * found["weight"][0], rtol=1e-6, atol=0)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(LEVELS), st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.5]))
def test_what_stands_where_nothing_counts_is_in_no_level(case, seed, annotated):
    size, level, _ = case
    label, weight = random_labels(size, seed, annotated)
    first = segmentation_labels(torch.as_tensor(label), [size, level], torch.as_tensor(weight))
    rng = np.random.default_rng(seed)
    # Other labels where there is no weight, and other weights, NaN too, where there is no label.
    unweighted = (label != IGNORE) & (weight == 0)
    label = np.where(unweighted, rng.integers(0, 4, label.shape), label)
    weight = np.where(label == IGNORE, rng.choice([5.0, np.nan], label.shape), weight)
    second = segmentation_labels(torch.as_tensor(label), [size, level], torch.as_tensor(weight))
    for before, after in zip(first["weight"], second["weight"], strict=True):
        assert torch.equal(before, after)
    for before, after, counts in zip(
        first["segmentation"], second["segmentation"], first["weight"], strict=True
    ):
        assert torch.equal(before[counts > 0], after[counts > 0])
        assert not counts[before == IGNORE].any()
