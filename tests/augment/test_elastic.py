from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.interpolate import BSpline, NdBSpline
from scipy.ndimage import gaussian_filter

from lannunet_core.augment.elastic import CONTRACTION, Elastic, largest_alpha

SIZES = [(96, 64), (33, 80), (24, 20, 28)]


def draw(seed: int, size: tuple[int, ...], alpha: float = 50.0, sigma: float = 4.0) -> Elastic:
    return Elastic.draw(np.random.default_rng(seed), size, alpha, sigma)


def all_pixels(size: tuple[int, ...]) -> np.ndarray:
    """Pixels relative to the centre, (pixels, D), x fastest."""
    lines = [np.arange(length) - (length - 1) / 2 for length in reversed(size)]
    return np.stack(np.meshgrid(*lines, indexing="ij")[::-1], -1).reshape(-1, len(size))


def dense(elastic: Elastic, size: tuple[int, ...]) -> np.ndarray:
    """(pixels, D) from the matrices that images are moved with."""
    letters = "xyz"[: len(size)]
    terms = ",".join(f"{letter}{letter.upper()}" for letter in letters)
    subscripts = f"d{letters[::-1].upper()},{terms}->{letters[::-1]}d"
    return np.einsum(subscripts, elastic.control, *elastic.basis(size), optimize=True).reshape(-1, len(size))


@pytest.mark.parametrize("size", SIZES)
def test_points_and_pixels_are_moved_by_the_same_field(size):
    elastic = draw(0, size)
    np.testing.assert_allclose(elastic.at(all_pixels(size)), dense(elastic, size), atol=2e-6)
    assert np.abs(dense(elastic, size)).max() > 0.2


@pytest.mark.parametrize("size", SIZES)
def test_the_field_is_scipys_b_spline(size):
    elastic = draw(1, size)
    knots = [
        elastic.spacing * (np.arange(count + 4) - 2 - (count - 1) / 2) for count in elastic.control.shape[1:]
    ]
    control = np.moveaxis(elastic.control.astype(float), 0, -1)
    reference = NdBSpline(tuple(knots), control, 3)
    points = np.random.default_rng(2).uniform(-0.5, 0.5, (200, len(size))) * (np.array(size) - 1)
    np.testing.assert_allclose(elastic.at(points), reference(points[:, ::-1]), atol=1e-9)


def test_outside_of_the_grid_the_field_is_that_of_the_edge():
    elastic = draw(3, (64, 64))
    far, farther = elastic.at(np.array([[500.0, 3.0], [900.0, 3.0]]))
    np.testing.assert_array_equal(far, farther)
    assert np.abs(far).max() > 0


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_bound_on_coefficients_bounds_the_gradient(dimensions):
    """The constants of Choi and Lee, from the worst row of |∂u| over all phases and unit coefficients."""
    phases = np.linspace(0, 1, 21)
    unit = BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    distance = phases[:, None] - np.arange(-1, 3)
    value, slope = np.nan_to_num(unit(distance)), np.nan_to_num(unit.derivative()(distance))
    subscripts = {2: "ai,bj->abij", 3: "ai,bj,ck->abcijk"}[dimensions]
    partial = [
        np.einsum(subscripts, *[slope if other == axis else value for other in range(dimensions)])
        for axis in range(dimensions)
    ]
    # The worst coefficients, ±1 each, for Σ ±∂u: one sign of each derivative, and the best response to it.
    worst = max(
        np.abs(sum(sign * one for sign, one in zip(signs, partial, strict=True)))
        .sum(axis=tuple(range(-dimensions, 0)))
        .max()
        for signs in product((1, -1), repeat=dimensions)
    )
    elastic = draw(0, (64,) * dimensions, alpha=1e6, sigma=3.0)
    largest = np.abs(elastic.control).max()
    assert largest * worst / elastic.spacing == pytest.approx(CONTRACTION, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), sigma=st.floats(2, 13), size=st.sampled_from(SIZES))
def test_neighbours_never_change_places(seed, sigma, size):
    elastic = draw(seed, size, alpha=1e4, sigma=sigma)
    points = np.random.default_rng(seed).uniform(-0.6, 0.6, (300, len(size))) * size
    others = points + np.random.default_rng(seed + 1).normal(size=points.shape)
    apart = np.abs(others - points).max(1)
    assert (np.abs(elastic.at(others) - elastic.at(points)).max(1) <= CONTRACTION * apart * (1 + 1e-6)).all()


@pytest.mark.parametrize(("size", "alpha"), [((900, 700), 3.0), ((110, 100, 90), 12.0)])
def test_strength_and_smoothness_are_those_of_smoothed_noise(size, alpha):
    """Without the limit, spread of field and gradient equal those of uniform noise smoothed by SciPy."""
    sigma = 4.0
    elastic = draw(5, size, alpha, sigma)
    ours = dense(elastic, size)[:, 0].reshape(size[::-1])
    noise = np.random.default_rng(6).uniform(-alpha, alpha, size[::-1])
    reference = gaussian_filter(noise, sigma, mode="wrap")
    assert ours.std() == pytest.approx(reference.std(), rel=0.07)
    assert np.gradient(ours, axis=-1).std() == pytest.approx(np.gradient(reference, axis=-1).std(), rel=0.07)


@pytest.mark.parametrize(
    ("alpha", "sigma", "dimensions", "cut", "shown"),
    [
        (50, (2, 5), 2, 0.86, 0.26),  # payer19, thaler21
        (50, (2, 5), 3, 0.70, 0.49),
        (50, (5, 10), 2, 0.36, 0.82),
        (50, (5, 10), 3, 0.03, 0.99),
        (200, (9, 13), 2, 0.66, 0.56),
        (200, (9, 13), 3, 0.04, 0.99),
    ],
)
def test_how_often_and_how_much_a_scheme_is_cut(alpha, sigma, dimensions, cut, shown):
    """The shares of docs/augmentation.md, measured on the fields by their largest coefficient."""
    rng = np.random.default_rng(0)
    drawn = [(rng.uniform(0, alpha), rng.uniform(*sigma)) for _ in range(1000)]
    limits = np.array([largest_alpha(sigma, dimensions) for _, sigma in drawn])
    alphas = np.array([alpha for alpha, _ in drawn])
    assert (alphas > limits).mean() == pytest.approx(cut, abs=0.04)
    assert np.minimum(alphas, limits).sum() / alphas.sum() == pytest.approx(shown, abs=0.04)
    size = (60, 60, 60)[:dimensions]
    for (alpha, sigma), limit in zip(drawn[:20], limits, strict=False):
        found, at_limit = (np.abs(draw(1, size, one, sigma).control).max() for one in (alpha, limit))
        assert found == pytest.approx(at_limit * min(alpha / limit, 1), rel=1e-5)
