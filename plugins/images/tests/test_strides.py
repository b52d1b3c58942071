import pytest
from lannunet_images import level_scale


@pytest.mark.parametrize(
    ("full", "level", "stride"),
    [(512, 512, 1), (512, 32, 16), (75, 38, 2), (75, 5, 16), (3, 1, 4), (1, 1, 1), (50, 17, 50 / 17)],
)
def test_stride_is_a_power_of_two_where_sizes_allow(full, level, stride):
    assert level_scale((full,), (level,)) == (stride,)


def test_stride_of_each_axis():
    assert level_scale((64, 50, 9), (32, 17, 9)) == (2, 50 / 17, 1)
