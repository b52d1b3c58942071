import itertools
import math

import numpy as np
import torch
from hypothesis import example, given, settings, strategies as st
from lannunet_images import Windows

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
    # The last patch ends at the border, and extends beyond it only to fit the stride.
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


def test_a_margin_that_is_the_whole_patch_is_blended():
    """The margin is the whole patch, as with instance normalisation: a narrow cut would not avoid seams."""
    weights = Windows.over((160,), (32,), (16,)).weights(0)
    assert ((weights[48] > 0) & (weights[64].roll(16) > 0))[16:].all()
    steps = {start: weight.diff().abs().max().item() for start, weight in weights.items()}
    assert max(steps.values()) < 0.5, "a seam"
    narrower = Windows.over((160,), (32,), (8,)).weights(0)
    assert (narrower[64][:8] == 0).all()
