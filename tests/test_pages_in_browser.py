"""Reports and comparisons in headless Chromium, of both tasks, in 2D and 3D, on a desk and on a phone."""

import os
import shutil

import pytest

from tests.fixtures.browser import AXE
from tests.fixtures.projects import draw_project, draw_segmentation_project

pytestmark = pytest.mark.slow
WIDTHS = [1400, 390]
MAKE = {
    "landmarks 2D": lambda folder: draw_project(folder),
    "landmarks 3D": lambda folder: draw_project(folder, sizes=((32, 24, 16),)),
    "segmentation 2D": lambda folder: draw_segmentation_project(folder, size=(24, 20)),
    "segmentation 3D": lambda folder: draw_segmentation_project(folder),
}


@pytest.fixture(scope="module", params=MAKE)
def report(request, tmp_path_factory):
    project = MAKE[request.param](tmp_path_factory.mktemp("pages") / "project")
    assert project.train() == 0
    return project.out / "report.html"


@pytest.fixture(scope="module", params=["landmarks 2D", "segmentation 3D"])
def comparison(request, tmp_path_factory):
    project = MAKE[request.param](tmp_path_factory.mktemp("pages") / "project")
    assert project.train() == 0
    shutil.copytree(project.out, project.folder / "again")
    page = project.folder / "compare.html"
    assert project.lannunet("compare", project.out, project.folder / "again", "-o", page) == 0
    return page


SORT = """
const found = [];
for (const table of page.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const before = table.tBodies[0].rows.length;
    const orders = [];
    for (const press of [1, 2]) {
      heading.querySelector("button").click();
      orders.push(heading.ariaSort);
      const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
      const text = (cell) => cell.dataset.value ?? cell.textContent.replace(/,/g, "");
      const numbers = cells.map((cell) => parseFloat(text(cell)));
      const sign = heading.ariaSort === "ascending" ? 1 : -1;
      const known = numbers.filter((number) => !Number.isNaN(number));
      if (known.length === numbers.length && cells[0].tagName === "TD")
        found.push(known.every((number, n) => n === 0 || sign * (number - known[n - 1]) >= 0));
    }
    found.push(orders[0] !== orders[1], table.tBodies[0].rows.length === before);
  });
}
return found;
"""
TOGGLE = """
const viewer = page.querySelector(".viewer"), counts = {};
for (const box of viewer.querySelectorAll(".tools input")) {
  const layer = `.layer-${box.value}`;
  const seen = () => [...viewer.querySelectorAll(layer)]
    .filter((one) => view.getComputedStyle(one).display !== "none").length;
  if (!box.checked) box.click();
  const on = seen();
  box.click();
  counts[box.value] = [viewer.querySelectorAll(layer).length > 0 ? on : null, seen()];
  box.click();
}
return counts;
"""
LOOK_THROUGH = """
const viewer = page.querySelector(".viewer"), found = [];
for (const opener of page.querySelectorAll("button.open")) {
  opener.click();
  const frames = [...viewer.querySelectorAll(".planes svg.picture")];
  const image = viewer.querySelector("image"), probe = new view.Image();
  if (!found.length) await new Promise((done, fail) => {
    Object.assign(probe, {onload: done, onerror: fail, src: image.getAttribute("href")});
  });
  const before = frames[0].getAttribute("viewBox");
  viewer.querySelector("[aria-label='zoom in']").click();
  const zoomed = frames[0].getAttribute("viewBox") !== before;
  viewer.querySelector("[aria-label='whole picture']").click();
  const told = [];
  for (const mark of viewer.querySelectorAll(".marks button")) {
    mark.click();
    told.push(viewer.querySelector(".status").textContent.startsWith(mark.firstChild.textContent.trim()));
  }
  const scrolled = [];
  for (const slider of viewer.querySelectorAll("input[type=range]")) {
    const shown = slider.parentElement.querySelector("output");
    slider.value = slider.min;
    slider.dispatchEvent(new view.Event("input"));
    const first = shown.textContent;
    slider.value = slider.max;
    slider.dispatchEvent(new view.Event("input"));
    scrolled.push(first !== shown.textContent);
  }
  found.push({id: viewer.querySelector(".case-name").textContent, zoomed, told, scrolled,
              frames: frames.length, named: opener.textContent});
}
return found;
"""
FITS = """
const wide = page.documentElement.scrollWidth - page.documentElement.clientWidth;
const small = [...page.querySelectorAll(".charts svg text")]
  .map((text) => [text, text.getScreenCTM()])
  .map(([text, at]) => parseFloat(view.getComputedStyle(text).fontSize) * Math.hypot(at.a, at.b));
return {wide, small: Math.min(...small)};
"""
AXE_SCRIPT = """
const script = page.createElement("script");
script.src = "axe.min.js";
page.head.append(script);
await new Promise((done) => { script.onload = done; });
const result = await view.axe.run(page, {resultTypes: ["violations"]});
return result.violations.filter((one) => ["serious", "critical"].includes(one.impact))
  .map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`);
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_are_sorted(browser, report, width):
    assert all(browser.run(report, SORT, width))


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_is_sorted_and_fits(browser, comparison, width):
    assert all(browser.run(comparison, SORT, width))
    fits = browser.run(comparison, FITS, width)
    assert fits["wide"] <= 0 and fits["small"] >= 11


@pytest.mark.parametrize("width", WIDTHS)
def test_every_layer_is_shown_and_hidden(browser, report, width):
    counts = browser.run(report, TOGGLE, width)
    assert {"prediction", "target"} <= set(counts)
    for layer, (shown, hidden) in counts.items():
        assert shown and hidden == 0, layer


@pytest.mark.parametrize("width", WIDTHS)
def test_every_case_opens_zooms_and_scrolls(request, browser, report, width):
    found = browser.run(report, LOOK_THROUGH, width)
    of = request.node.callspec.params["report"]
    assert found
    for case in found:
        landmarks = of.startswith("landmarks")
        assert bool(case["told"]) == landmarks
        planes = 3 if of.endswith("3D") else 1 + landmarks  # a picture of landmarks has an inset
        assert (case["frames"], len(case["scrolled"])) == (planes, 3 * of.endswith("3D"))
    for case in found:
        assert case["id"] == case["named"]
        assert case["zoomed"] and all(case["told"]) and all(case["scrolled"])


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen_and_charts_are_readable(browser, report, width):
    fits = browser.run(report, FITS, width)
    assert fits["wide"] <= 0
    assert fits["small"] >= 11


@pytest.mark.skipif(AXE not in os.environ, reason=f"{AXE} names no axe.min.js: npm pack axe-core")
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_serious_fault(browser, report, width):
    assert browser.run(report, AXE_SCRIPT, width, axe=True) == []


@pytest.mark.skipif(AXE not in os.environ, reason=f"{AXE} names no axe.min.js: npm pack axe-core")
def test_axe_finds_no_serious_fault_in_a_comparison(browser, comparison):
    assert browser.run(comparison, AXE_SCRIPT, 1400, axe=True) == []
