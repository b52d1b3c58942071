"""The page, parsed as a browser would."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.evaluation.calibration import calibrate
from lannunet_landmarks.evaluation.coverage import coverage_summary
from lannunet_landmarks.evaluation.report import Report, write_report
from lannunet_landmarks.evaluation.summary import summarise_errors
from lannunet_landmarks.types import Prediction
from PIL import Image

from lannunet_core.hookspecs import State

NAMES = ("tip", "<b>&amp; $x^^$", "heel")
VOID = {"meta", "image", "br", "path", "use", "i"}
HISTORY = [
    {
        "epoch": epoch,
        "loss": 5 / epoch,
        "terms": {"kl_loss": 4 / epoch},
        "lr": 1e-3,
        "validation_error": 9 / epoch,
    }
    for epoch in (1, 2, 3)
]


class Page(HTMLParser):
    """Elements with their attributes, visible text, and whether every element was closed."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data.strip())

    def all(self, tag, **attributes):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in attributes.items())]

    @property
    def text(self):
        return " ".join(self.texts)


def split(count, size=(48, 64), *, annotated=True, spacing=None):
    """Predictions whose errors grow with their number, in pictures of `size` ([z,] y, x)."""
    rng = np.random.default_rng(0)
    cases = []
    for number in range(count):
        target = rng.uniform(0.3, 0.7, size=(3, len(size))) * size[::-1]
        cases.append(
            Prediction(
                id=f"case<{number:02d}>",
                image=Path("none"),
                coordinates=target + (number + 1) / 4 * np.eye(len(size))[0],
                confidence=rng.uniform(0.2, 1, size=3),
                target=target if annotated else None,
                states=np.full(3, State.VISIBLE) if annotated else None,
                spacing=spacing,
            )
        )
    return cases


def page_of(tmp_path, cases, size=(48, 64), names=NAMES, summary=None, **more):
    image = np.random.default_rng(1).integers(0, 255, size=(1, *size), dtype=np.uint8)
    summary = summary or summarise_errors(cases, names, (1, 2))
    report = Report("A <title>", cases, summary, names, lambda prediction: image, **more)
    write_report(tmp_path / "report.html", report)
    page = Page(tmp_path / "report.html")
    assert page.open == []
    return page


def test_page_needs_nothing_but_itself(tmp_path):
    page = page_of(tmp_path, split(14), history=HISTORY, config={"solver": {"root": Path("a/b")}})
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/"))
    assert not re.findall(r"url\((?!#)|@import", page.source)
    assert set(re.findall(r"https?://[^\s\"<]+", page.source)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert len(page.source) < 3_000_000


def test_page_shows_the_least_confident_then_best_median_and_worst_cases(tmp_path):
    cases = split(14)
    doubtful = [one.id[5:7] for one in sorted(cases, key=lambda one: one.confidence.min())[:3]]
    page = page_of(tmp_path, cases)
    shown = re.findall(r"case<(\d\d)>", page.text)
    assert shown[:3] == doubtful  # where a look is worth most
    ranked = ["00", "01", "02", "03", "05", "06", "07", "08", "13", "12", "11", "10"]
    assert shown[3:] == [name for name in ranked if name not in doubtful]
    assert len(page.all("image")) == 2 * len(shown)  # the picture, and what is round its focus


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_no_case_is_shown_twice(tmp_path, count):
    shown = re.findall(r"case<(\d\d)>", page_of(tmp_path, split(count)).text)
    assert len(shown) == len(set(shown)) == min(count, 3 * -(-count // 3))


def test_names_of_the_users_are_text(tmp_path):
    page = page_of(tmp_path, split(3), comparison={"<i>other": summarise_errors(split(3), NAMES, (1, 2))})
    assert "A <title>" in page.text
    assert "<i>other" in page.text
    assert page.text.count("<b>&amp; $x^^$") > 2  # in the table, in a chart, in titles of marks
    assert not page.all("b", **{"class": "tip"}) and "<b>&amp;" not in page.source


def test_marks_lie_where_the_points_are(tmp_path):
    """A white pixel at the annotation is found under its ring, in the picture and in the window round it."""
    image = np.zeros((1, 48, 64), dtype=np.uint8)
    image[0, 30, 41] = 255
    case = Prediction("a", Path("none"), np.array([[44.0, 30]]), np.array([0.5]),
                      target=np.array([[41.0, 30]]), states=np.array([State.VISIBLE]))  # fmt: skip
    report = Report("t", [case], summarise_errors([case], ["a"], [2]), ["a"], lambda prediction: image)
    write_report(tmp_path / "report.html", report)
    page = Page(tmp_path / "report.html")
    pictures, rings = page.all("image"), page.all("circle", **{"class": "target"})
    dots = page.all("circle", **{"class": "prediction"})
    assert len(pictures) == len(rings) == 2
    for picture, ring, dot in zip(pictures, rings, dots, strict=True):
        pixels = np.asarray(
            Image.open(io.BytesIO(base64.b64decode(picture["href"].split(",")[1]))).convert("L")
        )
        y, x = np.unravel_index(pixels.argmax(), pixels.shape)
        scale = float(picture["width"]) / pixels.shape[1]
        assert float(ring["cx"]) == pytest.approx((x + 0.5) * scale)
        assert float(ring["cy"]) == pytest.approx((y + 0.5) * scale)
        assert float(dot["cx"]) - float(ring["cx"]) == pytest.approx(3)


def test_large_pictures_are_reduced(tmp_path):
    page = page_of(tmp_path, split(1, (1500, 2000)), (1500, 2000))
    whole, window = page.all("image")
    assert Image.open(io.BytesIO(base64.b64decode(whole["href"].split(",")[1]))).size == (560, 420)
    assert float(whole["width"]) == 2000
    assert 60 < float(window["width"]) < 200


def test_volumes_show_three_planes_in_proportion(tmp_path):
    cases = split(2, (12, 40, 50), spacing=(1.0, 2.0, 3.0))
    page = page_of(tmp_path, cases, (12, 40, 50))
    assert [(float(p["width"]), float(p["height"])) for p in page.all("image")[:3]] == [
        (50, 80),
        (50, 36),
        (80, 36),
    ]
    assert re.search(r"z = \d", page.text)


def test_without_annotation_there_are_pictures_and_confidences(tmp_path):
    page = page_of(tmp_path, split(5, annotated=False))
    assert "no annotation" in page.text
    assert "Confidence by landmark" in page.text
    assert "Most confident cases" in page.text
    assert page.all("circle", **{"class": "prediction"})
    assert not page.all("circle", **{"class": "target"})
    assert not page.all("table")


def test_landmarks_not_found_are_listed_and_rank_last(tmp_path):
    cases = split(6)
    cases[0].coordinates[1] = np.nan
    page = page_of(tmp_path, cases)
    assert re.findall(r"case<(\d\d)>: ", page.text) == ["00"]
    worst = page.text[page.text.index("Worst cases") :]
    assert re.findall(r"case<(\d\d)>", worst)[0] == "00"
    assert f"not found: {NAMES[1]}" in worst


def test_nothing_found_at_all(tmp_path):
    cases = split(2)
    for case in cases:
        case.coordinates[:] = np.nan
        case.confidence[:] = 0
    assert "–" in page_of(tmp_path, cases).text
    loose = split(2, annotated=False)
    for case in loose:
        case.coordinates[:] = np.nan
        case.confidence[:] = 0
    assert not page_of(tmp_path, loose).all("circle", **{"class": "prediction"})


def test_curves_of_training(tmp_path):
    titles = ("Training loss", "Validation error", "Learning rate")
    page = page_of(tmp_path, split(2), history=HISTORY)
    assert all(title in page.text for title in titles)
    assert "terms.kl_loss" in page.text
    page = page_of(tmp_path, split(2))
    assert not any(title in page.text for title in titles)
    page = page_of(tmp_path, split(2), history=[{"epoch": 1, "loss": float("nan"), "validation_error": None}])
    assert not any(title in page.text for title in titles)


def test_plugins_figures_and_run_are_on_the_page(tmp_path):
    cases = split(2)
    summary = {**summarise_errors(cases, NAMES, (1,)), "metrics": {"my <figure>": 0.1234567}}
    image = np.zeros((3, 48, 64))
    report = Report(
        "t", cases, summary, NAMES, lambda p: image, config={"a": {"b": 17}}, provenance={"git": "<abc>"}
    )
    write_report(tmp_path / "report.html", report)
    text = Page(tmp_path / "report.html").text
    assert "my <figure>" in text
    assert "0.1235" in text
    assert "b: 17" in text
    assert "git: <abc>" in text


def test_calibrated_regions(tmp_path):
    cases, held_out = split(14), np.linspace(0.1, 4, 40)[:, None] * np.ones(3)
    calibration = calibrate(held_out, held_out / 4, NAMES, "px")
    calibrated = calibration.apply(cases, NAMES, 0.9)
    summary = summarise_errors(cases, NAMES, (1, 2))
    summary["calibration"] = coverage_summary(calibration, calibrated, NAMES, 0.9)
    page = page_of(tmp_path, calibrated, summary=summary)
    for text in (
        "Calibrated regions",
        "hold 100.0% of 42 true points",
        "Coverage of the regions",
        "Error by bin",
    ):
        assert text in page.text
    shown = " ".join(page.text.split())
    rows = re.findall(r"(tip|heel) 40 3.70 14 100.0% 71.4% – 100.0% [\d.]+ · ", shown)
    assert rows == ["tip", "heel"]

    loose = split(3, annotated=False)
    summary = summarise_errors(loose, NAMES, (1, 2))
    few = calibrate(held_out[:5], held_out[:5], NAMES, "px")
    summary["calibration"] = coverage_summary(few, few.apply(loose, NAMES, 0.9), NAMES, 0.9)
    page = page_of(tmp_path, loose, summary=summary)
    assert page.text.count("too few errors") == 3
    assert "Coverage of the regions" not in page.text


def test_same_input_same_page(tmp_path):
    pages = [page_of(tmp_path, split(4), history=HISTORY).source for _ in range(2)]
    assert pages[0] == pages[1]


def test_many_points_stay_a_small_page(tmp_path):
    names = [f"landmark {n}" for n in range(40)]
    rng = np.random.default_rng(0)
    cases = [
        Prediction(f"c{i}", Path("none"), rng.normal(20, 1, size=(40, 2)), rng.uniform(size=40),
                   target=np.full((40, 2), 20.0), states=np.full(40, State.VISIBLE))
        for i in range(100)
    ]  # fmt: skip
    assert len(page_of(tmp_path, cases, names=names).source) < 1_500_000
