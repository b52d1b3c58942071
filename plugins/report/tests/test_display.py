"""Pixel values for display."""

import numpy as np
from lannunet_report.display import display_limits, to_display


def test_display_scales_any_type_to_grey_or_colour():
    grey = to_display(np.array([[[0, 1000], [2000, 4000]]], dtype=np.uint16))
    assert grey.shape == (2, 2, 3)
    assert grey.dtype == np.uint8
    assert (np.diff(grey[..., 0].ravel().astype(int)) > 0).all()
    assert to_display(np.zeros((2, 5, 4, 3))).shape == (5, 4, 3, 3)
    colours = to_display(np.stack([np.full((4, 4), level) for level in (0.0, 1.0, 2.0)]))
    assert colours[0, 0].tolist() == [0, 128, 255]
    assert to_display(np.full((1, 2, 2), np.nan)).max() == 0


def test_limits_leave_out_the_extremes():
    values = np.arange(1001.0)
    values[0], values[-1] = -1e6, 1e6
    assert display_limits(values) == (5, 995)
    assert display_limits(np.array([np.nan, 3.0, np.inf])) == (3, 3)
    assert display_limits(np.array([np.nan])) == (0, 1)
    assert to_display(values.reshape(1, 1, -1))[0, [0, 500, 1000], 0].tolist() == [0, 128, 255]


def test_limits_may_be_given():
    shown = to_display(np.array([[[0.0, 5.0, 10.0, 20.0, np.nan]]]), limits=(5, 15))
    assert shown[0, :, 0].tolist() == [0, 0, 128, 255, 0]
