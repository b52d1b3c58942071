"""`gaussian_fit` against SciPy's least squares, and with outlier pixels and defective maps."""

import math

import numpy as np
import pytest
import torch
from lannunet_landmarks.maps.decode import DECODERS
from scipy.optimize import least_squares

from benchmarks.decoder_precision import gaussians, least_error

NOISE = 0.1


def decode(maps):
    size = maps.shape[:1:-1]
    return DECODERS["gaussian_fit"]()(
        heatmaps=maps,
        affine=torch.eye(len(size) + 1).double().expand(len(maps), -1, -1),
        original_sizes=torch.tensor(size).expand(len(maps), -1),
        evaluation_mode="use_input_size",
    )


def tilted(points, size, covariance, height=1.0):
    """Maps (B, N, *S) of Gaussians of any covariance (D, D)."""
    axes = [torch.arange(side, dtype=torch.float64) for side in reversed(size)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)
    away = grid - points.reshape(*points.shape[:2], *[1] * len(size), len(size))
    return height * torch.exp(-0.5 * torch.einsum("...i,ij,...j->...", away, covariance.inverse(), away))


def scipy_fit(heatmap, start, sigma):
    """Mean and covariance by least squares over the whole map, in float64."""
    dimensions = heatmap.ndim
    rows, columns = np.tril_indices(dimensions)
    places = np.stack(np.indices(heatmap.shape)[::-1], -1).reshape(-1, dimensions)

    def factor(theta):
        lower = np.zeros((dimensions, dimensions))
        lower[rows, columns] = theta[1 + dimensions :]
        return lower

    def residuals(theta):
        turned = (places - theta[1 : 1 + dimensions]) @ factor(theta)
        return theta[0] * np.exp(-0.5 * (turned**2).sum(1)) - heatmap.ravel()

    start = np.concatenate([[1.0], start, (np.eye(dimensions) / sigma)[rows, columns]])
    theta = least_squares(residuals, start, method="lm").x
    return theta[1 : 1 + dimensions], np.linalg.inv(factor(theta) @ factor(theta).T)


CASES = [
    ((48, 40), torch.tensor([[2.25, 0.0], [0.0, 2.25]])),
    ((48, 40), torch.tensor([[9.0, 4.0], [4.0, 5.0]])),
    ((24, 22, 20), torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, 0.0], [0.5, 0.0, 2.5]])),
]


def drawn(size, covariance, count=19):
    rng = np.random.default_rng(5)
    points = torch.from_numpy(np.array(size) / 2 + rng.uniform(-1, 1, (1, count, len(size))))
    clean = tilted(points, size, covariance.double())
    noisy = clean + NOISE * torch.from_numpy(rng.standard_normal(clean.shape))
    defective = torch.where(
        torch.from_numpy(rng.random(clean.shape) < 0.05), torch.from_numpy(rng.random(clean.shape)), noisy
    )
    return points, clean, noisy, defective


@pytest.mark.parametrize(("size", "covariance"), CASES)
@pytest.mark.parametrize("noise", [False, True])
def test_least_squares_on_clean_and_noisy_maps(size, covariance, noise):
    points, clean, noisy, _ = drawn(size, covariance)
    maps = noisy if noise else clean
    found = decode(maps.float())
    sigma = float(covariance.det()) ** (0.5 / len(size))
    for n in range(maps.shape[1]):
        mean, width = scipy_fit(maps[0, n].numpy(), points[0, n].numpy(), sigma)
        np.testing.assert_allclose(found.points[0, n].numpy(), mean, atol=0.01)
        # SciPy's widths include noise beyond 4 widths too, which is a small part of the effect of all noise.
        atol = 0.02 * float(covariance.max()) if noise else 1e-3
        np.testing.assert_allclose(found.covariance[0, n].numpy(), width, atol=atol)


@pytest.mark.parametrize(("size", "covariance"), CASES)
def test_better_than_least_squares_with_outliers(size, covariance):
    """5 % of the pixels are uniform between 0 and the height; SciPy starts at the truth, our fit does not."""
    points, _, noisy, defective = drawn(size, covariance)
    sigma = float(covariance.det()) ** (0.5 / len(size))

    def error(found):
        return (torch.as_tensor(found) - points[0]).square().sum(-1).mean().sqrt().item()

    plain = [scipy_fit(m.numpy(), p.numpy(), sigma)[0] for m, p in zip(defective[0], points[0], strict=True)]
    ours, without = error(decode(defective.float()).points[0]), error(decode(noisy.float()).points[0])
    assert ours < error(np.array(plain))
    assert ours < 1.6 * without


def test_outliers_on_a_clean_map_and_far_above_it():
    size = (64, 56)
    points = torch.rand(1, 40, 2, generator=torch.Generator().manual_seed(0)).double() * 20 + 20
    maps = gaussians(points, size, 2.0)
    rng = np.random.default_rng(0)
    outliers = torch.from_numpy(np.where(rng.random(maps.shape) < 0.05, rng.uniform(0.5, 1.5, maps.shape), 0))
    found = decode(torch.where(outliers > 0, outliers, maps))
    assert (found.points - points).norm(dim=-1).max() < 0.05
    torch.testing.assert_close(
        found.covariance[0], 4 * torch.eye(2).double().expand(40, -1, -1), atol=0.2, rtol=0
    )


def test_gaussian_noise_alone_costs_nothing():
    """The error is at the bound; a robust fit that always down-weights some pixels would exceed it."""
    size = (32, 32)
    points = 16 + torch.rand(1, 2000, 2, generator=torch.Generator().manual_seed(1)).double()
    maps = gaussians(points, size, 2.0)
    noise = NOISE * torch.randn(maps.shape, generator=torch.Generator().manual_seed(2)).double()
    error = (decode(maps + noise).points - points).square().sum(-1).mean().sqrt().item()
    assert error == pytest.approx(least_error(size, 2.0, NOISE), rel=0.05)  # standard error 1.6 %


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0, 8.0])
def test_widths_and_heights(sigma):
    points = torch.tensor([[[60.3, 50.8], [70.1, 52.4]]]).double()
    maps = gaussians(points, (128, 112), sigma) * torch.tensor([0.7, 0.05]).view(1, 2, 1, 1)
    found = decode(maps.float())
    torch.testing.assert_close(found.points, points, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.confidence, torch.tensor([[0.7, 0.05]]).double(), atol=1e-3, rtol=0)
    expected = sigma**2 * torch.eye(2).double().expand(1, 2, 2, 2)
    torch.testing.assert_close(found.covariance, expected, rtol=0.01, atol=0.01)


def test_a_lower_peak_nearby_is_left_out():
    points = torch.tensor([[[20.3, 24.8]], [[26.6, 24.8]]]).double()
    high, low = gaussians(points, (48, 48), 1.5)
    found = decode((high + 0.8 * low)[None])
    torch.testing.assert_close(found.points[0, 0], points[0, 0], atol=0.1, rtol=0)


def test_no_gaussian_where_there_is_none():
    maps = torch.zeros(1, 4, 24, 32)
    maps[0, 0, 7, 20] = 0.9  # one pixel
    maps[0, 1] = torch.arange(32) / 32.0  # a slope
    maps[0, 2] = 0.5  # flat
    maps[0, 3] = -1.0
    found = decode(maps)
    assert found.covariance[0, [0, 2, 3]].isnan().all()
    assert found.points[0, 2:].isnan().all()
    assert (found.confidence[0, 2:] == 0).all()
    np.testing.assert_allclose(found.points[0, 0].numpy(), [20, 7], atol=0.01)
    assert found.points[0, 1, 0] > 25


def test_a_map_is_fitted_alike_whatever_is_beside_it():
    points, _, noisy, _ = drawn(*CASES[0])
    wide = gaussians(points, CASES[0][0], 5.0)
    together = decode(torch.cat([noisy, wide]))
    alone = decode(noisy)
    torch.testing.assert_close(together.points[0], alone.points[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(together.covariance[0], alone.covariance[0], atol=1e-2, rtol=0)


def test_thin_axes_have_a_variance():
    maps = gaussians(torch.tensor([[[10.3, 9.6, 1.0]]]).double(), (24, 20, 2), 1.5)
    found = decode(maps)
    assert torch.linalg.eigvalsh(found.covariance).min() > 1
    assert found.points[0, 0, 2] == 1
    assert math.isclose(found.covariance[0, 0, 0, 0], 2.25, rel_tol=0.02)
