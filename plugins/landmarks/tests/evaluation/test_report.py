"""The page, parsed as HTML."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.data.world import World
from lannunet_landmarks.evaluation.calibration import calibrate
from lannunet_landmarks.evaluation.coverage import coverage_summary
from lannunet_landmarks.evaluation.report import Report, write_report
from lannunet_landmarks.evaluation.summary import summarise_errors
from lannunet_landmarks.types import Heat, Prediction
from PIL import Image

from lannunet_core.hookspecs import State

pytestmark = pytest.mark.pictures

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
        self.elements, self.texts, self.open, self.views = [], [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data.strip())
        elif self.open[-1] == "script" and "data-case" in self.elements[-1][1]:
            self.views.append(json.loads(data))

    def all(self, tag, **attributes):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in attributes.items())]

    @property
    def planes(self):
        return [plane for view in self.views for plane in view["planes"]]

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


def test_all_cases_are_in_the_table_the_worst_first(tmp_path):
    page = page_of(tmp_path, split(14))
    shown = re.findall(r"case<(\d\d)>", page.text)
    assert shown == [f"{n:02d}" for n in reversed(range(14))]
    rows = [a["data-case"] for a in page.all("tr") if "data-case" in a]
    assert rows == [str(n) for n in reversed(range(14))]
    assert len(page.views) == 14
    assert page.views[0]["focus"] is not None


def test_pictures_go_to_the_least_confident_and_the_extremes_while_there_is_room(tmp_path, monkeypatch):
    cases = split(30, (200, 300))
    doubtful = sorted(range(30), key=lambda n: cases[n].confidence.min())[:3]
    whole = page_of(tmp_path, cases, (200, 300), full=True)
    assert len(whole.views) == 30
    monkeypatch.setattr("lannunet_landmarks.evaluation.report.FOR_PICTURES", len(whole.source) // 3)
    page = page_of(tmp_path, cases, (200, 300))
    with_picture = [int(a["data-case"]) for a in page.all("script") if "data-case" in a]
    assert 3 < len(with_picture) < 30
    assert set(doubtful) <= set(with_picture) and 29 in with_picture
    assert len(re.findall(r"case<(\d\d)>", page.text)) == 30
    assert "no room" in page.source


def test_names_of_the_users_are_text(tmp_path):
    page = page_of(tmp_path, split(3), comparison={"<i>other": summarise_errors(split(3), NAMES, (1, 2))})
    assert "A <title>" in page.text
    assert "<i>other" in page.text
    assert page.text.count("<b>&amp; $x^^$") > 1  # in the table, in a chart
    assert page.views[0]["marks"][1]["name"] == NAMES[1]
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
    (view,) = page.views
    (plane,), (mark,) = view["planes"], view["marks"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(plane["href"].split(",")[1]))).convert("L"))
    assert np.unravel_index(pixels.argmax(), pixels.shape) == (30, 41)
    assert (mark["target"], mark["prediction"]) == ([41, 30], [44, 30])
    assert (plane["size"], plane["scale"]) == ([64, 48], [1, 1])
    assert mark["text"] == "a: 3.00 px off, confidence 0.50"


def test_large_pictures_are_reduced(tmp_path):
    page = page_of(tmp_path, split(1, (1500, 2000)), (1500, 2000))
    (plane,) = page.planes
    assert Image.open(io.BytesIO(base64.b64decode(plane["href"].split(",")[1]))).size == (640, 480)
    assert plane["size"] == [2000, 1500]


def test_maps_lie_over_the_image(tmp_path):
    """The map's one high pixel covers the image's pixels that it was made of."""
    values = np.zeros((12, 16), np.uint8)
    values[3, 5] = 255  # of pixels 20 to 23 across and 12 to 15 down
    (case,) = split(1)
    case = replace(case, heat=Heat(values, np.full(2, 4.0), np.full(2, 1.5)))
    page = page_of(tmp_path, [case])
    (plane,) = page.planes
    assert plane["heat_box"] == [0, 0, 64, 48]
    heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(plane["heat"].split(",")[1]))))
    assert heat.shape == (12, 16, 4)
    assert heat[..., 3].max() > 150 and np.unravel_index(heat[..., 3].argmax(), (12, 16)) == (3, 5)
    assert "heatmap" in page.text


def test_regions_have_the_radius_of_the_calibration(tmp_path):
    cases = [replace(one, within=(6.0, "mm")) for one in split(2, spacing=(2.0, 3.0))]
    page = page_of(tmp_path, cases)
    assert page.views[0]["marks"][0]["radius"] == [3, 2]
    assert "region" in page.text


def test_volumes_show_three_planes_in_proportion(tmp_path):
    cases = split(2, (12, 40, 50), spacing=(1.0, 2.0, 3.0))
    page = page_of(tmp_path, cases, (12, 40, 50))
    assert [(plane["size"], plane["scale"]) for plane in page.planes[:3]] == [
        ([50, 40], [1, 2]),
        ([50, 12], [1, 3]),
        ([40, 12], [2, 3]),
    ]
    worst = page.views[0]["marks"][page.views[0]["focus"]]["target"]
    for plane in page.planes[:3]:
        assert plane["start"] == round(worst[plane["axis"]])  # through the landmark
        assert len(plane["slices"]) > 5
        assert "letters" not in plane  # its orientation is unknown
    world = World(np.diag([1.0, 2.0, -3.0]), np.zeros(3))  # z points to the feet
    page = page_of(tmp_path, [replace(case, world=world) for case in cases], (12, 40, 50))
    axial, coronal, sagittal = page.planes[:3]
    assert (axial["letters"], coronal["letters"]) == (["R", "L", "A", "P"], ["R", "L", "S", "I"])
    assert sagittal["letters"] == ["A", "P", "S", "I"] and not sagittal["flipped"]


def test_without_annotation_there_are_pictures_and_confidences(tmp_path):
    page = page_of(tmp_path, split(5, annotated=False))
    assert "no annotation" in page.text
    assert "Confidence by landmark" in page.text
    marks = [mark for view in page.views for mark in view["marks"]]
    assert all(mark["prediction"] and mark["target"] is None for mark in marks)
    assert len(page.all("table")) == 1  # of the cases


def test_landmarks_not_found_are_listed_and_rank_last(tmp_path):
    cases = split(6)
    cases[0].coordinates[1] = np.nan
    page = page_of(tmp_path, cases)
    assert re.findall(r"case<(\d\d)>: ", page.text) == ["00"]
    table = page.text[page.text.index("Cases") :]
    assert re.findall(r"case<(\d\d)>", table)[0] == "00"
    assert NAMES[1] in table


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
    marks = [mark for view in page_of(tmp_path, loose).views for mark in view["marks"]]
    assert not any(mark["prediction"] for mark in marks)


def test_curves_of_training(tmp_path):
    titles = ("Training loss", "Validation error", "Learning rate")
    page = page_of(tmp_path, split(2), history=HISTORY)
    assert all(title in page.text for title in titles)
    assert "terms.kl_loss" in page.text
    assert "The model of epoch 3 of 3 was kept" in " ".join(page.text.split()) and "kept: 3" in page.text
    page = page_of(tmp_path, split(2))
    assert not any(title in page.text for title in titles)
    page = page_of(tmp_path, split(2), history=[{"epoch": 1, "loss": float("nan"), "validation_error": None}])
    assert not any(title in page.text for title in titles)


def test_what_guessing_the_mean_position_gives(tmp_path):
    cases = split(6)
    guessed = [replace(one, coordinates=one.coordinates + 3.0) for one in cases]
    page = page_of(tmp_path, cases, by_mean=guessed)
    assert "by mean position" in page.text and "mean position" in page.text
    off = np.linalg.norm([guessed[n].coordinates[0] - cases[n].target[0] for n in range(6)], axis=1).mean()
    assert f"{off:.2f}" in page.text


def test_an_outlier_does_not_squash_the_errors(tmp_path):
    cases = split(8)
    assert "logarithmic" not in page_of(tmp_path, cases).text
    cases[0].coordinates[0] += 500
    assert "The axis is logarithmic" in page_of(tmp_path, cases).text


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
        "contain 100.0% of 42 true points",
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
