import math

import numpy as np
import pytest
import torch
from lannunet_images import level_scale
from lannunet_landmarks.maps.labels import gaussian_heatmaps, generate_labels, level_points, level_sigmas
from torch.nn import functional

from lannunet_core.hookspecs import State

SIZES = [
    ((64, 48), [(64, 48), (32, 24), (16, 12)]),
    ((75, 61), [(75, 61), (38, 31), (19, 16), (10, 8)]),  # padded and cropped back
    ((20, 15, 11), [(20, 15, 11), (10, 8, 6)]),
    ((50, 40), [(17, 13)]),  # not a power of two
]


def reference(point, sigma, image_size, level_size, peak):
    """The Gaussian (S) on a level in float64, by its full formula."""
    scale = level_scale(image_size, level_size)
    pixels = np.stack(np.meshgrid(*(np.arange(s, dtype=float) for s in level_size), indexing="ij"), -1)
    centre = (np.asarray(point) + 0.5) / scale - 0.5
    values = peak * np.exp(-((pixels - centre) ** 2).sum(-1) / (2 * sigma**2))
    return values.T  # [z,] y, x


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_level_points_are_where_averaging_pixels_moves_a_blob(stride):
    point = torch.tensor([37.3, 51.8], dtype=torch.float64)
    blob = torch.from_numpy(reference(point, 6.0, (96, 128), (96, 128), 1.0))
    coarse = functional.avg_pool2d(blob[None, None], stride)[0, 0]
    y, x = (torch.arange(s, dtype=torch.float64) for s in coarse.shape)
    centroid = torch.stack([(coarse.sum(0) * x).sum(), (coarse.sum(1) * y).sum()]) / coarse.sum()
    expected = level_points(point, (stride, stride))
    torch.testing.assert_close(centroid, expected, atol=1e-5, rtol=0)


def test_level_sigmas_halve_down_to_one():
    strides = [1, 2, 4, 8]
    torch.testing.assert_close(level_sigmas(5.0, strides), torch.tensor([[5.0], [2.5], [1.25], [1.0]]))
    sigma = torch.tensor([2.0, 8.0], requires_grad=True)
    sigmas = level_sigmas(sigma, strides)
    torch.testing.assert_close(sigmas, torch.tensor([[2.0, 8.0], [1.0, 4.0], [1.0, 2.0], [1.0, 1.0]]))
    (gradient,) = torch.autograd.grad(sigmas[:, 1].sum(), sigma)
    assert gradient[0] == 0
    assert gradient[1] == pytest.approx(1 + 1 / 2 + 1 / 4 + 1 / 8)


@pytest.mark.parametrize(("size", "levels"), SIZES)
def test_heatmaps_are_the_gaussian_everywhere(size, levels):
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, np.array(size) - 0.5, (2, 3, len(size)))
    sigmas = level_sigmas(torch.tensor([1.5, 2.0, 6.0]), [level_scale(size, s)[0] for s in levels])
    states = torch.zeros(2, 3, dtype=torch.long)
    maps = gaussian_heatmaps(torch.tensor(points, dtype=torch.float32), states, sigmas, size, levels, 100.0)
    assert [m.dtype for m in maps] == [torch.float32] * len(levels)
    for level, (heatmap, level_size) in enumerate(zip(maps, levels, strict=True)):
        for b, n in np.ndindex(2, 3):
            expected = reference(points[b, n], sigmas[level, n].item(), size, level_size, 100.0)
            # The background also follows the formula, down to the limit of float32.
            np.testing.assert_allclose(heatmap[b, n].numpy(), expected, rtol=1e-3, atol=1e-36)
            np.testing.assert_allclose(heatmap[b, n].numpy(), expected, rtol=0, atol=1e-3)


def test_only_visible_landmarks_have_a_map_and_a_gradient():
    points = torch.tensor([[[10.0, 12.0], [-9.0, 5.0], [math.nan] * 2, [math.nan] * 2]])
    states = torch.tensor([[State.VISIBLE, State.OUTSIDE, State.ABSENT, State.UNLABELLED]])
    sigma = torch.full((4,), 3.0, requires_grad=True)
    maps = gaussian_heatmaps(points, states, level_sigmas(sigma, [1, 2]), (32, 24), [(32, 24), (16, 12)], 1.0)
    for heatmap in maps:
        assert heatmap[0, 0].max() > 0.9
        assert torch.all(heatmap[0, 1:] == 0)
    torch.stack([m.square().sum() for m in maps]).sum().backward()
    assert sigma.grad is not None
    assert sigma.grad[0] > 0
    assert torch.all(sigma.grad[1:] == 0)


@pytest.mark.parametrize(("size", "levels"), [SIZES[1], SIZES[2]])
def test_gradient_with_respect_to_sigma(size, levels):
    size, levels = tuple(s // 2 for s in size), [tuple(math.ceil(s / 2) for s in level) for level in levels]
    points = torch.rand(2, 2, len(size), dtype=torch.float64) * 8
    states = torch.tensor([[State.VISIBLE, State.VISIBLE], [State.VISIBLE, State.ABSENT]])
    points[1, 1] = math.nan
    sigma = torch.tensor([1.7, 2.9], dtype=torch.float64, requires_grad=True)

    def maps(sigma):
        strides = [level_scale(size, s)[0] for s in levels]
        return tuple(gaussian_heatmaps(points, states, level_sigmas(sigma, strides), size, levels, 3.0))

    assert torch.autograd.gradcheck(maps, (sigma,))


def test_generate_labels_answers_the_hook():
    states = torch.tensor([[State.VISIBLE, State.UNLABELLED]])
    labels = generate_labels(
        landmarks=torch.tensor([[[4.0, 5.0], [math.nan, math.nan]]]),
        states=states,
        corner=torch.zeros(1, 2),
        image_size=(16, 12),
        sigmas=level_sigmas(2.0, [1, 2]),
        num_res_levels=2,
        level_sizes=[(16, 12), (8, 6)],
        lambda_scale=100.0,
        sample={},
    )
    assert labels["state"] is states
    assert [tuple(m.shape) for m in labels["heatmaps"]] == [(1, 2, 12, 16), (1, 2, 6, 8)]
    assert labels["heatmaps"][0][0, 0, 5, 4] == 100
