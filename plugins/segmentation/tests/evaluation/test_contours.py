"""Filling an outline gives the mask."""

import re

import numpy as np
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from lannunet_segmentation.evaluation.contours import outline


def loops(path):
    """Corners (x, y) of each closed loop of a path."""
    found = []
    for loop in path.split("z")[:-1]:
        head, steps = re.fullmatch(r"M(\d+ \d+)((?:[hv]-?\d+)*)", loop).groups()
        corners = [tuple(map(int, head.split()))]
        for way, length in re.findall(r"([hv])(-?\d+)", steps):
            x, y = corners[-1]
            corners.append((x + int(length), y) if way == "h" else (x, y + int(length)))
        found.append(corners)
    return found


def filled(path, shape):
    """The even-odd rule: a pixel is inside where a ray to the left crosses an odd number of edges."""
    crossings = np.zeros(shape, dtype=int)
    for corners in loops(path):
        for (x, y), (x_end, y_end) in zip(corners, corners[1:] + corners[:1], strict=True):
            assert (x == x_end) != (y == y_end)
            if x == x_end:
                crossings[min(y, y_end) : max(y, y_end), x:] += 1
    return crossings % 2 == 1


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_filled_outline_is_the_mask(mask):
    assert np.array_equal(filled(outline(mask), mask.shape), mask)


def test_nothing_has_no_outline():
    assert outline(np.zeros((3, 4), dtype=bool)) == ""


def test_straight_edges_are_one_step():
    mask = np.zeros((9, 30), dtype=bool)
    mask[2:5, 4:24] = True
    assert outline(mask) == "M4 2h20v3h-20z"


def test_a_hole_is_a_loop_of_its_own():
    mask = np.ones((5, 5), dtype=bool)
    mask[2, 2] = False
    assert len(loops(outline(mask))) == 2
