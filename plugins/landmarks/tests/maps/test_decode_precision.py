"""Sub-pixel precision of every decoder on perfect, noisy and defective maps."""

import math

import numpy as np
import pytest
import torch
from lannunet_images.geometry import resize_affine
from lannunet_landmarks.maps.decode import DECODERS

from benchmarks.decoder_precision import BOUND_FACTOR, gaussians, least_error

MODES = ["scale_heatmap_first", "scale_pred_coords", "use_input_size"]
REFINING = [name for name in DECODERS if name != "peak"]
NOISE = 0.1  # of the peak: signal to noise 10


def decode(name, heatmaps, mode="use_input_size", original=None, resize="letterbox"):
    size = heatmaps.shape[:1:-1]
    original = size if original is None else original
    matrix = torch.from_numpy(resize_affine(original, size, resize))
    return DECODERS[name]()(
        heatmaps=heatmaps,
        affine=matrix.expand(len(heatmaps), -1, -1),
        original_sizes=torch.tensor(original).expand(len(heatmaps), -1),
        evaluation_mode=mode,
    )


def noise_on(maps, seed=0):
    return maps + NOISE * torch.randn(maps.shape, generator=torch.Generator().manual_seed(seed)).double()


def scattered(size, count, seed=0):
    """Points (1, count, D) about the middle, at any phase of a pixel."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(1, count, len(size), generator=generator, dtype=torch.float64)
    return points + torch.tensor(size).double() // 2


@pytest.mark.parametrize("name", REFINING)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("size", "original"), [((44, 40), (176, 160)), ((44, 40), (33, 30)), ((28, 26, 24), (70, 65, 60))]
)
def test_perfect_maps_in_every_mode(name, mode, size, original):
    points = scattered(size, 7)
    for sigma in (1.5, 2.0, 3.0):
        found = decode(name, gaussians(points, size, sigma).float(), mode, original)
        torch.testing.assert_close(found.points, points, atol=0.01, rtol=0)
        assert found.confidence.min() > 0.85


@pytest.mark.parametrize("name", REFINING)
def test_no_bias_at_any_phase(name):
    """The mean signed error over 16 phases of the other axis."""
    size = (40, 40)
    for sigma in (1.5, 2.0, 3.0):
        for phase in np.linspace(-0.5, 0.45, 20):
            points = scattered(size, 16)
            points[..., 0] = 20 + phase
            found = decode(name, gaussians(points, size, sigma))
            assert (found.points - points)[..., 0].mean().abs() < 0.001


@pytest.mark.parametrize("name", ["dark", "soft_argmax", "gaussian_fit"])
@pytest.mark.parametrize(("size", "sigma"), [((32, 32), 1.5), ((32, 32), 3.0), ((20, 20, 20), 2.0)])
def test_noise_costs_what_it_has_to(name, size, sigma):
    """Within 1.3 of the Cramér–Rao bound; 400 maps: 2.5 % either way in 2D at one standard error."""
    points = scattered(size, 400 if len(size) == 2 else 120)
    found = decode(name, noise_on(gaussians(points, size, sigma)))
    error = (found.points - points).square().sum(-1).mean().sqrt()
    assert error < BOUND_FACTOR * least_error(size, sigma, NOISE)
    assert error > 0.9 * least_error(size, sigma, NOISE)  # it is a bound


@pytest.mark.parametrize("name", ["dark", "soft_argmax", "gaussian_fit"])
def test_noise_draws_to_no_phase(name):
    size, sigma = (24, 24), 1.5
    for phase in (0.15, 0.25, 0.35):
        points = scattered(size, 3000 if name != "gaussian_fit" else 1000)
        points[..., 0] = 11 + phase
        error = (decode(name, noise_on(gaussians(points, size, sigma))).points - points)[..., 0]
        assert error.mean().abs() < 0.01 + 2 * error.std() / math.sqrt(error.numel())


def test_quadratic_leans_to_no_phase_either():
    """With points one pixel apart for every width, the mean error here would be 0.016 px."""
    size, errors = (24, 24), []
    for seed in range(20):
        points = scattered(size, 1000, seed)
        points[..., 0] = 12.2
        maps = noise_on(gaussians(points, size, 1.5), seed + 100)
        errors.append((decode("quadratic", maps).points - points)[..., 0])
    assert torch.cat(errors).mean().abs() < 0.01  # standard error 0.0017


def test_the_bound_is_the_closed_form_where_pixels_are_fine():
    """Integrals instead of sums: each coordinate's variance is noise² · 2 / π in 2D, whatever sigma is."""
    assert least_error((40, 40), 3.0, NOISE) == pytest.approx(NOISE * math.sqrt(4 / math.pi), rel=1e-3)
    expected = NOISE * math.sqrt(3 * 2) * math.pi**-0.75 / math.sqrt(2)
    assert least_error((24, 24, 24), 2.0, NOISE) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", REFINING)
@pytest.mark.parametrize("mode", MODES)
def test_maps_without_a_peak(name, mode):
    maps = torch.zeros(1, 7, 24, 32)
    maps[0, 1] = 0.7
    maps[0, 2] = -torch.rand(24, 32) - 0.1
    maps[0, 3] = math.nan
    maps[0, 4, 3, 5] = math.nan
    maps[0, 5, 3, 5] = math.inf
    maps[0, 6] = gaussians(torch.tensor([[[20.25, 12.5]]]).double(), (32, 24), 2.0)[0, 0]
    found = decode(name, maps, mode, (128, 96))
    assert found.points[0, :6].isnan().all()
    assert (found.confidence[0, :6] == 0).all()
    np.testing.assert_allclose(found.points[0, 6].numpy(), [20.25, 12.5], atol=0.02)
    assert found.confidence[0, 6] > 0.9


@pytest.mark.parametrize("name", REFINING)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("thin", [1, 2, 3])
def test_thin_volumes(name, mode, thin):
    size = (24, 20, thin)
    points = torch.tensor([[[10.3, 9.6, thin - 1.0]]]).double()
    found = decode(name, gaussians(points, size, 1.5), mode, (72, 60, thin), "stretch")
    np.testing.assert_allclose(found.points[0, 0].numpy(), points[0, 0], atol=0.05)


@pytest.mark.parametrize("name", REFINING)
def test_a_single_pixel_and_a_map_with_negative_surroundings(name):
    maps = torch.zeros(1, 2, 24, 32)
    maps[0, 0, 7, 20] = 0.9
    maps[0, 1] = -0.1
    maps[0, 1, 7, 20] = 0.9
    found = decode(name, maps)
    np.testing.assert_allclose(found.points[0].numpy(), [[20, 7]] * 2, atol=0.01)
    assert (found.confidence > 0).all()


@pytest.mark.parametrize("name", REFINING)
def test_a_peak_in_the_letterbox_margin_is_not_in_the_image(name):
    points = torch.tensor([[[30.0, 3.0]], [[40.2, 33.6]]]).double()
    high, low = gaussians(points, (64, 64), 2.0)
    found = decode(name, (high + 0.5 * low)[None], "scale_heatmap_first", (640, 320))  # rows 16 to 47
    np.testing.assert_allclose(found.points[0, 0].numpy(), [40.2, 33.6], atol=0.01)


@pytest.mark.parametrize("name", ["auto", "quadratic", "gaussian_fit"])
def test_tilted_gaussians_up_to_the_border(name):
    covariance = torch.tensor([[6.0, 2.5], [2.5, 4.0]]).double()
    points = torch.tensor([[[12.37, 9.81], [0.2, 8.3], [30.9, -0.3], [31.4, 23.3]]]).double()
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    away = torch.stack([x, y], -1) - points[0, :, None, None]
    maps = torch.exp(-0.5 * torch.einsum("nyxi,ij,nyxj->nyx", away, covariance.inverse(), away))[None]
    found = decode(name, maps)
    torch.testing.assert_close(found.points, points, atol=1e-3, rtol=0)
    if found.covariance is not None:
        torch.testing.assert_close(found.covariance[0], covariance.expand(4, -1, -1), atol=0.01, rtol=0)


@pytest.mark.parametrize("name", REFINING)
def test_half_precision_and_several_resolutions(name):
    points = torch.tensor([[[20.25, 12.5]]]).double()
    maps = gaussians(points, (32, 24), 2.0).half()
    found = DECODERS[name]()(
        heatmaps=[maps, maps[..., ::2, ::2]],
        affine=torch.eye(3).double()[None],
        original_sizes=torch.tensor([[32, 24]]),
        evaluation_mode="use_input_size",
    )
    torch.testing.assert_close(found.points, points, atol=0.01, rtol=0)
