"""Metrics of a split against closed forms and plain loops."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.evaluation.summary import (
    print_summary,
    radial_errors,
    summarise_errors,
    uncertainties,
)
from lannunet_landmarks.types import Prediction
from scipy.stats import norm

from lannunet_core.hookspecs import State

NAMES = ("a", "b", "c")
NAN = float("nan")


def prediction(number, coordinates, target=None, states=None, spacing=None):
    coordinates = np.array(coordinates, dtype=float)
    if target is not None:
        target = np.array(target, dtype=float)
        states = (
            np.where(np.isnan(target[:, 0]), State.UNLABELLED, State.VISIBLE) if states is None else states
        )
    return Prediction(
        id=f"case{number}",
        image=Path("none.png"),
        coordinates=coordinates,
        confidence=np.full(len(coordinates), 0.5),
        target=target,
        states=None if states is None else np.array(states),
        spacing=spacing,
    )


def with_errors(errors, **options):
    """Predictions off by `errors` (images, N) along x."""
    return [
        prediction(i, [[5 + e, 7] for e in row], [[5, 7]] * len(row), **options)
        for i, row in enumerate(np.asarray(errors, dtype=float))
    ]


def test_millimetres_count_the_spacing_of_each_axis():
    case = prediction(0, [[3, 4, 1]], [[0, 0, 0]], spacing=(2.0, 0.5, 3.0))
    pixels, millimetres = radial_errors(case)
    assert pixels == pytest.approx([26**0.5])
    assert millimetres == pytest.approx([(6**2 + 2**2 + 3**2) ** 0.5])


def test_figures_agree_with_numpy():
    errors = np.random.default_rng(1).gamma(2, 1.5, size=(14, 3))
    summary = summarise_errors(with_errors(errors), NAMES, (2, 4))
    assert summary["unit"] == "px"
    overall = summary["overall"]
    assert overall["mm"] is None
    assert overall["px"]["mean"] == pytest.approx(errors.mean())
    assert overall["px"]["median"] == pytest.approx(np.median(errors))
    assert overall["px"]["sd"] == pytest.approx(errors.std())
    assert [row["rate"] for row in overall["detection_rates"]] == [np.mean(errors <= r) for r in (2, 4)]
    second = summary["per_landmark"]["b"]
    assert second["px"]["median"] == pytest.approx(np.median(errors[:, 1]))
    assert second["counts"] == {"evaluated": 14, "not_found": 0, "absent": 0, "unlabelled": 0}


def test_radii_are_in_mm_where_every_image_has_a_spacing():
    summary = summarise_errors(with_errors([[2.0], [4.0]], spacing=(0.5, 0.5)), ["a"], [1.5])
    assert summary["unit"] == "mm"
    assert summary["overall"]["mm"]["mean"] == pytest.approx(1.5)
    assert summary["overall"]["px"]["mean"] == pytest.approx(3.0)
    assert summary["overall"]["detection_rates"][0]["rate"] == 0.5

    mixed = [*with_errors([[2.0]], spacing=(0.5, 0.5)), *with_errors([[4.0]])]
    summary = summarise_errors(mixed, ["a"], [3])
    assert summary["unit"] == "px"
    assert summary["overall"]["detection_rates"][0]["rate"] == 0.5


def test_not_found_is_a_miss_and_not_an_error():
    cases = [prediction(0, [[1, 0]], [[0, 0]]), prediction(1, [[NAN, NAN]], [[0, 0]])]
    summary = summarise_errors(cases, ["a"], [2])
    assert summary["overall"]["px"]["mean"] == 1
    assert summary["overall"]["detection_rates"][0]["rate"] == 0.5
    assert summary["overall"]["counts"] == {"evaluated": 1, "not_found": 1, "absent": 0, "unlabelled": 0}
    assert summary["not_found"] == [{"id": "case1", "landmark": "a"}]


def test_unlabelled_and_absent_contribute_nothing():
    plain = with_errors([[1.0, 3.0]])
    states = [State.VISIBLE, State.VISIBLE, State.UNLABELLED, State.ABSENT]
    more = [prediction(0, [[6, 7], [8, 7], [1, 1], [2, 2]], [[5, 7], [5, 7], [NAN] * 2, [NAN] * 2], states)]
    few, many = summarise_errors(plain, NAMES[:2], [2]), summarise_errors(more, [*NAMES, "d"], [2])
    assert few["overall"]["px"] == many["overall"]["px"]
    assert few["overall"]["detection_rates"] == many["overall"]["detection_rates"]
    assert many["overall"]["counts"] == {"evaluated": 2, "not_found": 0, "absent": 1, "unlabelled": 1}
    assert many["per_landmark"]["c"]["px"]["mean"] is None
    assert many["per_landmark"]["d"]["detection_rates"][0]["rate"] is None


def test_intervals_resample_images_not_landmarks():
    # Ten landmarks of an image share its error: the mean's interval is that of the images alone.
    of_image = np.random.default_rng(0).normal(10, 2, size=50)
    summary = summarise_errors(
        with_errors(np.repeat(of_image[:, None], 10, axis=1)), [str(n) for n in range(10)], [2]
    )
    low, high = summary["overall"]["px"]["mean_ci95"]
    expected = 2 * norm.ppf(0.975) * of_image.std() / 50**0.5
    assert high - low == pytest.approx(expected, rel=0.1)
    assert (low + high) / 2 == pytest.approx(of_image.mean(), abs=0.1)


def test_intervals_are_about_those_of_a_plain_bootstrap():
    """With many images, all methods agree."""
    errors = np.random.default_rng(3).gamma(2, 1.5, size=(200, 3))
    errors[4, 1] = NAN
    cases = with_errors(errors)
    overall = summarise_errors(cases, NAMES, [3], seed=5)["overall"]
    generator = np.random.default_rng(9)
    figures = []
    for _ in range(4000):
        drawn = errors[generator.integers(0, 200, size=200)]
        found = drawn[np.isfinite(drawn)]
        figures.append((found.mean(), np.median(found), found.std(), (found <= 3).sum() / drawn.size))
    reference = np.percentile(figures, (2.5, 97.5), axis=0).T
    got = [overall["px"][f"{name}_ci95"] for name in ("mean", "median", "sd")]
    got.append(overall["detection_rates"][0]["ci95"])
    np.testing.assert_allclose(got, reference, atol=0.08)


def test_same_seed_same_summary_and_it_is_json():
    cases = with_errors(np.random.default_rng(1).gamma(2, 1.5, size=(9, 3)), spacing=(1.0, 2.0))
    first, again = (summarise_errors(cases, NAMES, (2, 4), seed=3) for _ in range(2))
    assert json.loads(json.dumps(first, allow_nan=False)) == again
    assert first != summarise_errors(cases, NAMES, (2, 4), seed=4)


@pytest.mark.parametrize("cases", [[], [prediction(0, [[1, 2], [3, 4], [NAN, NAN]])]])
def test_without_annotations_there_are_no_figures(cases):
    summary = summarise_errors(cases, NAMES, [2])
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["overall"]["px"]["mean"] is None
    assert summary["overall"]["detection_rates"] == [{"radius": 2.0, "rate": None, "ci95": None}]
    assert summary["not_found"] == []


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_printed_table_keeps_its_figures_in_any_width(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    cases = with_errors(np.linspace(10, 40, 36).reshape(12, 3))
    cases[0].coordinates[0] = NAN
    names = ("[b]", "a very long name of a landmark that must not push figures out", "c")
    print_summary(
        summarise_errors(cases, names, (1, 2, 2.5, 30)),
        "title",
        {"other": summarise_errors(cases, names, (1, 2, 2.5, 30))},
    )
    printed = capsys.readouterr().out
    assert "[b]" in printed
    assert "…" not in printed
    assert all(len(line.rstrip()) <= columns or line.strip() == names[1] for line in printed.splitlines())
    everything = [line.split()[1:] for line in printed.splitlines() if line.split()[:1] == ["all"]]
    assert everything[0][0] == "25.43"
    figures = [figure for row in everything for figure in row]
    assert figures[-2:] == ["36", "1"]
    assert any(line.split()[:1] == ["other"] for line in printed.splitlines())


def test_uncertainty_is_the_root_mean_square_distance():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(2, 3, 3))
    case = prediction(0, [[1, 2, 3], [NAN] * 3], spacing=(0.5, 2.0, 3.0))
    case = replace(case, covariance=shape @ shape.transpose(0, 2, 1))
    pixels, millimetres = uncertainties(case)
    away = rng.normal(size=(200_000, 3)) @ shape[0].T
    assert pixels[0] == pytest.approx(np.sqrt((away**2).sum(1).mean()), rel=0.01)
    assert millimetres[0] == pytest.approx(np.sqrt(((away * case.spacing) ** 2).sum(1).mean()), rel=0.01)
    assert np.isnan([pixels[1], millimetres[1]]).all()  # without a point there is no radius
    assert np.isnan(uncertainties(replace(case, covariance=None))).all()
    assert np.isnan(uncertainties(replace(case, spacing=None))[1]).all()


def test_sensitivity_and_specificity_of_presence(capsys):
    absent, unknown = State.ABSENT, State.UNLABELLED
    states = [[0, 0, absent], [0, absent, unknown], [0, State.OUTSIDE, 0]]
    present = [[True, False, True], [True, False, True], [False, True, True]]
    cases = [
        replace(prediction(i, [[5, 7]] * 3, [[5, 7]] * 3, states=s), present=np.array(p))
        for i, (s, p) in enumerate(zip(states, present, strict=True))
    ]
    summary = summarise_errors(cases, NAMES, (2,))
    assert summary["overall"]["presence"] == {
        "sensitivity": 3 / 5,
        "specificity": 1 / 3,
        "precision": 3 / 5,
        "taken_for_present": 2,
        "taken_for_absent": 2,
    }
    assert summary["per_landmark"]["b"]["presence"]["sensitivity"] == 0
    print_summary(summary, "cases")
    assert "sensitivity 60.0%, specificity 33.3%, precision 60.0%" in capsys.readouterr().out
    assert "presence" not in summarise_errors([*cases, prediction(9, [[5, 7]] * 3)], NAMES, (2,))["overall"]
