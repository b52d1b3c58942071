"""Normalisations of a channel by part of its pixels."""

import numpy as np
import pytest
from lannunet_images import ZSCORES, Window, prepare_image

METAL, PADDING, TISSUE = 30_000.0, -3024.0, 300.0


def tissue(dimensions=3):
    return np.random.default_rng(0).normal(40, TISSUE, (100, 100, 20)[:dimensions]).astype(np.float32)


def with_metal(pixels):
    """0.5 % of it, in one block."""
    pixels = pixels.copy()
    pixels.reshape(-1)[: pixels.size // 200] = METAL
    return pixels, pixels != METAL


def with_padding(pixels):
    """30 %, along one axis."""
    pixels = pixels.copy()
    pixels[:30] = PADDING
    return pixels, pixels != PADDING


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(("spoil", "plain"), [(with_metal, 0.14), (with_padding, 0.21)])
def test_percentiles_keep_the_contrast_that_a_zscore_loses(dimensions, spoil, plain):
    pixels, is_tissue = spoil(tissue(dimensions))
    found, _ = prepare_image(pixels[None], None, "letterbox")
    assert found[0][is_tissue].std() == pytest.approx(plain, abs=0.01)
    found, _ = prepare_image(pixels[None], None, "letterbox", [ZSCORES["percentile"]])
    assert found[0][is_tissue].std() == pytest.approx(1, abs=0.05)
    assert found[0][is_tissue].mean() == pytest.approx(0, abs=0.05)
    assert np.abs(found).max() < 4


def test_padding_is_known_after_a_resize():
    pixels, _ = with_padding(tissue(2))
    found, _ = prepare_image(pixels[None], (70, 63), "stretch", [ZSCORES["percentile"]])
    assert found[0][22:].std() == pytest.approx(1, abs=0.05)


def test_a_window_is_that_of_the_numbers():
    pixels = np.array([-2000.0, -100, 0, 100, 5000], np.float32)
    np.testing.assert_allclose(Window(-100, 200, 50, 100)(pixels), [-1.5, -1.5, -0.5, 0.5, 1.5])
    assert not Window(0, 1, 0.5, 0)(pixels).any()


def test_only_what_is_not_zero_counts_and_zero_stays():
    pixels = tissue() + 1000
    pixels[:, :50] = 0
    pixels[50, 70, 10] = 0  # a hole is inside
    found = ZSCORES["nonzero"](pixels)
    assert not found[:, :50].any()
    inside = found[:, 50:].astype(np.float64)
    assert (inside.mean(), inside.std()) == (pytest.approx(0, abs=1e-3), pytest.approx(1, abs=1e-3))
    assert found[50, 70, 10] < -3


@pytest.mark.parametrize("name", ZSCORES)
@pytest.mark.parametrize("value", [0.0, 1234.567])
def test_a_flat_channel_becomes_zeros(name, value):
    assert not ZSCORES[name](np.full((5, 6), value, np.float32)).any()
