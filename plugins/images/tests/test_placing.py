"""The position at which a sample is cut, after its transform is drawn."""

import pickle

import numpy as np
import pytest
from lannunet_images import FullImage, on_pixels, showing, shown_box

from lannunet_core.augment.elastic import Elastic
from lannunet_core.augment.spatial import SpatialTransform
from lannunet_core.errors import UserError

SIZE = (12, 8)
MIDDLE = (np.array(SIZE) - 1) / 2


def turned(degrees, scale=1.0, offset=(0.0, 0.0), mirror=False):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    linear = np.array([[c, -s], [s, c]]) * scale
    if degrees % 90 == 0 and scale == 1:
        linear = np.rint(linear)
    return SpatialTransform(linear * ([-1, 1] if mirror else [1, 1]), np.array(offset))


def elastic():
    field = Elastic.draw(np.random.default_rng(0), SIZE, alpha=50, sigma=4)
    return SpatialTransform(turned(30, 1.2).linear, np.array([1.0, 2.0]), field)


TRANSFORMS = [turned(0), turned(37, 1.3, (3.0, -2.0)), turned(-100, 0.7, mirror=True), elastic()]


@pytest.mark.parametrize("size", [(64, 48), (33, 20, 17)])
def test_a_full_image_is_shown_as_it_is(size):
    sampling = pickle.loads(pickle.dumps(FullImage(size)))
    points = np.random.default_rng(0).uniform(0, 15, (5, len(size)))
    transform = SpatialTransform.identity(len(size))
    centre = sampling.centre(image_size=size)
    np.testing.assert_allclose(transform.to_source(points, centre, sampling.output_size), points, atol=1e-12)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_pixel_shows_what_it_is_meant_to(transform):
    rng = np.random.default_rng(1)
    for _ in range(20):
        source, pixel = rng.uniform(0, 90, 2), rng.uniform(0, 7, 2)
        centre = showing(source, pixel, transform, SIZE)
        np.testing.assert_allclose(transform.to_source(pixel, centre, SIZE), source, atol=1e-9)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
def test_what_need_not_be_resampled_is_not(degrees, mirror):
    transform = turned(degrees, offset=(0.3, 0.45), mirror=mirror)
    grid = np.array([[0.0, 0], [5, 3], [11, 7]])
    for centre in np.random.default_rng(0).uniform(10, 60, (20, 2)):
        moved = on_pixels(centre, transform, SIZE)
        shown = transform.to_source(grid, moved, SIZE)
        np.testing.assert_allclose(shown, np.rint(shown), atol=1e-9)
        assert np.abs(moved - centre).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("transform", [*TRANSFORMS[1:], turned(0, 2.0), turned(45)])
def test_what_is_resampled_anyway_stays_in_place(transform):
    centre = np.array([20.3, 31.7])
    assert on_pixels(centre, transform, SIZE) is centre


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_box_holds_all_that_a_sample_shows(transform):
    image_size = (60, 50)
    rows = np.stack(np.meshgrid(*map(np.arange, SIZE), indexing="ij"), -1).reshape(-1, 2).astype(float)
    for centre in ([30.0, 25.0], [2.0, 48.0]):
        channels, *sides = shown_box(transform, np.array(centre), SIZE, image_size, "one")
        assert channels == slice(None)
        first = np.array([side.start for side in reversed(sides)])
        last = np.array([side.stop for side in reversed(sides)]) - 1
        assert (first >= 0).all() and (last < image_size).all()
        seen = transform.to_source(rows, np.array(centre), SIZE)
        seen = seen[((seen >= 0) & (seen <= np.array(image_size) - 1)).all(1)]
        assert (seen >= first).all() and (seen <= last).all()


def test_a_sample_that_shows_nothing_is_refused():
    with pytest.raises(UserError, match=r'"one": a patch around \(400, 20\) shows nothing .* 60×50 pixels'):
        shown_box(turned(0), np.array([400.0, 20.0]), SIZE, (60, 50), "one")
