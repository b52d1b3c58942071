from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from lannunet_core.augment import intensity
from lannunet_core.augment.schemes import SCHEMES, IntensityOp

IMAGES = {
    "2D": np.random.default_rng(0).normal(size=(2, 21, 30)),
    "3D": np.random.default_rng(1).normal(size=(2, 5, 12, 17)),
}


def apply(image: np.ndarray, name: str, seed: int = 0, **parameters: float) -> np.ndarray:
    operation = IntensityOp(name, parameters, seed)
    return intensity.apply_intensity(torch.as_tensor(image, dtype=torch.float32), operation).numpy()


def correlate(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """In the x-y plane, mirrored at the edges, in float64."""
    kernel = np.asarray(kernel, float)
    return ndimage.correlate(image, kernel.reshape(*[1] * (image.ndim - 2), *kernel.shape), mode="mirror")


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> np.ndarray:
    return IMAGES[request.param]


@pytest.mark.parametrize("sigma", [0.2, 0.8])
def test_gaussian_blur(image, sigma):
    expected = ndimage.gaussian_filter(image, sigma, axes=(-2, -1), mode="mirror")
    np.testing.assert_allclose(apply(image, "gaussian_blur", sigma=sigma), expected, atol=1e-4)


def test_no_gaussian_blur(image):
    np.testing.assert_allclose(apply(image, "gaussian_blur", sigma=0.0), image, atol=1e-6)


@pytest.mark.parametrize("size", [3, 5])
def test_mean_blur(image, size):
    expected = correlate(image, np.full((size, size), 1 / size**2))
    np.testing.assert_allclose(apply(image, "mean_blur", size=size), expected, atol=1e-5)


@pytest.mark.parametrize("size", [3, 5])
def test_median_blur(image, size):
    window = (*[1] * (image.ndim - 2), size, size)
    expected = ndimage.median_filter(image, window, mode="nearest")
    np.testing.assert_allclose(apply(image, "median_blur", size=size), expected, atol=1e-6)


def test_average_pooling_puts_means_back_over_their_blocks():
    image = np.array([[[1.0, 3, 5], [5, 7, 9], [2, 4, 8]]])
    expected = [[[4, 4, 7], [4, 4, 7], [3, 3, 8]]]
    np.testing.assert_allclose(apply(image, "average_pooling", size=2), expected, atol=1e-6)


def test_average_pooling_keeps_any_size(image):
    assert apply(image, "average_pooling", size=2).shape == image.shape


def test_sharpen(image):
    kernel = 0.6 * np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]) + 0.4 * np.array(
        [[-1, -1, -1], [-1, 8.3, -1], [-1, -1, -1]]
    )
    expected = correlate(image, kernel)
    np.testing.assert_allclose(apply(image, "sharpen", alpha=0.4, lightness=0.3), expected, atol=1e-5)


def test_emboss(image):
    kernel = 0.6 * np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]]) + 0.4 * np.array(
        [[-1.7, -0.7, 0], [-0.7, 1, 0.7], [0, 0.7, 1.7]]
    )
    expected = correlate(image, kernel)
    np.testing.assert_allclose(apply(image, "emboss", alpha=0.4, strength=0.7), expected, atol=1e-5)


def test_contrast(image):
    np.testing.assert_allclose(apply(image, "contrast", factor=1.4), 1.4 * image, atol=1e-5)


def test_brightness(image):
    np.testing.assert_allclose(apply(image, "brightness", factor=0.8), 0.8 * image, atol=1e-5)


@pytest.mark.parametrize("sigmas", [(0.5, 1.0, 0.7), (1.0, 0.6, 2.5)])
def test_smoothing_has_a_sigma_of_its_own_for_each_axis(image, sigmas):
    axes = sigmas[: image.ndim - 1]
    expected = ndimage.gaussian_filter(image, (0, *axes[::-1]), mode="mirror", truncate=4.0)
    found = apply(
        image, "smooth", **{f"sigma_{axis}": sigma for axis, sigma in zip("xyz", sigmas, strict=True)}
    )
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_smoothing_an_axis_of_few_voxels():
    image = np.random.default_rng(0).normal(size=(1, 1, 2, 3))
    found = apply(image, "smooth", sigma_x=1.0, sigma_y=1.0, sigma_z=1.0)
    expected = ndimage.gaussian_filter(image, (0, 1, 1, 1), mode="mirror")
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("factor", [0.75, 1.25])
def test_contrast_about_the_mean_stays_in_the_range_of_the_values(image, factor):
    shifted = image + 3 * np.arange(2).reshape(2, *[1] * (image.ndim - 1))
    found = apply(shifted, "contrast_in_range", factor=factor)
    for channel, changed in zip(shifted, found, strict=True):
        expected = (channel - channel.mean()) * factor + channel.mean()
        np.testing.assert_allclose(changed, expected.clip(channel.min(), channel.max()), atol=1e-5)


@pytest.mark.parametrize("inverted", [0.0, 1.0])
@pytest.mark.parametrize("power", [0.7, 1.0, 1.5])
def test_gamma_keeps_mean_and_deviation(image, power, inverted):
    found = apply(image, "gamma", gamma=power, inverted=inverted)
    for channel, changed in zip(image, found, strict=True):
        values = -channel if inverted else channel
        powers = ((values - values.min()) / np.ptp(values)) ** power
        powers = (powers - powers.mean()) / powers.std() * values.std() + values.mean()
        np.testing.assert_allclose(changed, -powers if inverted else powers, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 6, 7), (2, 4, 5, 6)])
def test_one_value_everywhere_stays(shape):
    image = np.full(shape, -1.5)
    for name, parameters in [
        ("gamma", {"gamma": 0.7, "inverted": 1.0}),
        ("contrast_in_range", {"factor": 1.2}),
        ("low_resolution", {"scale": 0.6, "planar": 0.0}),
        ("smooth", {"sigma_x": 1.0, "sigma_y": 0.5, "sigma_z": 0.7}),
    ]:
        np.testing.assert_allclose(apply(image, name, **parameters), image, atol=1e-5)


def test_half_the_resolution_is_the_mean_of_pairs():
    line = np.array([1.0, 3, 5, 9, 2, 4, 8, 0])
    pairs = np.array([2.0, 7, 3, 4])  # at 0.5, 2.5, 4.5 and 6.5
    expected = np.interp(np.arange(8), [0.5, 2.5, 4.5, 6.5], pairs)
    found = apply(np.tile(line, (1, 4, 1)), "low_resolution", scale=0.5, planar=0.0)
    np.testing.assert_allclose(found, np.broadcast_to(expected, (1, 4, 8)), atol=1e-6)


@pytest.mark.parametrize("planar", [False, True])
def test_low_resolution_leaves_thick_slices_alone(planar):
    across = np.random.default_rng(0).normal(size=(1, 9, 1, 1)) + np.zeros((1, 9, 8, 8))
    found = apply(across, "low_resolution", scale=0.5, planar=float(planar))
    assert np.allclose(found, across, atol=1e-6) == planar


def test_normal_noise_follows_from_its_seed():
    noise = apply(np.zeros((2, 90, 80)), "normal_noise", seed=3, deviation=0.1)
    assert stats.kstest(noise[0].ravel(), stats.norm(0, 0.1).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(noise[0], noise[1])
    torch.manual_seed(0)
    np.testing.assert_array_equal(apply(np.zeros((2, 90, 80)), "normal_noise", seed=3, deviation=0.1), noise)
    assert (apply(np.zeros((2, 90, 80)), "normal_noise", seed=4, deviation=0.1) != noise).mean() > 0.9


@pytest.mark.parametrize(("name", "noise_free"), [("add", 0.0), ("multiply", 1.0)])
def test_noise_is_uniform_per_pixel_and_follows_from_its_seed(name, noise_free):
    image = np.full((2, 90, 80), noise_free)
    noise = apply(image, name, seed=3, amplitude=0.25) - noise_free
    assert stats.kstest(noise[0].ravel(), stats.uniform(-0.25, 0.5).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(noise[0, :, 1:].ravel(), noise[0, :, :-1].ravel())[0, 1]) < 0.05
    np.testing.assert_array_equal(noise[0], noise[1])
    torch.manual_seed(0)
    np.testing.assert_array_equal(apply(image, name, seed=3, amplitude=0.25) - noise_free, noise)
    assert (apply(image, name, seed=4, amplitude=0.25) - noise_free != noise).mean() > 0.9


def test_every_operation_that_a_scheme_draws_is_known(image):
    names = set()
    for scheme in SCHEMES.values():
        for seed in range(60):
            for operation in scheme().draw(np.random.default_rng(seed), (32, 32)).intensity:
                names.add(operation.name)
                assert intensity.apply_intensity(torch.as_tensor(image).float(), operation).isfinite().all()
    assert names == {*intensity.FILTERS, *intensity.NOISE, *intensity.CHANGES}
