"""The raw confidence, against sums over whole maps and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_landmarks.maps.confidence import mass_around, with_masses
from lannunet_landmarks.maps.decode import decode_peak
from lannunet_landmarks.maps.learned_sigma import LearnedSigma
from lannunet_landmarks.maps.losses import SoftmaxCrossEntropy
from scipy.stats import chi2

from lannunet_core.hookspecs import Coordinates


@pytest.mark.parametrize("size", [(17, 12), (9, 11, 8)])
@settings(deadline=None)
@given(seed=st.integers(0, 2**16), reach=st.floats(0.3, 6))
def test_mass_is_the_sum_of_what_is_near(size, seed, reach):
    rng = np.random.default_rng(seed)
    maps = rng.random((3, *size[::-1]))
    points = rng.uniform(-3, np.array(size) + 3, (3, len(size)))
    points[2] = np.nan
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    wanted = [
        sum(one.T[np.linalg.norm(grid - point, axis=-1) <= reach])
        for one, point in zip(maps, points, strict=True)
    ]
    found = mass_around(torch.from_numpy(maps), torch.from_numpy(points), torch.full((3,), reach).double())
    np.testing.assert_allclose(found, [*wanted[:2], 0], atol=1e-9)


def logits_of(size, spread, centre, present):
    """Logits (1, 1, *S) of a Gaussian with all but 1 − `present` of the probability."""
    axes = [torch.arange(side, dtype=torch.float64) for side in size[::-1]]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1)
    log = -((grid - torch.tensor(centre)) ** 2).sum(-1) / (2 * spread**2)
    log = log - log.flatten().logsumexp(0) + math.log(present / (1 - present))
    return log[None, None].float()


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(("spread", "present"), [(2.0, 0.999), (4.0, 0.999), (2.0, 0.3), (1.5, 0.01)])
@pytest.mark.parametrize("learned", [False, True])
def test_confidence_is_the_mass_and_presence_what_is_not_elsewhere(dimensions, spread, present, learned):
    """If only the position is uncertain, P(present) is .999, not .06."""
    size, sigma = (48,) * dimensions, 2.0
    loss = SoftmaxCrossEntropy(sigma, dimensions)
    if learned:
        loss.learn_sigma(LearnedSigma(("a",), dimensions, sigma, covariance=False), sigma, 0.0)
    with torch.no_grad():
        maps = loss.activation(logits_of(size, spread, (23.3,) * dimensions, present))
        affine = torch.eye(dimensions + 1, dtype=torch.float64)[None]
        given = decode_peak(maps, affine, torch.tensor([size]), "use_input_size")
        found = with_masses(given, maps, size, loss)
    assert found.presence.item() == pytest.approx(present, abs=1e-4)
    assert found.confidence.item() == pytest.approx(
        present * chi2.cdf((3 * sigma / spread) ** 2, dimensions), abs=0.01
    )
    assert torch.equal(found.points, given.points)


def test_coarse_maps_have_the_same_mass():
    """The radius is in pixels of the image."""
    loss = SoftmaxCrossEntropy(4.0, 2)
    loss.stride = 2.0
    maps = loss.activation(logits_of((32, 32), 4.0, (15.0, 16.0), 0.9))
    found = Coordinates(torch.tensor([[[30.5, 32.5]]]), torch.tensor([[0.5]]))
    confidence = with_masses(found, maps, (64, 64), loss).confidence.item()
    assert confidence == pytest.approx(0.9 * chi2.cdf((12 / 8) ** 2, 2), abs=0.01)
