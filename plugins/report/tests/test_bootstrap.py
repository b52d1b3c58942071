"""Statistics with intervals, against NumPy and closed forms."""

import numpy as np
import pytest
from lannunet_report import bootstrap
from lannunet_report.bootstrap import bootstrap_statistics, bootstrap_weights, finite, interval
from scipy.stats import norm

NAN = float("nan")


def statistics(errors, radii=(), seed=0):
    """The statistics of `errors` (images, N)."""
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


def test_one_image_has_no_interval():
    errors = np.full((6, 1), NAN)
    errors[2] = 3.0
    figures = statistics(errors, (4,))
    assert (figures["mean"], figures["sd"]) == (3, None)  # one value has no deviation
    assert figures["mean_ci95"] is figures["sd_ci95"] is None
    assert figures["detection_rates"][0]["rate"] == pytest.approx(1 / 6)


def test_draws_that_miss_the_images_with_a_figure_say_nothing():
    errors = np.full((30, 1), NAN)
    errors[:6, 0] = [3.0, 4.0, 5.0, 3.5, 4.5, 4.0]
    low, high = statistics(errors)["mean_ci95"]
    assert low < 4 < high


@pytest.mark.parametrize(
    ("draw", "mean", "median", "least"),
    [
        (lambda rng: rng.normal(5, 1, (10, 2)), 5, 5, 0.92),
        (lambda rng: rng.lognormal(0, 0.5, (10, 2)), np.exp(0.125), 1, 0.92),
        # Heavy tails, which ten images often do not show: 0.90 over 1500 simulations.
        (lambda rng: rng.lognormal(0, 1, (10, 2)), np.exp(0.5), 1, 0.88),
    ],
)
def test_intervals_keep_their_promise_at_ten_images(draw, mean, median, least):
    """Coverage is 95 %, within a deviation of .0126 (300 simulations). Percentiles have .89, .88 and .80."""
    rng, weights, image = np.random.default_rng(1), bootstrap_weights(10, 0), np.repeat(np.arange(10), 2)
    within = np.mean([draw(rng) <= 1.5 * median for _ in range(3000)])
    held = []
    for _ in range(300):
        drawn = bootstrap_statistics(draw(rng).ravel(), image, weights, (1.5 * median,))
        ends = drawn["mean_ci95"], drawn["median_ci95"], drawn["detection_rates"][0]["ci95"]
        held.append([a <= truth <= b for (a, b), truth in zip(ends, (mean, median, within), strict=True)])
    of_mean, of_median, of_rate = np.mean(held, axis=0)
    assert of_mean >= least
    assert of_median >= 0.92
    assert of_rate >= 0.9  # a share of twenty takes few values


def test_intervals_are_not_wider_than_a_gross_error():
    """Draws without the gross errors have nearly no deviation: divided by it, a mean has 0 to 300 px."""
    rng, weights, image = np.random.default_rng(1), bootstrap_weights(30, 0), np.arange(30)
    held, widths = [], []
    for _ in range(300):
        gross = rng.random(30) < 0.1
        errors = np.where(gross, rng.uniform(20, 80, 30), rng.lognormal(-1, 0.5, 30))
        drawn = bootstrap_statistics(errors, image, weights)
        truths = [0.1 * 50 + 0.9 * np.exp(-0.875)]
        truths.append(np.sqrt(0.1 * (50**2 + 60**2 / 12) + 0.9 * np.exp(-1.5) - truths[0] ** 2))
        ends = drawn["mean_ci95"], drawn["sd_ci95"]
        held.append([low <= truth <= high for (low, high), truth in zip(ends, truths, strict=True)])
        widths.append([high - low for low, high in ends])
    assert (np.mean(held, axis=0) >= 0.9).all()
    assert (np.median(widths, axis=0) < (30, 50)).all()
    errors[:], errors[0] = 0.5, 60  # mean 2.5
    _, high = bootstrap_statistics(errors, image, weights)["mean_ci95"]
    assert 8 < high < 25  # one in thirty: at most 17 % (Clopper and Pearson), so about 0.5 + 60 · 17 %


def test_a_share_of_all_is_not_certain():
    """Rule of three: ten of ten is no proof of more than 7 in 10."""
    (row,) = statistics(np.ones((10, 1)), (2,))["detection_rates"]
    assert row["rate"] == 1
    assert 0.65 < row["ci95"][0] < 0.8 and row["ci95"][1] == 1


@pytest.mark.parametrize("errors", [np.empty((0, 2)), np.full((3, 2), NAN)])
def test_without_errors_there_is_nothing(errors):
    figures = statistics(errors, (2,))
    assert figures["mean"] is figures["median_ci95"] is figures["sd"] is None


def test_numbers_for_json():
    assert finite(np.float64(2.5)) == 2.5
    assert finite(NAN) is finite(np.inf) is None
    assert interval(1, 2) == [1, 2]
    assert interval(NAN, NAN) is None
