import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from lannunet_segmentation.data.cutting import cut_box


@settings(deadline=None)
@given(st.data())
def test_a_box_is_what_padding_the_whole_array_and_slicing_gives(data):
    dimensions = data.draw(st.integers(2, 3))
    sides = [data.draw(st.integers(1, 9)) for _ in range(dimensions)]  # x, y[, z]
    size = [data.draw(st.integers(1, 14)) for _ in range(dimensions)]
    first = [data.draw(st.integers(1 - n, side - 1)) for n, side in zip(size, sides, strict=True)]
    array = np.random.default_rng(0).normal(size=(2, *reversed(sides)))
    far = 14
    padded = np.pad(array, [(0, 0), *[(far, far)] * dimensions], constant_values=-1)
    box = [slice(f + far, f + far + n) for f, n in zip(first, size, strict=True)]
    np.testing.assert_array_equal(cut_box(array, first, size, -1), padded[(slice(None), *reversed(box))])
    mirrored = cut_box(array, first, size)
    inside = cut_box(np.ones_like(array), first, size, 0) == 1
    np.testing.assert_array_equal(mirrored[inside], cut_box(array, first, size, -1)[inside])
    assert set(mirrored.ravel()) <= set(array.ravel())  # no values are invented outside


@pytest.mark.parametrize(
    ("first", "size", "expected"), [(-2, 5, [1, 0, 0, 1, 2]), (2, 4, [2, 3, 3, 2]), (0, 4, [0, 1, 2, 3])]
)
def test_outside_is_the_mirror_image(first, size, expected):
    row = np.arange(4)[None]
    np.testing.assert_array_equal(cut_box(row, [first, 0], [size, 1]), [expected])
