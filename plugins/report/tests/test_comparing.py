"""Comparing runs: statistics with a known result, and small folders of results."""

import json
import re

import numpy as np
import pytest
from lannunet_report.comparing.command import distinct_names
from lannunet_report.comparing.differences import (
    cases_of,
    crossed_interval,
    differences_of,
    figures_of,
    mean_with_interval,
    verdict,
)
from lannunet_report.comparing.page import write_comparison
from lannunet_report.comparing.results import Figure, Group, Results, aligned

from lannunet_core import UserError


def group(name, values, *, higher=False, share=False, cases=None, outputs=None, truth=None, unit="mm"):
    """Values (runs, cases, outputs)."""
    values = np.asarray(values, np.float64)
    cases = tuple(cases or (f"case {n}" for n in range(values.shape[1])))
    outputs = tuple(outputs or (f"output {n}" for n in range(values.shape[2])))
    truth = tuple(truth or cases)
    runs = (
        Results(cases, outputs, (Figure("error", unit, higher, one, share),), truth, np.isnan(one))
        for one in values
    )
    return Group(name, tuple(runs), {})


def test_a_paired_difference_is_that_of_the_pairs():
    rng = np.random.default_rng(0)
    base = rng.normal(5, 3, (1, 40, 3))  # cases differ far more than the runs do
    other = base + rng.normal(0.4, 0.1, base.shape)
    found = differences_of(group("b", other), group("a", base), 0)
    low, high = found["overall"]["ci95"]
    assert found["overall"]["mean"] == pytest.approx((other - base).mean())
    assert 0.3 < low < 0.4 < high < 0.5
    assert found["overall"]["pairs"] == 120
    assert set(found["per_output"]) == {"output 0", "output 1", "output 2"}
    figure = Figure("error", "mm", False, base[0])
    assert verdict(found["overall"], figure) == "worse"
    assert verdict({"mean": -1.0, "ci95": [-2.0, -0.1]}, figure) == "better"
    assert verdict({"mean": -1.0, "ci95": [-2.0, 0.1]}, figure) == "unclear"
    assert verdict({"mean": 1.0, "ci95": None}, figure) == "unclear"


def test_what_only_one_run_knows_is_no_pair():
    base, other = np.ones((1, 4, 1)), np.full((1, 4, 1), 3.0)
    base[0, 0], other[0, 1] = np.nan, np.nan
    found = differences_of(group("b", other), group("a", base), 0)["overall"]
    assert (found["mean"], found["pairs"]) == (2.0, 2)
    nothing = mean_with_interval(np.full((1, 4, 1), np.nan))
    assert (nothing["mean"], nothing["ci95"], nothing["pairs"]) == (None, None, 0)
    assert mean_with_interval(np.full((2, 4, 1), np.nan))["mean"] is None


@pytest.mark.parametrize("seeds, cases", [(0.0, 1.0), (1.0, 0.3), (0.3, 0.3)])
def test_the_interval_over_seeds_and_cases_holds_the_mean(seeds, cases):
    """The coverage in draws of the two-way model with true mean 0, three seeds and twelve cases."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        drawn = seeds * rng.normal(size=(3, 1)) + cases * rng.normal(size=(1, 12)) + rng.normal(size=(3, 12))
        low, high = crossed_interval(drawn)
        held += low <= 0 <= high
    assert 0.92 < held / 400 <= 1.0


def test_an_interval_needs_seeds_and_cases():
    assert crossed_interval(np.zeros((1, 5))) is None
    assert crossed_interval(np.zeros((3, 1))) is None
    assert crossed_interval(np.full((3, 5), 2.0)) == [2.0, 2.0]


def test_one_seed_of_cases_alone_is_the_paired_t_interval():
    """If seeds agree and there is no residual, it is Student's interval over the cases."""
    from scipy import stats

    of_case = np.random.default_rng(2).normal(1, 2, 9)
    low, high = crossed_interval(np.stack([of_case] * 3))
    half = stats.t.ppf(0.975, 8) * of_case.std(ddof=1) / 3
    np.testing.assert_allclose((low, high), (of_case.mean() - half, of_case.mean() + half))


def test_cases_that_got_worse_come_first():
    base = np.array([[[1.0, 1], [1, 1], [1, 1], [1, np.nan]]])
    other = np.array([[[2.0, 1], [1, 0.5], [1, np.nan], [1, 1]]])
    rows = cases_of(group("b", other), group("a", base))
    assert [row["id"] for row in rows] == ["case 2", "case 0", "case 1", "case 3"]
    assert rows[0]["failed"] == ["output 1"]
    assert rows[1]["output"] == "output 0"
    assert rows[3]["fixed"] == ["output 1"]
    higher = cases_of(group("b", other, higher=True), group("a", base, higher=True))
    assert [row["id"] for row in higher] == ["case 2", "case 1", "case 0", "case 3"]


def test_only_what_all_runs_have_is_compared():
    ones = np.ones((1, 3, 2))
    first = group("a", ones, cases="abc", outputs="xy")
    second = group("b", ones * [[2, 3]], cases="cbd", outputs="yx", truth=["c", "other", "d"])
    (left, right), notes = aligned([first, second])
    assert left.runs[0].cases == right.runs[0].cases == ("b", "c")
    assert right.runs[0].outputs == ("x", "y")
    np.testing.assert_array_equal(right.values(0), [[[3, 2], [3, 2]]])
    assert "2 cases left out" in notes[0]
    assert "1 case with other annotations" in notes[1]


def test_means_are_those_of_the_values_that_all_runs_have():
    base, other = np.array([[[3.0, 1], [5, 7]]]), np.array([[[1.0, 9], [2, np.nan]]])
    (left, right), notes = aligned([group("a", base), group("b", other)])
    means = [figures_of(one, 0)["overall"]["mean"] for one in (left, right)]
    assert means == [3, 4]
    assert differences_of(right, left, 0)["overall"]["mean"] == means[1] - means[0]
    assert notes == ["error (mm): 1 of 4 values left out, which not all runs have (output 1 of case 1)"]
    assert [row["failed"] for row in cases_of(right, left)] == [["output 1"], []]


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_shares_of_a_few_cases_are_not_certain(seeds):
    """All of four: at most 1 − 0.025^(1/4) = 60 % of all cases are different."""
    ones, shape = np.ones((seeds, 4, 2)), (seeds, 4, 2)
    (left, right), _ = aligned([group("a", ones, share=True), group("b", np.zeros(shape), share=True)])
    assert figures_of(left, 0)["overall"]["ci95"] == pytest.approx([0.398, 1], abs=1e-3)
    assert figures_of(right, 0)["overall"]["ci95"] == pytest.approx([0, 0.602], abs=1e-3)
    assert differences_of(right, left, 0)["overall"]["ci95"] == pytest.approx([-1, -0.398], abs=1e-3)
    same = differences_of(left, left, 0)
    assert same["overall"]["ci95"] == pytest.approx([-0.602, 0.602], abs=1e-3)
    assert same["per_output"]["output 1"]["ci95"] == same["overall"]["ci95"]


@pytest.mark.parametrize(
    "other, words",
    [
        ({"cases": "xyz"}, "no case in common"),
        ({"outputs": "pq"}, "no output"),
        ({"unit": "px"}, "error (px)"),
    ],
)
def test_runs_that_cannot_be_compared(other, words):
    ones = np.ones((1, 3, 2))
    with pytest.raises(UserError, match=re.escape(words)):
        aligned([group("a", ones, cases="abc"), group("b", ones, **{"cases": "abc", **other})])


def test_the_page_and_its_figures(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(5, 1, (3, 10, 2))
    groups = [
        group("<u-net>", base),
        group("mine", base - 1),
        group("third", base + rng.normal(size=(3, 1, 1))),
    ]
    write_comparison(tmp_path / "page.html", groups, "A & B")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "page.json").read_text())
    assert [one["name"] for one in found["differences"]] == ["mine", "third"]
    overall = found["differences"][0]["figures"]["error (mm)"]["overall"]
    assert overall["mean"] == pytest.approx(-1)
    assert overall["verdict"] == "better"
    for text in ("A &amp; B", "mine against &lt;u-net&gt;", "-1.00 better", "± "):
        assert text in page
    assert "<u-net>" not in page
    assert page.count('class="sortable') == 5
    assert "http" not in re.sub(r"http://www\.w3\.org\S*", "", page)


def test_the_least_that_tells_paths_apart(tmp_path):
    assert distinct_names([tmp_path / "a" / "out", tmp_path / "b" / "out"]) == ["a/out", "b/out"]
    assert distinct_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    with pytest.raises(UserError, match="given twice"):
        distinct_names([tmp_path / "a", tmp_path / "b" / ".." / "a"])
