from __future__ import annotations

import numpy as np
import pytest
import torch
from lannunet_images import intensity
from scipy import ndimage, stats

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
    assert names == {*intensity.FILTERS, *intensity.NOISE}
