"""Confidence as a probability: calibration and its metrics, against draws of known probability."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from lannunet_landmarks.evaluation.reliability import (
    LEAST_POINTS,
    ConfidenceCalibration,
    calibrate_confidence,
    cross_calibrated,
    ranking,
    reliability,
)

from lannunet_core import UserError

NAN = float("nan")


def draw(rng, images, landmarks=12, slope=0.5, intercept=1.0):
    """Raw confidences and hits of which the true probability is a logistic curve of the raw ones' logits."""
    raw = rng.beta(4, 1, (images, landmarks))
    true = 1 / (1 + np.exp(-(intercept + slope * np.log(raw / (1 - raw)))))
    return raw, (rng.random(true.shape) < true).astype(float), true


def test_after_calibration_it_is_the_probability():
    rng = np.random.default_rng(0)
    known = calibrate_confidence(*draw(rng, 60)[:2], 5.0, "px")
    raw, hits, true = draw(rng, 300)
    np.testing.assert_allclose(known(raw), true, atol=0.05)
    before, after = (reliability(one, hits)["calibration_error"] for one in (raw, known(raw)))
    assert after < 0.03 < before


def test_the_order_of_points_stays():
    """This also holds if all held-out points are right, or large raw confidences are worse than small."""
    raw = np.linspace(0.01, 0.999, 100)
    for hits in (np.ones(100), np.zeros(100), (raw < 0.5).astype(float)):
        known = calibrate_confidence(raw, hits, 5.0, "px")
        assert (np.diff(known(raw)) > 0).all()


def test_few_right_points_are_no_proof():
    known = calibrate_confidence(np.full(24, 0.98), np.ones(24), 5.0, "px")
    assert 0.9 < known(np.array([0.98])) < 0.97  # 25 of 26
    assert calibrate_confidence(np.full(LEAST_POINTS - 1, 0.98), np.ones(LEAST_POINTS - 1), 5.0, "px") is None


@pytest.mark.parametrize(
    "change",
    [{"slope": -1.0}, {"radius": "wide"}, {"unit": "m"}, {"intercept": NAN}, {"points": None}, None, []],
)
def test_a_damaged_model_is_refused(change):
    known = ConfidenceCalibration(5.0, "px", 0.5, 1.0, 60)
    assert ConfidenceCalibration.read(known.learned()) == known
    with pytest.raises(UserError, match="damaged"):
        ConfidenceCalibration.read(known.learned() | change if isinstance(change, dict) else change)


def test_what_is_not_known_does_not_count():
    rng = np.random.default_rng(1)
    raw, hits, _ = draw(rng, 20)
    more = np.concatenate([raw, raw]), np.concatenate([hits, np.full_like(hits, NAN)])
    assert calibrate_confidence(*more, 5.0, "px") == calibrate_confidence(raw, hits, 5.0, "px")
    known = calibrate_confidence(raw, hits, 5.0, "px")
    assert known(np.array([0.0])) == 0  # no point
    assert np.isnan(known(np.array([NAN])))


def test_the_diagram_is_counted():
    confidence = np.repeat([0.2, 0.6, 0.9], 20)
    within = np.concatenate([np.arange(20) < count for count in (5, 10, 18)]).astype(float)
    found = reliability(confidence, within)
    assert [row["points"] for row in found["groups"]] == [20, 20, 20]
    assert [row["within"] for row in found["groups"]] == [0.25, 0.5, 0.9]
    assert found["calibration_error"] == pytest.approx((0.05 + 0.1 + 0) / 3)
    assert reliability(confidence[:0], within[:0]) == {"points": 0, "groups": [], "calibration_error": None}


def test_ties_are_one_group():
    confidence, within = np.full(400, 0.7), np.arange(400) % 2.0
    for order in (np.arange(400), np.argsort(within)):
        found = reliability(confidence, within[order])
        assert len(found["groups"]) == 1
        assert found["calibration_error"] == pytest.approx(0.2)


def test_images_are_calibrated_by_the_others():
    rng = np.random.default_rng(2)
    raw, hits, _ = draw(rng, 50)
    image = np.indices(raw.shape)[0]
    found = cross_calibrated(raw.ravel(), hits.ravel(), image.ravel()).reshape(raw.shape)
    first = image % 5 == 0
    known = calibrate_confidence(raw[~first], hits[~first], 0.0, "")
    np.testing.assert_allclose(found[first], known(raw[first]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_ranking_is_the_share_of_pairs(points):
    confidence = np.array([c for c, _ in points], float)
    gross = np.array([g for _, g in points])
    pairs = [(a < b) + (a == b) / 2 for a in confidence[gross] for b in confidence[~gross]]
    assert ranking(confidence, gross) == (pytest.approx(np.mean(pairs)) if pairs else None)
