"""Metrics of a segmented split against NumPy."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lannunet_segmentation.evaluation.metrics import ClassMetrics
from lannunet_segmentation.evaluation.summary import (
    MeasuredCase,
    compare,
    print_summary,
    summarise_cases,
    write_cases,
)
from lannunet_segmentation.types import SegmentedCase

NAMES = ("liver", "tumour <b>")
NAN = float("nan")


def measured(number, *dice, weighted=None, distance=1.5):
    """A case with these Dice; 0 is a class that was missed, NaN one that is absent."""
    metrics = tuple(
        ClassMetrics(
            index=n + 1,
            dice=value,
            weighted_dice=None if weighted is None else weighted,
            hausdorff95=2 * distance if value > 0 else NAN,
            mean_surface_distance=distance if value > 0 else NAN,
            predicted=100 if value > 0 else 0,
            target=0 if np.isnan(value) else 50,
        )
        for n, value in enumerate(dice)
    )
    case = SegmentedCase(f"case{number}", (), Path("p.nii.gz"), Path("t.nii.gz"))
    return MeasuredCase(case, (100,) * len(NAMES), metrics if dice else None)


def test_figures_agree_with_numpy():
    dice = np.random.default_rng(0).uniform(0.5, 1, size=(15, 2))
    cases = [measured(n, *row, distance=n + 1.0) for n, row in enumerate(dice)]
    summary = summarise_cases(cases, NAMES, "mm")
    assert summary["overall"]["dice"]["mean"] == pytest.approx(dice.mean())
    for n, name in enumerate(NAMES):
        figures = summary["per_class"][name]["dice"]
        assert figures["mean"] == pytest.approx(dice[:, n].mean())
        assert figures["median"] == pytest.approx(np.median(dice[:, n]))
        assert figures["sd"] == pytest.approx(dice[:, n].std())
        low, high = figures["mean_ci95"]
        spread = dice[:, n].std(ddof=1) / 15**0.5
        assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.2)
        assert low < figures["mean"] < high
    assert summary["overall"]["hausdorff95"]["mean"] == pytest.approx(16)
    assert summary["overall"]["mean_surface_distance"]["median"] == pytest.approx(8)
    assert summary["overall"]["weighted_dice"] is None
    assert summary["dice"]["case3"] == dict(zip(NAMES, dice[3], strict=True))
    json.dumps(summary, allow_nan=False)


def test_absent_classes_are_counted_but_not_averaged():
    cases = [measured(0, 0.8, NAN), measured(1, 0.6, 0.0), measured(2, 0.7, 0.5), measured(3)]
    summary = summarise_cases(cases, NAMES, "mm")
    assert (summary["cases"], summary["evaluated"]) == (4, 3)
    tumour = summary["per_class"][NAMES[1]]
    assert tumour["counts"] == {"both": 1, "missed": 1, "invented": 0, "absent": 1, "unannotated": 0}
    assert tumour["dice"]["mean"] == pytest.approx(0.25)  # a missed class has Dice 0
    assert tumour["hausdorff95"]["mean"] == pytest.approx(3)  # and has no distance
    assert summary["overall"]["dice"]["mean"] == pytest.approx((0.8 + 0.6 + 0.7 + 0 + 0.5) / 5)
    assert summary["missed"] == [{"id": "case1", "class": NAMES[1]}]
    assert summary["dice"]["case0"][NAMES[1]] is None
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("cases", [[], [measured(0)], [measured(0, NAN, NAN)]])
def test_nothing_to_average(cases):
    summary = summarise_cases(cases, NAMES, "mm")
    assert summary["overall"]["dice"] is None
    print_summary(summary, "t")
    json.dumps(summary, allow_nan=False)


def test_weighted_dice_is_a_figure_of_its_own(capsys):
    summary = summarise_cases([measured(n, 0.5, 0.7, weighted=0.9) for n in range(3)], NAMES, "mm")
    assert summary["overall"]["weighted_dice"]["mean"] == pytest.approx(0.9)
    assert summary["overall"]["dice"]["mean"] == pytest.approx(0.6)
    print_summary(summary, "t")
    assert "weighted" in capsys.readouterr().out


def test_comparison_is_case_by_case():
    """Cases differ much, methods by the same little in each: the interval is that of the differences."""
    rng = np.random.default_rng(1)
    easy = rng.uniform(0.2, 0.9, size=(20, 2))
    ours = [measured(n, *row) for n, row in enumerate(easy)]
    theirs = [measured(n, *(row + 0.05)) for n, row in enumerate(easy)]
    theirs += [measured(99, 0.1, 0.1)]  # not shared
    compared = compare(*(summarise_cases(cases, NAMES, "mm") for cases in (ours, theirs)))
    for row in (compared["overall"], *compared["per_class"].values()):
        assert row["difference"] == pytest.approx(-0.05)
        assert row["difference_ci95"] == pytest.approx([-0.05, -0.05])
    assert compared["overall"]["pairs"] == 40
    liver = compared["per_class"]["liver"]
    assert liver["pairs"] == 20
    assert liver["theirs"] - liver["ours"] == pytest.approx(0.05)
    assert liver["ours"] == pytest.approx(easy[:, 0].mean())


def test_comparison_leaves_out_what_either_lacks():
    ours = summarise_cases([measured(0, 0.5, NAN), measured(1, 0.7, 0.4)], NAMES, "mm")
    theirs = summarise_cases([measured(0, 0.6, 0.0), measured(1, 0.9, NAN)], NAMES, "mm")
    compared = compare(ours, theirs)
    assert compared["per_class"][NAMES[1]] is None
    assert compared["overall"]["pairs"] == 2
    assert compare(ours, summarise_cases([], NAMES, "mm"))["overall"] is None
    print_summary({**ours, "comparison": {"another": compared}}, "t")


def test_comparison_with_another_list_of_classes():
    ours = summarise_cases([measured(0, 0.5, 0.5)], NAMES, "mm")
    theirs = summarise_cases([measured(0, 0.9, 0.4)], ("spleen", "liver"), "mm")
    compared = compare(ours, theirs)
    assert compared["per_class"]["liver"]["difference"] == pytest.approx(0.1)
    assert compared["per_class"][NAMES[1]] is None


def test_table_of_cases(tmp_path):
    cases = [measured(0, 0.8, NAN, weighted=0.75), measured(1, 0.6, 0.0), measured(2)]
    write_cases(tmp_path / "cases.csv", cases, NAMES, "mm")
    with (tmp_path / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["class"]) for row in rows] == [
        (f"case{n}", name) for n in range(3) for name in NAMES
    ]
    assert [row["dice"] for row in rows] == ["0.8000", "", "0.6000", "0.0000", "", ""]
    assert [row["weighted_dice"] for row in rows] == ["0.7500", "0.7500", "", "", "", ""]
    assert [row["state"] for row in rows] == ["both", "absent", "both", "missed", "", ""]
    assert rows[0]["hausdorff95_mm"] == "3.0000" and rows[3]["hausdorff95_mm"] == ""
    assert [row["target_voxels"] for row in rows] == ["50", "0", "50", "50", "", ""]
    assert rows[5]["predicted_voxels"] == "100"


@pytest.mark.parametrize("start", list("=+-@\t"))
def test_no_text_of_the_table_is_a_formula(tmp_path, start):
    evil = f"{start}HYPERLINK(1)"
    case = measured(0, 0.5)
    case = MeasuredCase(replace(case.case, id=evil, extra={evil: evil, "shift": -5}), (100,), case.metrics)
    write_cases(tmp_path / "cases.csv", [case], (evil,), "mm")
    with (tmp_path / "cases.csv").open(newline="", encoding="utf-8") as file:
        header, row = csv.reader(file)
    assert header[-2] == row[0] == row[1] == row[-2] == f"'{evil}"
    assert row[-1] == "-5"


def test_printed_table_has_every_class(capsys):
    ours = summarise_cases([measured(n, 0.5, 0.25) for n in range(4)], NAMES, "px")
    print_summary(ours, "[red]title")
    text = capsys.readouterr().out
    assert "[red]title" in text and NAMES[1] in text
    assert "0.500" in text and "0.375" in text and "HD95 px" in text
