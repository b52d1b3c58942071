import itertools
import math

import numpy as np
import torch
from hypothesis import example, given, settings, strategies as st

from lannunet_core import Windows

sides = st.tuples(st.integers(1, 300), st.integers(1, 70), st.integers(0, 40), st.sampled_from([1, 2, 4, 8]))


@given(sides)
@example((1, 1, 0, 1))
@example((7, 8, 40, 8))
@settings(deadline=None)
def test_weights_sum_to_one_at_every_pixel(side):
    image, patch, margin, stride = side
    if stride > patch:
        return
    windows = Windows.over((image,), (patch,), (margin,), (stride,))
    (starts,) = windows.starts
    assert starts[0] == 0
    # The last patch ends at the border, and beyond it only for the stride's sake.
    assert max(image, patch) <= windows.covered_size[0] < max(image, patch) + stride
    assert all(b - a <= max(patch // 2, stride) for a, b in itertools.pairwise(starts))
    for level in (1, stride):
        total = np.zeros(windows.covered_size[0] + patch)
        for start, weight in windows.weights(0, level).items():
            assert (weight >= 0).all()
            assert len(weight) == math.ceil(patch / level)
            total[start // level : start // level + len(weight)] += weight.numpy()
        covered = math.ceil(image / level)
        np.testing.assert_allclose(total[:covered], 1, atol=1e-12)
        np.testing.assert_array_equal(total[covered:], 0)


def test_the_middle_of_a_patch_weighs_most():
    weights = Windows.over((160,), (32,), (0,)).weights(0)
    inner = weights[64]
    assert inner.argmax() in (15, 16)
    assert inner[16] > 5 * inner[4]
    torch.testing.assert_close(inner, inner.flip(0))
