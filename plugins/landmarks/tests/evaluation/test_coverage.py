"""Metrics of a calibration that can be computed by hand."""

from math import inf, nan
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.evaluation.calibration import calibrate, coverage_interval
from lannunet_landmarks.evaluation.coverage import coverage_summary, print_coverage
from lannunet_landmarks.types import Prediction

from lannunet_core.hookspecs import State

NAMES = ("tip", "heel")


def summary_of(held_out, errors, *, states=None, uncertainty=None, found_uncertainty=None, coverage=0.9):
    """Errors (images, 2) of predictions at the origin, judged by held-out errors (images, 2)."""
    held_out, errors = np.asarray(held_out, float), np.asarray(errors, float)
    uncertainty = np.full_like(held_out, nan) if uncertainty is None else uncertainty
    calibration = calibrate(held_out, uncertainty, NAMES, "px")
    predictions = []
    for i, row in enumerate(errors):
        states_of = np.full(2, State.VISIBLE) if states is None else np.array(states[i])
        target = np.stack([np.where(np.isinf(row), 0, row), np.zeros(2)], axis=1)
        predictions.append(
            Prediction(
                str(i),
                Path("none"),
                coordinates=np.where(np.isinf(row), nan, 0)[:, None] * np.ones(2),
                confidence=1 - (np.full(2, nan) if found_uncertainty is None else found_uncertainty[i]),
                target=np.where((states_of == State.VISIBLE)[:, None], target, nan),
                states=states_of,
            )
        )
    return coverage_summary(calibration, calibration.apply(predictions, NAMES, coverage), NAMES, coverage)


TWENTY = np.arange(1.0, 21)[:, None] * [1, 10]  # radii at 0.9: 19 and 190


def test_rates_are_counted():
    summary = summary_of(TWENTY, [[19, 191], [18.9, 0], [19.1, 3], [inf, 190]])
    tip, heel = (summary["per_landmark"][name] for name in NAMES)
    assert (tip["points"], tip["radius"], tip["cases"], tip["held"], tip["rate"]) == (20, 19, 4, 2, 0.5)
    assert (heel["radius"], heel["held"]) == (190, 3)
    assert tip["expected"] == list(coverage_interval(20, 0.9, 4))
    assert summary["overall"] == {"cases": 8, "held": 5, "rate": 5 / 8}


def test_what_is_not_visible_is_no_case():
    states = [[State.VISIBLE, State.UNLABELLED], [State.ABSENT, State.VISIBLE]]
    summary = summary_of(TWENTY, [[1, 1], [1, 1000]], states=states)
    assert [summary["per_landmark"][name]["cases"] for name in NAMES] == [1, 1]
    assert summary["overall"] == {"cases": 2, "held": 1, "rate": 0.5}


def test_a_landmark_without_a_region_is_left_out():
    held_out = TWENTY.copy()
    held_out[5:, 1] = nan
    summary = summary_of(held_out, [[1, 1], [30, 1]])
    heel = summary["per_landmark"]["heel"]
    assert (heel["points"], heel["radius"], heel["cases"], heel["rate"], heel["expected"]) == (
        5, None, 0, None, None,
    )  # fmt: skip
    assert summary["overall"] == {"cases": 2, "held": 1, "rate": 0.5}
    assert summary["reliability"][-1] == {"asked": 0.95, "promised": pytest.approx(20 / 21), "rate": 0.5}


def test_reliability_of_errors_like_those():
    rows = summary_of(TWENTY, np.arange(1.0, 20)[:, None] * [1, 10] + 0.5)["reliability"]
    for row in rows:
        assert row["promised"] >= row["asked"]
        assert row["rate"] == pytest.approx(row["asked"], abs=0.06)
    assert len(rows) == 19


def test_errors_bin_by_bin():
    uncertainty = np.linspace(0, 1, 101)[:, None] * np.ones(2)
    found = np.array([[0.1, 0.1], [0.3, 0.3], [0.9, 0.9]])
    summary = summary_of(
        uncertainty * [10, 20], [[1, 6], [3, 5], [9, 17]], uncertainty=uncertainty, found_uncertainty=found
    )
    first, second, third, _, last = summary["bins"]
    assert first == {"cases": 2, "mean_error": 3.5, "within": 0.5}
    assert second == {"cases": 2, "mean_error": 4, "within": 1}
    assert third == {"cases": 0, "mean_error": None, "within": None}
    assert last == {"cases": 2, "mean_error": 13, "within": 1}
    bins = summary["per_landmark"]["heel"]["bins"]
    assert [row["from"] for row in bins] == pytest.approx([0, 4, 8, 12, 16])
    assert bins[-1]["to"] is None


def test_the_line_that_is_printed(capsys):
    print_coverage(summary_of(TWENTY, [[19, 191]]))
    assert capsys.readouterr().out == ("regions for 90.0% of the true points contain 50.0% of 2\n")
    print_coverage(summary_of(TWENTY, np.empty((0, 2))))
    assert capsys.readouterr().out == ""
