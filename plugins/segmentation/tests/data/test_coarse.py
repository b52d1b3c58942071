"""When a cascade is planned, and how coarse its first stage is."""

from math import prod

import pytest
from lannunet_segmentation.data.coarse import covered, first_stage

from lannunet_core import PlannedNetwork


def patch_of(side):
    """A network for patches of one size, whatever the image's."""
    return lambda spacing, median: PlannedNetwork(
        tuple(min(side, round(one)) for one in median), {}, 1.0, 1.0
    )


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_finest_spacing_at_which_a_patch_covers_a_quarter(dimensions):
    """By nnU-Net's formula: all axes grow by 3 % at a time."""
    median = (200.0,) * dimensions
    found = first_stage((1.0,) * dimensions, median, patch_of(64))
    steps = 1.0
    while (64 * steps / 200) ** dimensions < 0.25:
        steps *= 1.03
    assert found.spacing == (pytest.approx(steps, rel=1e-3),) * dimensions
    assert 0.25 <= covered(found.network, found.median) < 0.25 * 1.03**dimensions * 1.02


def test_a_fine_axis_grows_alone_until_it_is_similar():
    """With four times the spacing along z, x and y grow first."""
    found = first_stage((1.0, 1.0, 4.0), (200.0, 200.0, 38.0), patch_of(64))
    x, y, z = found.spacing
    assert x == y
    assert z == 4
    assert 1.56 <= x < 1.62
    found = first_stage((1.0, 1.0, 2.5), (512.0, 512.0, 120.0), patch_of(64))
    assert found.spacing[2] > 2.5
    assert found.spacing[2] / found.spacing[0] == pytest.approx(2, rel=0.04)


def test_no_cascade_where_a_patch_covers_enough_or_little_would_be_gained():
    assert first_stage((1.0, 1.0), (100.0, 100.0), patch_of(50)) is None
    assert first_stage((1.0, 1.0), (100.0, 100.0), patch_of(45)) is None  # 0.2 of the image
    found = first_stage((1.0, 1.0), (100.0, 100.0), patch_of(34))
    assert prod(found.median) < 100 * 100 / 2
