"""Statistics with intervals, against NumPy and closed forms."""

import numpy as np
import pytest
from scipy.stats import norm

from lannunet_core.report import bootstrap
from lannunet_core.report.bootstrap import bootstrap_statistics, bootstrap_weights, finite, interval

NAN = float("nan")


def statistics(errors, radii=(), seed=0):
    """Of `errors` (images, N)."""
    errors = np.asarray(errors, float)
    image = np.repeat(np.arange(len(errors)), errors.shape[1])
    return bootstrap_statistics(errors.ravel(), image, bootstrap_weights(len(errors), seed), radii)


def test_figures_agree_with_numpy():
    errors = np.random.default_rng(1).gamma(2, 1.5, (14, 3))
    errors[3, 1] = NAN
    found = errors[np.isfinite(errors)]
    figures = statistics(errors, (2, 4))
    assert figures["mean"] == pytest.approx(found.mean())
    assert figures["median"] == pytest.approx(np.median(found))
    assert figures["sd"] == pytest.approx(found.std())
    rates = [(row["radius"], row["rate"]) for row in figures["detection_rates"]]
    assert rates == [(r, pytest.approx((found <= r).sum() / errors.size)) for r in (2, 4)]  # NaN is a miss


def test_intervals_resample_images():
    of_image = np.random.default_rng(0).normal(10, 2, 50)
    low, high = statistics(np.repeat(of_image[:, None], 10, axis=1))["mean_ci95"]
    assert high - low == pytest.approx(2 * norm.ppf(0.975) * of_image.std() / 50**0.5, rel=0.1)
    assert (low + high) / 2 == pytest.approx(of_image.mean(), abs=0.1)


def test_weights_are_draws_of_as_many_images():
    weights = bootstrap_weights(7, 3)
    assert weights.shape == (bootstrap.DRAWS, 7)
    assert (weights.sum(1) == 7).all()
    assert np.array_equal(weights, bootstrap_weights(7, 3))
    assert not np.array_equal(weights, bootstrap_weights(7, 4))
    assert bootstrap_weights(0, 3) is None


def test_chunks_change_nothing(monkeypatch):
    errors = np.random.default_rng(2).gamma(2, 1.5, (9, 4))
    whole = statistics(errors, (2,))
    monkeypatch.setattr(bootstrap, "CHUNK_ELEMENTS", 500)
    assert statistics(errors, (2,)) == whole


def test_draws_that_miss_the_only_image_say_nothing():
    errors = np.full((6, 1), NAN)
    errors[2] = 3.0
    figures = statistics(errors, (4,))
    assert (figures["mean"], figures["mean_ci95"], figures["sd_ci95"]) == (3, [3, 3], [0, 0])
    assert figures["detection_rates"][0]["rate"] == pytest.approx(1 / 6)


@pytest.mark.parametrize("errors", [np.empty((0, 2)), np.full((3, 2), NAN)])
def test_without_errors_there_is_nothing(errors):
    figures = statistics(errors, (2,))
    assert figures["mean"] is figures["median_ci95"] is figures["sd"] is None


def test_numbers_for_json():
    assert finite(np.float64(2.5)) == 2.5
    assert finite(NAN) is finite(np.inf) is None
    assert interval(1, 2) == [1, 2]
    assert interval(NAN, NAN) is None
