"""Access and saving, with real requests to a real server."""

import asyncio
import io
import json
import shutil
import signal
import socket
import threading
import time
from types import SimpleNamespace
from urllib.parse import quote

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_serve.app import make_app
from lannunet_serve.looking import Looked, Model, keep_upload
from lannunet_serve.monai import label_file
from lannunet_serve.store import Conflict, Store
from PIL import Image

from lannunet_core import Image as Pixels, RunFailed, UserError, api


def images(server):
    return server.give("state")["images"]


def points(server, key):
    return [point["at"] for point in server.give(f"images/{key}")["points"]]


def test_an_uploaded_image_is_predicted_corrected_and_saved(server, image):
    made = server.give("images?name=new.png", "POST", image.read_bytes())
    described = server.give(f"images/{made['key']}")
    assert described["size"] == [64, 64] and described["saved"] is None
    (x, y), second = points(server, made["key"])
    assert (x, y) == pytest.approx((24.849, 50.897), abs=0.01)  # as since version 0.1
    status, plane = server.ask(f"images/{made['key']}/plane")
    assert status == 200 and plane.startswith(b"\x89PNG")

    given = {"points": [[x + 3, y], {"at": second, "occluded": True}], "before": None}
    answer = server.give(f"images/{made['key']}", "PUT", json.dumps(given))
    (entry,) = [one for one in server.json["training"] if one["id"] == "new"]
    assert entry["coordinates"] == [[x + 3, y], {"at": second, "occluded": True}] == answer["saved"]
    assert entry["annotated"][0].endswith(" anna")
    assert (server.folder / entry["image"]).read_bytes() == image.read_bytes()
    again = server.give(
        f"images/{made['key']}", "PUT", json.dumps({"points": ["absent", None], "before": answer["saved"]})
    )
    assert again["saved"] == [
        "absent",
        {"at": second, "occluded": True},
    ]  # unlabelled landmarks remain unchanged
    assert {one["name"]: one["saved"] for one in images(server)}["new.png"] is True


def test_the_same_name_is_another_image_and_the_same_bytes_are_the_same(server, image, picture, tmp_path):
    other = picture(tmp_path / "other.png", 77)
    first = server.give("images?name=twice.png", "POST", image.read_bytes())
    second = server.give("images?name=twice.png", "POST", other.read_bytes())
    assert server.give("images?name=twice.png", "POST", image.read_bytes()) == first
    assert (first["name"], second["name"]) == ("twice.png", "twice-2.png")
    assert (server.folder / "corrected_images" / "twice.png").read_bytes() == image.read_bytes()


@pytest.mark.parametrize("token", ["", "wrong", "%c3%a9", "..", "%2e%2e"])
@pytest.mark.parametrize("path", ["", "state", "page.js", "info/", "images", "datastore/"])
def test_without_the_token_nothing_is_given(server, token, path):
    for method in ("GET", "POST", "PUT"):
        status, body = server.ask(path, method, b"x", token=token)
        assert status == 403, (method, body)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_another_page_may_not_ask(server, headers, image):
    before = len(images(server))
    for method, path in (("GET", "state"), ("POST", "images?name=evil.png"), ("PUT", "datastore/?image=x")):
        assert server.ask(path, method, image.read_bytes(), headers)[0] == 403
    assert len(images(server)) == before
    assert server.ask("state", headers={"Origin": f"http://127.0.0.1:{server.port}"})[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "images/../../../etc/passwd",
        "images/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "images//etc/passwd/plane",
        "images/..%5c..%5cx/plane",
        "datastore/image?image=/etc/passwd",
        "datastore/image?image=../corrected.json",
        "../state",
        "static/page.js",
        "page.js/../../cli.py",
    ],
)
def test_a_path_outside_is_not_given(server, path):
    status, body = server.ask(path)
    assert status in (404, 422) and b"root:" not in body and b"import" not in body


@pytest.mark.parametrize(
    "name", ["../evil.png", "/tmp/evil.png", "a/b.png", "..\\evil.png", "", ".x.png", "C:x.png", "x.sh"]
)
def test_an_image_cannot_be_written_elsewhere(server, image, name):
    before = sorted(path for path in server.folder.parent.rglob("*"))
    assert server.ask(f"images?name={quote(name, safe='')}", "POST", image.read_bytes())[0] == 422
    assert sorted(path for path in server.folder.parent.rglob("*")) == before


def test_what_is_no_image_is_refused_and_not_kept(server):
    status, body = server.ask("images?name=text.png", "POST", b"no image")
    assert status == 422 and b"text.png" in body
    assert not (server.folder / "corrected_images" / "text.png").exists()
    assert "text.png" not in {one["name"] for one in images(server)}


def test_2_gb_are_refused_before_they_are_sent(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        head = f"POST /{server.token}/images?name=big.png HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        raw.sendall(f"{head}Content-Length: {2 << 30}\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_unknown_length_is_counted(tmp_path, call):
    """The application itself, with a limit that a test can reach."""
    store = Store(tmp_path / "c.json", tmp_path / "images", [], "anna", ("tip",))
    app = make_app(None, store, "token", largest=1000)
    status, _, left = call(app, "POST", "images?name=a.png", *[b"x" * 600] * 4)
    assert (status, left) == (413, 3)  # the rest is not read
    assert list((tmp_path / "images").iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"points": [], "before": null}',
        b'{"points": [[1, 2]], "before": null}',
        b'{"points": [null, null], "before": null}',
        b'{"points": ["gone", null], "before": null}',
        b'{"points": [[1], null], "before": null}',
        b'{"points": [[1, 2, 3], null], "before": null}',
        b'{"points": [[NaN, 2], null], "before": null}',
        b'{"points": [[1e999, 2], null], "before": null}',
        b'{"points": [[true, 2], null], "before": null}',
        b'{"points": [[1%s, 2], null], "before": null}' % (b"0" * 400),
        b'{"points": 3, "before": null}',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:40].decode(),
)
def test_what_are_no_landmarks_is_refused_and_nothing_changes(server, body):
    key = images(server)[0]["key"]
    target = server.folder / "corrected.json"
    before = target.read_bytes() if target.exists() else None
    assert server.ask(f"images/{key}", "PUT", body)[0] == 422
    assert (target.read_bytes() if target.exists() else None) == before


def test_saves_at_once_lose_nothing(server, picture, tmp_path):
    made = [
        server.give(f"images?name=p{n}.png", "POST", picture(tmp_path / f"p{n}.png", 100 + n).read_bytes())
        for n in range(6)
    ]
    answers = {}

    def save(number, key):
        given = {"points": [[number, 1], [number, 2]], "before": None}
        answers[number] = server.ask(f"images/{key}", "PUT", json.dumps(given))[0]

    threads = [threading.Thread(target=save, args=(n, one["key"])) for n, one in enumerate(made)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers.values()) == {200}
    kept = {entry["id"]: entry["coordinates"] for entry in server.json["training"]}
    assert {f"p{n}": [[n, 1], [n, 2]] for n in range(6)}.items() <= kept.items()


def test_of_two_saves_of_one_image_the_second_is_told(server, picture, tmp_path):
    body = picture(tmp_path / "both.png", 200).read_bytes()
    key = server.give("images?name=both.png", "POST", body)["key"]
    answers = []

    def save(x):
        given = {"points": [[x, 1], [x, 2]], "before": None}
        answers.append((server.ask(f"images/{key}", "PUT", json.dumps(given))[0], x))

    threads = [threading.Thread(target=save, args=(x,)) for x in (5, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(code for code, _ in answers) == [200, 409]
    first = dict(answers)[200]
    (entry,) = [one for one in server.json["training"] if one["id"] == "both"]
    assert entry["coordinates"] == [[first, 1], [first, 2]]


@pytest.mark.slow  # it starts a server of its own; plugins/landmarks/tests/loop kills what it saves with
def test_killed_while_saving_the_file_is_the_old_or_the_new_one(own_server, image):
    server = own_server()
    key = server.give("images?name=a.png", "POST", image.read_bytes())["key"]
    said = []

    def save():
        before = None
        for x in range(1, 60):
            try:
                given = {"points": [[x, 1], [x, 2]], "before": before}
                before = server.give(f"images/{key}", "PUT", json.dumps(given))["saved"]
            except (OSError, ValueError):
                return
            said.append(x)

    thread = threading.Thread(target=save)
    thread.start()
    while len(said) < 10:
        time.sleep(0.002)
    server.process.send_signal(signal.SIGKILL)
    thread.join()
    server.close()
    (entry,) = server.json["training"]
    assert entry["coordinates"][0][0] in (said[-1], said[-1] + 1)


def test_a_session_keeps_one_backup(tmp_path, image):
    target = tmp_path / "c.json"

    def session():
        return Store(target, tmp_path / "images", [("image.png", image)], "anna", ("tip", "root"))

    first = session()
    (served,) = first.images.values()
    first.save(served, [[1, 1], [2, 2]], None)
    before = target.read_bytes()
    second = session()
    assert second.state()["images"][0]["saved"] is True
    for x in (5, 6):
        second.save(served, [[x, 1], None], second.points_of(served))
    (backup,) = tmp_path.glob("*.bak")
    assert backup.read_bytes() == before
    assert second.points_of(served) == [[6, 1], [2, 2]]


def test_a_copy_of_an_annotated_image_is_known(tmp_path, image):
    """The sample has another path: unseen landmarks are kept, and numbers are as browsers write them."""
    target = tmp_path / "c.json"
    entry = {"id": "a", "image": "image.png", "coordinates": [[10.0, 20.0], "absent"]}
    target.write_text(json.dumps({"landmark_names": ["tip", "root"], "training": [entry]}))
    copy = shutil.copy(image, tmp_path / "copy.png")
    store = Store(target, tmp_path / "images", [("copy.png", copy)], "anna", ("tip", "root"))
    (served,) = store.images.values()
    assert store.state()["images"][0]["saved"] is True
    with pytest.raises(Conflict):
        store.save(served, [[1, 1], [2, 2]], None)
    assert store.save(served, [[11, 20], None], [[10, 20], "absent"]) == [[11, 20], "absent"]
    (merged,) = json.loads(target.read_text())["training"]
    assert (merged["id"], merged["image"]) == ("a", "image.png")


def test_a_file_of_an_earlier_session_is_not_removed(tmp_path):
    """The model of this server cannot process the image."""
    earlier = tmp_path / "images" / "volume.nii.gz"
    earlier.parent.mkdir()
    earlier.write_bytes(b"a volume")

    class Flat:
        def look(self, served):
            raise UserError("has 3 dimensions")

    async def body():
        yield b"a volume"

    store = Store(tmp_path / "c.json", earlier.parent, [], "anna", ("tip",))
    with pytest.raises(UserError, match="3 dimensions"):
        asyncio.run(keep_upload(Flat(), store, "volume.nii.gz", body()))
    assert earlier.read_bytes() == b"a volume" and not store.images


def test_memory_that_is_short_is_one_sentence(tmp_path, image, call):
    class Full:
        def look(self, served):
            raise RunFailed("There is not enough memory to predict.")

    store = Store(tmp_path / "c.json", tmp_path / "images", [("image.png", image)], "anna", ("tip",))
    status, body, _ = call(make_app(Full(), store, "token"), "GET", f"images/{next(iter(store.images))}")
    assert (status, body) == (500, b"There is not enough memory to predict.")


@pytest.mark.parametrize("count", [2, 300])
def test_a_label_map_has_room_for_every_landmark(tmp_path, count):
    points = np.stack([np.arange(count) * 8.0 + 3, np.full(count, 4.0)], axis=1)
    image = Pixels(np.zeros((1, 9, count * 8 + 8), np.float32), None)
    path = tmp_path / "label.nii.gz"
    path.write_bytes(label_file(Looked(image, SimpleNamespace(points=points), None)))
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).squeeze()
    assert [labels[4, int(x)] for x, _ in points] == list(range(1, count + 1))


def test_a_label_map_is_shown(tmp_path, call, kept):
    model = Model(api.load(kept("segmentation") / "model.safetensors"))
    app = make_app(model, Store(tmp_path / "c.json", tmp_path / "images", [], "anna", ()), "token")
    body = (kept("segmentation") / "image.png").read_bytes()
    key = json.loads(call(app, "POST", "images?name=a.png", body)[1])["key"]
    assert json.loads(call(app, "GET", f"images/{key}")[1])["classes"][0] == "background"
    status, labels, _ = call(app, "GET", f"images/{key}/labels")
    shown = np.asarray(Image.open(io.BytesIO(labels)))
    then = np.asarray(Image.open(kept("segmentation") / "found.png"))
    assert status == 200 and ((shown[..., 3] > 0) == (then > 0)).mean() > 0.99
    assert call(app, "PUT", f"images/{key}", b'{"points": [], "before": null}')[0] == 422

    _, label, _ = call(app, "POST", f"infer/lannunet?image={key}&output=image")
    (tmp_path / "label.nii.gz").write_bytes(label)
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "label.nii.gz")))
    assert (found.squeeze() == then).mean() > 0.99


def test_a_json_in_millimetres_is_refused(tmp_path):
    target = tmp_path / "mm.json"
    entry = {"id": "a", "image": "a.png", "coordinates": [[1.0, 2.0]]}
    target.write_text(json.dumps({"coordinate_system": "LPS", "training": [entry]}))
    with pytest.raises(UserError, match=r"has coordinates in mm \(LPS\), but the page needs pixels"):
        Store(target, tmp_path / "images", [], "anna", ("0",))
