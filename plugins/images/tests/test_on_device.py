from __future__ import annotations

import numpy as np
import pytest
import torch
from lannunet_images import on_device
from scipy import ndimage

from lannunet_core.augment.schemes import SCHEMES, Drawn, SpatialTransform, make_scheme

SIZES = [(40, 28), (20, 16, 24)]


def batch(size: tuple[int, ...], count: int = 4) -> torch.Tensor:
    noise = np.random.default_rng(0).normal(size=(count, 2, *size[::-1]))
    smooth = ndimage.gaussian_filter(noise, (0, 0, *[1.5] * len(size)))
    return torch.as_tensor(smooth, dtype=torch.float32)


def centres(size: tuple[int, ...], count: int = 4) -> torch.Tensor:
    return ((torch.tensor(size, dtype=torch.float64) - 1) / 2).expand(count, -1)


def draw(name: str, size: tuple[int, ...], count: int = 4) -> list[Drawn]:
    return [make_scheme(name).draw(np.random.default_rng([5, number]), size) for number in range(count)]


def reference(
    image: np.ndarray, drawn: Drawn, centre: np.ndarray, size: tuple[int, ...], order: int
) -> np.ndarray:
    """One sample (C, *S) by SciPy in float64, each pixel through the formula for points."""
    lines = [np.arange(length, dtype=float) for length in reversed(size)]
    pixels = np.stack(np.meshgrid(*lines, indexing="ij")[::-1], -1)  # (*S, D)
    source = drawn.spatial.to_source(pixels, centre, size)
    coordinates = np.moveaxis(source, -1, 0)[::-1]
    return np.stack(
        [
            ndimage.map_coordinates(channel, coordinates, order=order, mode="grid-constant")
            for channel in image
        ]
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["AffineSimple", "AffineComplexElastic", "payer19"])
def test_a_batch_is_what_scipy_makes_of_each_sample(name, size):
    images, drawn, middle = batch(size), draw(name, size), centres(size)
    middle = middle + torch.tensor([1.3, -2.6, 0.4][: len(size)])
    moved = on_device.warp(images, drawn, middle, size).numpy()
    for image, one, centre, found in zip(images, drawn, middle, moved, strict=True):
        expected = reference(image.double().numpy(), one, centre.numpy(), size, order=1)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
def test_labels_take_the_value_of_the_nearest_pixel(size):
    drawn, middle = draw("payer19", size), centres(size)
    labels = torch.as_tensor(np.random.default_rng(1).integers(1, 5, (4, 1, *size[::-1])))
    moved = on_device.warp(labels, drawn, middle, size, interpolation="nearest", fill=-1)
    assert moved.dtype == labels.dtype
    assert set(moved.unique().tolist()) <= {-1, 1, 2, 3, 4}
    agree = [
        (found.numpy() == reference(label.numpy() + 1.0, one, centre.numpy(), size, order=0) - 1).mean()
        for label, one, centre, found in zip(labels, drawn, middle, moved, strict=True)
    ]
    assert min(agree) > 0.995  # SciPy and torch break ties between pixels differently


def test_weights_outside_of_the_image_take_the_fill():
    size = (40, 28)
    away = Drawn(SpatialTransform(np.eye(2), np.array([20.0, 0.0])))
    moved = on_device.warp(torch.full((1, 1, 28, 40), 2.0), [away], centres(size, 1), size, fill=7.0)
    np.testing.assert_allclose(moved[0, 0, :, :19], 2, rtol=1e-5)
    np.testing.assert_allclose(moved[0, 0, :, 21:], 7, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", list(SCHEMES))
def test_a_sample_does_not_depend_on_its_batch(name, size):
    images, drawn, middle = batch(size), draw(name, size), centres(size)
    together = on_device.augment(images, drawn, middle, size)
    assert together.dtype == torch.float32
    assert together.shape == images.shape
    assert not together.requires_grad
    for row in range(len(images)):
        alone = on_device.augment(images[row : row + 1], drawn[row : row + 1], middle[:1], size)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(on_device.augment(images, drawn, middle, size), together, atol=0, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_nothing_changes_nothing(size):
    images = batch(size)
    same = on_device.augment(images, draw("None", size), centres(size), size)
    torch.testing.assert_close(same, images, atol=0, rtol=0)


def test_the_output_may_have_another_size():
    images, size = batch((40, 28)), (17, 23)
    middle = torch.tensor([[20.0, 14.0]]).expand(4, -1)
    drawn = draw("AffineComplexElastic", size)
    moved = on_device.warp(images, drawn, middle, size).numpy()
    assert moved.shape == (4, 2, 23, 17)
    for image, one, found in zip(images, drawn, moved, strict=True):
        expected = reference(image.double().numpy(), one, np.array([20.0, 14.0]), size, order=1)
        np.testing.assert_allclose(found, expected, atol=1e-4)
