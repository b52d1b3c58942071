"""Regions against the definition and against chance; bins against a plain regression."""

import json
from fractions import Fraction
from math import comb, inf, nan
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.evaluation.calibration import (
    Calibration,
    calibrate,
    coverage_interval,
    least_points,
    rank,
    read_calibration,
    write_calibration,
)
from lannunet_landmarks.evaluation.coverage import coverage_summary
from lannunet_landmarks.evaluation.predictions import read_errors, write_predictions
from lannunet_landmarks.types import Prediction

from lannunet_core.errors import UserError
from lannunet_core.hookspecs import State

NAMES = ("tip", "heel", "knee")


def predicted(errors, confidence=None, *, spacing=None, states=None) -> list[Prediction]:
    """Predictions with radial errors (images, N) in pixels; infinite: visible and not found."""
    rng = np.random.default_rng(0)
    result = []
    for i, row in enumerate(np.asarray(errors, dtype=float)):
        target = rng.uniform(20, 80, (len(row), 2))
        angle = rng.uniform(0, 2 * np.pi, len(row))
        offset = np.where(np.isinf(row), nan, row)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        result.append(
            Prediction(
                id=str(i),
                image=Path("none"),
                coordinates=target + offset,
                confidence=np.full(len(row), 0.5) if confidence is None else np.asarray(confidence)[i],
                target=target,
                states=np.full(len(row), State.VISIBLE) if states is None else np.asarray(states)[i],
                spacing=spacing,
            )
        )
    return result


def of_errors(errors, unit="px") -> Calibration:
    """A calibration of one landmark."""
    errors = np.asarray(errors, dtype=float)[:, None]
    return calibrate(errors, np.full_like(errors, nan), NAMES[:1], unit)


@pytest.mark.parametrize(
    ("points", "coverage", "k"),
    [(9, 0.9, 9), (8, 0.9, 9), (10, 0.9, 10), (58, 0.9, 54), (9, 0.7, 7), (19, 0.55, 11), (99, 0.95, 95)],
)
def test_rank(points, coverage, k):
    assert rank(points, coverage) == k
    wanted = Fraction(str(coverage))
    assert Fraction(k, points + 1) >= wanted > Fraction(k - 1, points + 1)


@pytest.mark.parametrize(("coverage", "points"), [(0.9, 9), (0.95, 19), (0.5, 1), (0.7, 3), (0.99, 99)])
def test_a_region_needs_enough_points(coverage, points):
    assert least_points(coverage) == points
    errors = np.arange(1.0, points + 1)
    assert of_errors(errors).landmarks["tip"].radius(coverage) == points
    assert of_errors(errors[1:]).landmarks["tip"].radius(coverage) == inf


def test_too_few_points_are_told_and_never_a_number():
    calibration = of_errors(np.arange(8))
    (line,) = calibration.missing(NAMES[:1], 0.9)
    assert "'tip'" in line and "8 held-out errors" in line and "at least 9" in line
    (prediction,) = calibration.apply(predicted([[1.0]]), NAMES[:1], 0.9)
    assert prediction.calibrated.radius[0] == inf
    assert calibration.missing(NAMES[:1], 0.8) == []


def test_what_was_not_found_widens_the_region():
    assert of_errors([*range(1, 19), inf]).landmarks["tip"].radius(0.9) == 18
    calibration = of_errors([*range(1, 18), inf, inf])
    assert calibration.landmarks["tip"].radius(0.9) == inf
    assert "2 not found" in calibration.missing(NAMES[:1], 0.9)[0]


def by_counting(n, k, m, repeats, tail):
    """The central interval, from the ranks of n + m errors in random order (negative hypergeometric)."""
    once = [Fraction(comb(k - 1 + x, x) * comb(n - k + m - x, m - x), comb(n + m, m)) for x in range(m + 1)]
    chances = [Fraction(1)]
    for _ in range(repeats):
        longer = [Fraction(0)] * (len(chances) + m)
        for i, a in enumerate(chances):
            for j, b in enumerate(once):
                longer[i + j] += a * b
        chances = longer
    return [
        Fraction(next(x for x in range(len(chances)) if sum(chances[: x + 1]) >= end), m * repeats)
        for end in (tail, 1 - tail)
    ]


@pytest.mark.parametrize(("n", "k", "m", "repeats"), [(9, 9, 4, 1), (19, 18, 10, 1), (30, 28, 6, 3)])
def test_the_interval_is_exact(n, k, m, repeats):
    expected = by_counting(n, k, m, repeats, Fraction(25, 1000))
    assert coverage_interval(n, 0.9, m, 0.95, repeats) == pytest.approx([float(end) for end in expected])


def test_no_interval_without_region_or_cases():
    assert coverage_interval(8, 0.9, 10) is None
    assert coverage_interval(20, 0.9, 0) is None


def draws(tmp_path, radius_of=None):
    """Mean coverage over 50 draws of a calibration set and of fresh images, through all files."""
    rng = np.random.default_rng(5)
    images, fresh, held = 30, 40, []
    for _ in range(50):
        scale = np.array([0.5, 3, 20]) * rng.uniform(0.5, 2)
        errors = scale * rng.lognormal(0, 1, (images + fresh, len(NAMES)))
        confidence = np.clip(0.9 - errors / errors.max() + rng.normal(0, 0.1, errors.shape), 0, 1)
        both = predicted(errors, confidence, spacing=(0.3, 0.3))
        write_predictions(tmp_path / "held_out.csv", both[:images], NAMES)
        held_out = read_errors(tmp_path / "held_out.csv")
        names, unit, read = held_out.landmark_names, held_out.unit, held_out.errors
        assert (names, unit) == (list(NAMES), "mm")
        made = calibrate(read, 1 - held_out.confidence, names, unit)
        write_calibration(tmp_path / "calibration.json", made)
        calibration = read_calibration(tmp_path / "calibration.json")
        applied = calibration.apply(both[images:], NAMES, 0.9)
        summary = coverage_summary(calibration, applied, NAMES, 0.9)
        assert summary["overall"]["cases"] == fresh * len(NAMES)
        if radius_of is None:
            held.append(summary["overall"]["rate"])
        else:
            held.append((errors[images:] * 0.3 <= radius_of(read)).mean())
    return float(np.mean(held)), coverage_interval(images, 0.9, fresh, 0.99, 50 * len(NAMES))


def test_regions_hold_what_they_promise(tmp_path):
    mean, (low, high) = draws(tmp_path)
    assert low <= mean <= high
    assert high - low < 0.04


def test_the_plain_quantile_does_not(tmp_path):
    mean, (low, _) = draws(tmp_path, lambda errors: np.quantile(errors, 0.9, axis=0))
    assert mean < low


def test_bins_follow_the_error():
    uncertainty = np.linspace(0, 1, 101)
    errors = 10 * uncertainty
    one = calibrate(errors[:, None], uncertainty[:, None], NAMES[:1], "px").landmarks["tip"]
    np.testing.assert_allclose(one.cuts, [0.2, 0.4, 0.6, 0.8])
    np.testing.assert_allclose(one.bounds, [2, 4, 6, 8])
    assert [one.bin(u) for u in (0, 0.2, 0.21, 0.5, 0.81, 1)] == [1, 1, 2, 3, 5, 5]
    assert [one.bin_bounds(number) for number in (1, 2, 5)] == [(0, 2), (2, 4), (8, inf)]
    assert one.bin(nan) == 0 and np.isnan(one.bin_bounds(0)).all()


def test_bounds_never_fall_with_the_uncertainty():
    rng = np.random.default_rng(1)
    uncertainty = rng.uniform(size=200)
    one = calibrate(
        (rng.exponential(1, 200) + uncertainty)[:, None], uncertainty[:, None], NAMES[:1], "px"
    ).landmarks["tip"]
    assert (np.diff(one.bounds) >= 0).all()
    groups = np.searchsorted(one.cuts, uncertainty)
    np.testing.assert_array_equal(np.bincount(groups), 40)


def test_ties_count_together_in_any_order():
    """A saturated confidence does not rank the errors of its images."""
    uncertainty = np.repeat([0.0, 0.4, 0.9], 20)
    errors = np.random.default_rng(0).exponential(1 + 5 * uncertainty)
    one, other = (
        calibrate(errors[order, None], uncertainty[order, None], NAMES[:1], "px").landmarks["tip"]
        for order in (np.arange(60), np.arange(60)[::-1])
    )
    np.testing.assert_allclose(one.bounds, other.bounds)
    means = [errors[uncertainty == u].mean() for u in (0, 0.4, 0.9)]
    assert means == sorted(means)
    np.testing.assert_allclose(one.bounds, np.interp(one.cuts, [0, 0.4, 0.9], means))


def test_few_points_make_fewer_bins():
    def bins(count):
        values = np.linspace(0, 1, count)[:, None]
        return len(calibrate(values, values, NAMES[:1], "px").landmarks["tip"].cuts) + 1

    assert [bins(count) for count in (4, 9, 10, 24, 25, 500)] == [1, 1, 2, 4, 5, 5]


def test_a_landmark_that_was_not_found_has_no_region():
    values = np.linspace(0.01, 1, 40)[:, None] * np.ones(2)
    calibration = calibrate(values, values, NAMES[:2], "px")
    (one,) = calibration.apply(predicted([[1.0, inf]]), NAMES[:2], 0.9)
    assert np.isfinite(one.calibrated.radius[0]) and one.calibrated.bin[0] == 3
    assert one.calibrated.radius[1] == inf and one.calibrated.bin[1] == 0
    assert np.isnan(one.calibrated.bounds[1]).all()


def test_landmarks_are_matched_by_name():
    errors = np.arange(1.0, 21)[:, None] * [1, 100]
    calibration = calibrate(errors, np.full_like(errors, nan), ("a", "b"), "px")
    (one,) = calibration.apply(predicted([[1.0, 1.0]]), ("b", "a"), 0.9)
    assert one.calibrated.radius.tolist() == [1900, 19]
    with pytest.raises(UserError, match="no landmark 'c'; it holds a, b"):
        calibration.apply(predicted([[1.0]]), ("c",), 0.9)


def test_millimetres_need_a_spacing():
    with pytest.raises(UserError, match="spacing of '0'"):
        of_errors(range(20), "mm").apply(predicted([[1.0]]), NAMES[:1], 0.9)


def test_a_file_gives_back_what_was_written(tmp_path):
    rng = np.random.default_rng(2)
    errors = rng.exponential(1, (30, 2))
    errors[:3, 0] = inf
    before = calibrate(errors, rng.uniform(size=(30, 2)), NAMES[:2], "mm")
    write_calibration(tmp_path / "c.json", before)
    after = read_calibration(tmp_path / "c.json")
    assert after.unit == "mm" and list(after.landmarks) == list(NAMES[:2])
    for name in NAMES[:2]:
        for field in ("errors", "cuts", "bounds"):
            np.testing.assert_allclose(
                getattr(after.landmarks[name], field), getattr(before.landmarks[name], field), atol=1e-4
            )


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("unit"),
        lambda content: content.update(unit="cm"),
        lambda content: content.update(lannunet_calibration=7),
        lambda content: content.update(landmarks=[1]),
        lambda content: content["landmarks"]["tip"].update(errors="many"),
        lambda content: content["landmarks"]["tip"].update(errors=[2, 1]),
        lambda content: content["landmarks"]["tip"].update(cuts=[1]),
        lambda content: content["landmarks"]["tip"].update(errors=[True]),
        lambda content: content["landmarks"]["tip"].update(errors=[-1]),
        lambda content: content["landmarks"]["tip"].update(errors=[float("nan")]),
        lambda content: content["landmarks"]["tip"].update(not_found=10**12),
        lambda content: content["landmarks"]["tip"].update(not_found="1"),
        lambda content: content.update(unit=["mm"]),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, change):
    path = tmp_path / "c.json"
    write_calibration(path, of_errors(range(20)))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="lannunet calibrate"):
        read_calibration(path)


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_calibration(tmp_path / "c.json")
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(UserError, match="malformed JSON"):
        read_calibration(tmp_path / "c.json")
