import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings, strategies as st
from lannunet_images.geometry import resize_affine, transform_points
from lannunet_images.prepare import prepare_image, resample_axis, resample_matrix
from PIL import Image as pillow

from lannunet_core.errors import UserError
from lannunet_core.images.reader import read_image


@given(
    size=st.integers(8, 300),
    scale=st.floats(0.05, 12),
    shift=st.floats(-5, 5),
)
def test_ramps_are_reproduced_at_every_phase_and_scale(size, scale, shift):
    positions = scale * np.arange(int(size / scale) + 1) + shift
    weights = resample_matrix(size, positions, scale)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    reach = np.sqrt(max(scale**2 - 1, 0)) / 2 + 1
    away_from_edges = (positions > reach) & (positions < size - 1 - reach)
    np.testing.assert_allclose(
        (weights @ np.arange(size))[away_from_edges], positions[away_from_edges], atol=1e-4
    )


def test_the_same_size_changes_nothing():
    weights = resample_matrix(9, np.arange(9.0), 1.0)
    np.testing.assert_array_equal(weights.toarray(), np.eye(9))


def test_shrinking_averages_what_would_alias():
    """Without anti-aliasing, the finest pattern would be all white or all black after downsampling by 4."""
    stripes = np.arange(400) % 2
    shrunk = resample_matrix(400, 4 * np.arange(100) + 1.5, 4.0) @ stripes
    np.testing.assert_allclose(shrunk[2:-2], 0.5, atol=0.05)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_axis_is_resampled_and_the_others_stay(axis):
    values = np.random.default_rng(0).random((4, 5, 6), np.float32)
    weights = resample_matrix(values.shape[axis], np.array([0.5, 2.25, 3.0]), 1.5)
    expected = np.moveaxis(np.tensordot(weights.toarray(), values, (1, axis)), 0, axis)
    np.testing.assert_allclose(resample_axis(weights, values, axis), expected, rtol=1e-6)


def test_weights_are_the_average_of_the_interpolated_image():
    """Against the integral done numerically, in float64."""
    values = np.random.default_rng(0).random(40)
    scale, positions = 2.7, np.array([11.3, 20.0, 28.61])
    window = np.sqrt(scale**2 - 1)
    fine = (np.arange(20_000) + 0.5) / 20_000 - 0.5
    expected = [np.interp(p + window * fine, np.arange(40), values).mean() for p in positions]
    np.testing.assert_allclose(resample_matrix(40, positions, scale) @ values, expected, atol=1e-6)


def draw_blobs(size, centres, width):
    """Gaussians at float positions (x, y[, z]) of an image [z,] y, x."""
    axes = [np.arange(length) for length in size]
    image = np.zeros(size[::-1])
    for centre in centres:
        profiles = [np.exp(-((axis - c) ** 2) / (2 * width**2)) for axis, c in zip(axes, centre, strict=True)]
        blob = profiles[0]
        for profile in profiles[1:]:
            blob = np.multiply.outer(profile, blob)
        image += blob
    return image


def centroid(image, near, reach):
    """The centre of mass (x, y[, z]) of the pixels above the background around a point."""
    low = [max(round(c) - reach, 0) for c in near]
    window = image[tuple(slice(a, round(c) + reach + 1) for a, c in zip(low, near, strict=True))[::-1]]
    window = window - window.min()
    axes = np.meshgrid(*(np.arange(n) for n in window.shape), indexing="ij")[::-1]
    return np.array([(axis * window).sum() / window.sum() + a for axis, a in zip(axes, low, strict=True)])


PLACES_2D = np.array([[0.21, 0.3], [0.5, 0.5], [0.8, 0.25], [0.27, 0.77], [0.7, 0.73]])
PLACES_3D = np.array([[0.27, 0.3, 0.7], [0.71, 0.68, 0.31]])


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize(
    ("original", "wanted"),
    [
        ((500, 403), (128, 96)),  # down
        ((500, 403), (301, 312)),  # a little
        ((101, 77), (256, 320)),  # up
        ((1935, 2400), (512, 512)),  # a film
        ((160, 160), (160, 160)),  # not at all
        ((131, 90, 64), (64, 64, 48)),
        ((48, 60, 52), (80, 96, 72)),
    ],
)
def test_blobs_are_where_the_mapped_coordinates_say(tmp_path, original, wanted, resize):
    """Blobs are drawn in original pixels, and pass through a real file, the real reader and the resize."""
    rng = np.random.default_rng(3)
    places = PLACES_2D if len(original) == 2 else PLACES_3D
    centres = places * np.array(original) + rng.uniform(-0.5, 0.5, places.shape)
    steps = np.diag(resize_affine(original, wanted, resize))[:-1]
    width = max(1.8, 1.8 * steps.max())  # at least 1.8 pixels of both images
    image = np.round(60_000 * draw_blobs(original, centres, width)).astype(np.uint16)
    if len(original) == 2:
        path = tmp_path / "image.png"
        pillow.fromarray(image).save(path)
    else:
        path = tmp_path / "image.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(image), str(path))

    prepared, affine = prepare_image(read_image(path, len(original)).pixels, wanted, resize)
    assert prepared.shape == (1, *wanted[::-1])
    np.testing.assert_array_equal(affine, resize_affine(original, wanted, resize))
    expected = transform_points(np.linalg.inv(affine), centres)
    reach = int(np.ceil(4.5 * width / steps.min()))
    found = np.array([centroid(prepared[0].astype(np.float64), point, reach) for point in expected])
    np.testing.assert_allclose(found, expected, atol=0.05)


@settings(max_examples=30, deadline=None)
@given(
    original=st.tuples(st.integers(40, 120), st.integers(40, 120)),
    wanted=st.tuples(st.integers(24, 160), st.integers(24, 160)),
    resize=st.sampled_from(["letterbox", "stretch"]),
    place=st.tuples(st.floats(0.45, 0.55), st.floats(0.45, 0.55)),
)
def test_a_blob_does_not_move_at_any_size(original, wanted, resize, place):
    centre = np.array(place) * original
    steps = np.diag(resize_affine(original, wanted, resize))[:-1]
    width = 1.5 * max(1, steps.max())
    if min(original) < 11 * width:
        return
    prepared, affine = prepare_image(draw_blobs(original, [centre], width)[None], wanted, resize)
    (expected,) = transform_points(np.linalg.inv(affine), centre[None])
    found = centroid(prepared[0].astype(np.float64), expected, int(np.ceil(4.5 * width / steps.min())))
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_each_channel_has_mean_0_and_deviation_1_over_the_image_and_0_outside():
    rng = np.random.default_rng(4)
    pixels = rng.normal([[[100.0]], [[-3.0]]], [[[20.0]], [[0.1]]], (2, 60, 100))
    image, affine = prepare_image(pixels, (64, 64), "letterbox")
    # 100 pixels on 64: 60 become 38.4, from edge 12.8 to edge 51.2
    content = image[:, 13:51]
    np.testing.assert_allclose(content.mean((1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(content.std((1, 2)), 1, atol=1e-5)
    assert not image[:, :13].any()
    assert not image[:, 51:].any()
    np.testing.assert_allclose(affine[1, 1] * np.array([13, 50]) + affine[1, 2], [0.59375, 58.40625])


@pytest.mark.parametrize("value", [0, 7, 200])
def test_a_channel_of_one_value_becomes_zeros(value):
    pixels = np.full((2, 50, 30), value, np.uint8)
    pixels[1, :20] = 3
    image, _ = prepare_image(pixels, (64, 48), "letterbox")
    assert not image[0].any()
    assert image[1].any() == (value != 3)
    assert np.isfinite(image).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float16, np.float64, ">u2"])
def test_every_number_type_gives_the_same(dtype):
    pixels = np.random.default_rng(5).integers(0, 200, (1, 40, 50))
    expected, _ = prepare_image(pixels, (32, 32), "stretch")
    image, _ = prepare_image(pixels.astype(dtype), (32, 32), "stretch")
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, expected)


def test_an_image_that_vanishes_is_refused():
    with pytest.raises(UserError, match="4000×9 has no pixel in an input of 64×64"):
        prepare_image(np.zeros((1, 9, 4000)), (64, 64), "letterbox")


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize(("shape", "wanted"), [((3, 90, 70), (32, 24)), ((2, 9, 40, 30), (20, 25, 6))])
def test_a_large_image_is_resized_block_by_block(monkeypatch, shape, wanted, resize):
    """The result is the same, and the whole image is never converted to floats."""
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    whole, _ = prepare_image(pixels, wanted, resize)
    monkeypatch.setattr("lannunet_images.prepare.BLOCK", 1000)
    np.testing.assert_array_equal(prepare_image(pixels, wanted, resize)[0], whole)
    large = np.tile(pixels, (1, 20, 20) if pixels.ndim == 3 else (1, 40, 4, 4))
    tracemalloc.start()
    prepare_image(large, wanted, resize)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < large.nbytes


def test_the_number_of_channels_of_normalisations_is_that_of_the_image():
    pixels = np.random.default_rng(0).random((2, 9, 8))
    image, _ = prepare_image(pixels, None, "letterbox", (lambda channel: channel, None))
    np.testing.assert_array_equal(image[0], pixels[0].astype(np.float32))
    assert abs(image[1].mean()) < 1e-6
