"""The page in a browser: drop an image, correct it, save. Chromium, where it is installed."""

import base64
import re
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.filterwarnings("default"),
]

DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  for (const kind of ["dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def image(picture, tmp_path):
    """A different image in each test, because the same bytes are one sample under any name."""
    return picture(tmp_path / "image.png", sum(tmp_path.name.encode()))


@pytest.fixture(params=[1400, 390], ids=["wide", "phone"])
def page(browser, server, request):
    made = browser.new_page(viewport={"width": request.param, "height": 900}, has_touch=request.param < 500)
    said = []
    made.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: said.append(str(error)))
    made.goto(f"{server.address}/")
    status(made, "^(This is|These are)")  # the first image of the queue is open
    yield made
    made.close()
    assert [one for one in said if "status of 422" not in one] == []  # a test requests it


def status(page, pattern):
    """Wait by polling, because the page's security policy forbids evaluating a function."""
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_have_text(re.compile(pattern), timeout=30_000)


def drop(page, path, name):
    page.evaluate(DROP, [name, base64.b64encode(path.read_bytes()).decode()])
    page.locator("#name", has_text=re.compile(f"^{re.escape(name)}$")).wait_for(timeout=30_000)
    page.locator("#points g").first.wait_for()
    status(page, "^This is")


def entry(server, name):
    (found,) = [one for one in server.json["training"] if one["id"] == name]
    return found["coordinates"]


def test_drop_drag_save(page, server, image, request):
    name = f"dropped{page.viewport_size['width']}"
    drop(page, image, f"{name}.png")
    before = server.give(f"images/{page.evaluate('open.key')}")["points"]
    page.locator("#points g[data-index='0'] circle.dot").scroll_into_view_if_needed()
    dot = page.locator("#points g[data-index='0'] circle.dot").bounding_box()
    pixel = page.locator("#points").bounding_box()["width"] / 64  # screen pixels per image pixel
    x, y = dot["x"] + dot["width"] / 2, dot["y"] + dot["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 3 * pixel, y - 2 * pixel, steps=4)
    page.mouse.move(x + 6 * pixel, y - 4 * pixel, steps=4)
    page.mouse.up()
    page.locator("#save").click()
    status(page, "^Saved to")
    found = entry(server, name)
    expected = [before[0]["at"][0] + 6, before[0]["at"][1] - 4]
    assert found[0] == pytest.approx(expected, abs=0.3)
    assert found[1] == pytest.approx(before[1]["at"], abs=0.01)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_keyboard_alone(page, server, image):
    name = f"keys{page.viewport_size['width']}"
    drop(page, image, f"{name}.png")
    before = server.give(f"images/{page.evaluate('open.key')}")["points"]
    page.keyboard.press("1")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    page.keyboard.press("o")
    page.keyboard.press("2")
    page.keyboard.press("a")
    page.keyboard.press("s")
    status(page, "^Saved to")
    first, second = entry(server, name)
    x, y = before[0]["at"]
    assert first["occluded"] is True and first["at"] == pytest.approx([x + 2, y - 10], abs=0.02)
    assert second == "absent"
    page.keyboard.press("p")  # another image of the queue
    page.locator("#name", has_not_text=name).wait_for()
    labels = page.locator("#points g").evaluate_all("all => all.map((one) => one.getAttribute('aria-label'))")
    assert labels and all(", " in label for label in labels)


def test_what_moves_while_it_is_saved_is_not_called_saved(page, server, image):
    name = f"slow{page.viewport_size['width']}"
    drop(page, image, f"{name}.png")
    held = []
    page.route("**/images/*", lambda route: held.append(route))
    page.keyboard.press("1")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("s")
    while not held:
        page.wait_for_timeout(20)
    page.keyboard.press("ArrowRight")
    held[0].continue_()
    page.unroute("**/images/*")
    status(page, "^Saved, except")
    first = entry(server, name)[0]
    page.keyboard.press("s")
    status(page, "^Saved to")
    assert entry(server, name)[0] == pytest.approx([first[0] + 1, first[1]])


def test_what_cannot_be_read_is_said(page, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    page.evaluate(DROP, ["broken.png", base64.b64encode(broken.read_bytes()).decode()])
    page.locator("#status.wrong").wait_for()
    assert "broken.png" in page.locator("#status").inner_text()
