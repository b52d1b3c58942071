"""The common parts of the result pages."""

import base64
import io

import numpy as np
import pytest
from lannunet_report.page import (
    best_middle_worst,
    draw_boxes,
    jpeg_url,
    kept_epoch,
    make_chart,
    plugin_charts,
    training_charts,
    write_page,
)
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from lannunet_core import ReportPart

pytestmark = pytest.mark.pictures

HISTORY = [
    {
        "epoch": e,
        "loss": 5 / e,
        "terms": {"kl_loss": 4 / e},
        "lr": 1e-3,
        "sigma": {"loss": 2.0},
        "error": None,
    }
    for e in (1, 2, 3)
]


def picture(url):
    kind, _, content = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_page_without_a_template_is_the_frame(tmp_path):
    path = tmp_path / "page.html"
    chart = {"title": "<one>", "caption": "A & B", "svg": Markup("<svg></svg>")}
    write_page(path, None, {"a": {"path": path}}, {"git": "<abc>"}, title="A <title>", charts=[chart])
    page = path.read_text(encoding="utf-8")
    for text in ("<h1>A &lt;title&gt;</h1>", "&lt;one&gt;", "A &amp; B", "<svg></svg>", "git: &lt;abc&gt;"):
        assert text in page
    assert f"path: {path}" in page


def test_without_configuration_there_is_no_run_on_the_page(tmp_path):
    write_page(tmp_path / "page.html", None, {}, {}, title="t", charts=[])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The run" not in page
    assert "Figures" not in page


def test_a_template_extends_the_frame(tmp_path):
    template = tmp_path / "own.html.j2"
    template.write_text(
        '{% extends "page.html.j2" %}{% block results %}{{ a|figure }} {{ a|figure(1) }} {{ none|figure }} '
        "{{ a|percent }} {{ none|percent }}{% endblock %}"
    )
    write_page(tmp_path / "page.html", template, {}, {}, title="t", charts=[], a=0.256, none=None)
    assert "0.26 0.3 – 25.6% –" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("count", range(16))
def test_best_middle_worst(count):
    best, middle, worst = best_middle_worst(range(count))
    shown = [*best, *middle, *worst]
    assert len(set(shown)) == len(shown) == min(count, 12)
    assert list(best) == list(range(len(best)))
    assert list(worst) == list(range(count))[::-1][: len(worst)]
    assert list(middle) == sorted(middle)
    if count == 14:
        assert list(middle) == [5, 6, 7, 8]


def test_pictures_are_reduced():
    shown = np.zeros((100, 200, 3), np.uint8)
    shown[:, 100:] = 255
    assert picture(jpeg_url(shown)).size == (200, 100)
    small = picture(jpeg_url(shown, 50))
    assert small.size == (50, 25)
    pixels = np.asarray(small)
    assert pixels[12, 5].max() < 10
    assert pixels[12, 45].min() > 245


def test_a_chart_follows_the_pages_colours():
    chart, again = (make_chart("A title", "said", lambda axis: axis.plot([1, 2], [3, 4])) for _ in range(2))
    assert chart == again
    assert (chart["title"], chart["caption"]) == ("A title", "said")
    assert chart["svg"].startswith("<svg")
    assert "currentColor" in chart["svg"]
    assert "#010203" not in chart["svg"]


def test_names_in_scripts_that_no_font_of_the_machine_has():
    """The browser draws them; filterwarnings = error."""
    chart = make_chart("骨", "said", lambda axis: axis.set_xticks([0, 1], ["骨", "हड्डी"]))
    assert "骨</text>" in chart["svg"] and "हड्डी</text>" in chart["svg"]


def test_parts_of_plugins():
    figure = Figure()
    figure.subplots().set_title("drawn")
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 255
    both, pictured, text = plugin_charts(
        [
            ReportPart("a", "Both.", figure, red),
            ReportPart("<b>", picture=red),
            ReportPart("c", "Text alone."),
        ]
    )
    assert both["svg"].startswith("<svg")
    assert "drawn" in both["svg"]
    assert "<img" in both["svg"]
    assert (both["title"], both["caption"]) == ("a", "Both.")
    assert 'alt="&lt;b&gt;"' in pictured["svg"]
    assert isinstance(pictured["svg"], Markup)
    url = pictured["svg"].split('"')[1]
    assert np.abs(np.asarray(picture(url))[10, 10].astype(int) - [255, 0, 0]).max() < 5
    assert (text["caption"], text["svg"]) == ("Text alone.", "")


def test_curves_of_training():
    panels = [
        ("loss", "Losses", "log"),
        ("lr", "Rate", "linear"),
        ("sigma", "Widths", "linear"),
        ("error", "E", "log"),
    ]
    charts = training_charts(HISTORY, panels)
    assert [chart["title"] for chart in charts] == ["Losses", "Rate", "Widths"]  # there are no finite errors
    losses, _, widths = (chart["svg"] for chart in charts)
    assert "terms.kl_loss" in losses
    assert ">2<" in losses and "10^" not in losses  # its axis has numbers
    assert "sigma.loss" not in losses  # a name below sigma may be any text
    assert "sigma.loss" not in widths  # one curve needs no legend
    assert training_charts([], panels) == []


def test_boxes():
    values = np.random.default_rng(0).normal(3, 1, (50, 3))
    values[0, 1] = np.nan
    axis = Figure().subplots()
    draw_boxes(axis, values, ["a", "b", "<long name>"], "error")
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "<long name>"]
    assert axis.get_xlabel() == "error"
    assert axis.get_xlim()[0] == 0
    (points,) = (one for one in axis.collections if len(one.get_offsets()) == 149)
    widths = np.sort(points.get_offsets()[:, 0])
    np.testing.assert_allclose(widths, np.sort(values[np.isfinite(values)]))


def test_boxes_on_a_logarithmic_axis_keep_zeros():
    axis = Figure().subplots()
    draw_boxes(axis, np.array([[0.0, 1.0], [0.5, 100.0]]), ["a", "b"], "error", log=True)
    assert axis.get_xscale() == "log"
    (points,) = (one for one in axis.collections if len(one.get_offsets()) == 4)
    assert points.get_offsets()[:, 0].min() == 0.5


def test_the_kept_epoch_is_the_best_by_the_monitored_figure():
    rows = [{"epoch": e, "dice": d, "validation_error": v}
            for e, d, v in ((1, 0.2, 3.0), (2, 0.5, 2.0), (3, 0.4, 2.5), (4, None, None))]  # fmt: skip
    assert kept_epoch(rows, "validation_error") == {
        "epoch": 2, "last": 4, "value": 2.0, "figure": "validation error"
    }  # fmt: skip
    assert kept_epoch(rows, "-dice")["epoch"] == 2
    assert kept_epoch(rows, "dice")["epoch"] == 1
    assert kept_epoch([{"epoch": 1}], "validation_error") is None
    (chart,) = training_charts(rows, [("error", "Error (px)", "log")])
    assert "kept: 2" in chart["svg"] and "error (px)" in chart["svg"]
