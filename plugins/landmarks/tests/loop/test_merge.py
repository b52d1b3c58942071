"""Merging corrected annotations into our JSON: nothing is lost, and changes are reported."""

import getpass
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks import Annotated, Annotations, Mark, merge
from PIL import Image

from lannunet_core import UserError

NAMES = ("tip", "root")


@pytest.fixture
def annotations(tmp_path):
    """Four images, three of which are annotated, with a spacing of half a millimetre."""
    (tmp_path / "images").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"im{number}.png")
    entries = [
        {"id": "a", "image": "images/im0.png", "coordinates": [[10, 20], [30, 31]], "patient": "x"},
        {"id": "b", "image": "images/im1.png", "coordinates": [[11, 21], "absent"]},
        {"id": "c", "image": "images/im2.png", "coordinates": None, "has_annotation": False},
    ]
    content = {
        "name": "set",
        "landmark_names": list(NAMES),
        "spacing": 0.5,
        "training": entries[:1],
        "validation": entries[1:2],
        "testing": entries[2:],
        "remark": "stays",
    }
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def corrected(folder, number=0, names=NAMES, **marks):
    image = folder / "images" / f"im{number}.png"
    given = {name: Mark(None) if at is None else Mark(at) for name, at in marks.items()}
    return Annotations(names, (Annotated(image, given),))


def test_what_changes_is_merged_and_said(annotations):
    folder, before = annotations.parent, annotations.read_bytes()
    done = merge(annotations, corrected(folder, tip=(13, 24), root=None), by="anna")
    assert [str(one) for one in done.changed["a"]] == ["tip moved by 2.50 mm", "root visible → absent"]
    assert done.changed["a"][0].pixels == 5
    content = json.loads(annotations.read_text())
    (entry,) = content["training"]
    assert (entry["coordinates"], entry["patient"]) == ([[13, 24], "absent"], "x")
    (told,) = entry["annotated"]
    assert told.endswith(" anna") and told.startswith("20")
    assert (content["remark"], content["validation"]) == ("stays", json.loads(before)["validation"])
    assert done.backup.read_bytes() == before and done.backup.suffix == ".bak"

    merge(annotations, corrected(folder, tip=(14, 24)), by="ben")  # the other landmark stays
    (entry,) = json.loads(annotations.read_text())["training"]
    assert entry["coordinates"] == [[14, 24], "absent"]
    assert [told.split()[1] for told in entry["annotated"]] == ["anna", "ben"]
    assert len(list(folder.glob("*.bak"))) == 2


def test_an_image_without_annotation_gets_one_and_stays_in_its_list(annotations):
    done = merge(annotations, corrected(annotations.parent, 2, tip=(1, 2), root=(3, 4)), by="anna")
    assert [str(one) for one in done.changed["c"]] == [
        "tip unlabelled → visible",
        "root unlabelled → visible",
    ]
    (entry,) = json.loads(annotations.read_text())["testing"]
    assert entry["coordinates"] == [[1, 2], [3, 4]] and "has_annotation" not in entry


def test_coordinates_that_are_no_annotation_are_not_made_one(annotations):
    content = json.loads(annotations.read_text())
    content["testing"][0]["coordinates"] = [[0, 0], [7, 8]]  # such as a prediction, has_annotation is false
    annotations.write_text(json.dumps(content))
    merge(annotations, corrected(annotations.parent, 2, tip=(0, 0)), by="anna")
    (entry,) = json.loads(annotations.read_text())["testing"]
    assert entry["coordinates"] == [[0, 0], None] and "has_annotation" not in entry


def test_a_list_of_images_gets_its_landmarks(annotations):
    images = [
        {"id": str(n), "image": f"images/im{n}.png", "coordinates": None, "has_annotation": False}
        for n in range(2)
    ]
    annotations.write_text(json.dumps({"testing": images}))
    merge(annotations, corrected(annotations.parent, 1, tip=(1, 2)), by="anna")
    content = json.loads(annotations.read_text())
    assert content["landmark_names"] == list(NAMES)
    assert [one["coordinates"] for one in content["testing"]] == [None, [[1, 2], None]]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"image": None}, 'sample "a" of training: "image" is missing'),
        ({"id": None}, 'sample 1 of training: "id" is missing'),
        ({"coordinates": [[10, 20]]}, 'sample "a": has 1 landmarks'),
        ({"coordinates": 5}, 'sample "a": "coordinates" is 5'),
    ],
)
def test_a_damaged_json_is_refused_in_a_sentence(annotations, change, words):
    content = json.loads(annotations.read_text())
    content["training"][0] |= change
    annotations.write_text(json.dumps(content))
    with pytest.raises(UserError, match=re.escape(words)):
        merge(annotations, corrected(annotations.parent, tip=(1, 2)), by="anna")


def test_a_new_image_comes_into_training_and_a_copy_is_known(annotations):
    folder = annotations.parent
    copied = folder / "elsewhere.png"
    shutil.copy(folder / "images" / "im1.png", copied)
    found = Annotations(NAMES, (Annotated(copied, {"tip": Mark((11, 21)), "root": Mark(None)}),))
    done = merge(annotations, found, by="anna")
    assert (done.same, done.added, done.changed, done.backup) == (["b"], [], {}, None)
    done = merge(annotations, corrected(folder, 3, tip=(5, 6)), by="anna")
    assert done.added == ["im3"]
    entry = json.loads(annotations.read_text())["training"][1]
    assert entry["coordinates"] == [[5, 6], None] and entry["image"] == "images/im3.png"


def test_what_was_not_corrected_leaves_the_file_as_it_is(annotations):
    before = annotations.read_bytes()
    done = merge(annotations, corrected(annotations.parent, tip=(10.004, 20), root=(30, 31)), by="anna")
    assert done.same == ["a"] and annotations.read_bytes() == before
    assert list(annotations.parent.glob("*.bak")) == []


def test_a_file_that_is_not_there_is_made(annotations):
    path = annotations.with_name("new.json")
    merge(path, corrected(annotations.parent, 4, tip=(5, 6), root=None), by="anna")
    content = json.loads(path.read_text())
    assert content["landmark_names"] == ["tip", "root"]
    assert [entry["coordinates"] for entry in content["training"]] == [[[5, 6], "absent"]]


def test_what_does_not_fit_is_refused_and_nothing_changes(annotations):
    folder, before = annotations.parent, annotations.read_bytes()
    with pytest.raises(UserError, match="has no landmark 'nose'; it has tip, root"):
        merge(annotations, corrected(folder, names=("nose",), nose=(1, 2)), by="anna")
    with pytest.raises(UserError, match="another image with the id"):
        image = folder / "images" / "im4.png"
        merge(annotations, Annotations(NAMES, (Annotated(image, {"tip": Mark((1, 2))}, id="b"),)), by="anna")
    with pytest.raises(UserError, match="finite"):
        merge(annotations, corrected(folder, tip=(float("nan"), 2)), by="anna")
    for number in (0, 4):
        with pytest.raises(UserError, match=r"tip at .* lies outside of its image of 50×40 pixels"):
            merge(annotations, corrected(folder, number, tip=(51, 2)), by="anna")
    assert annotations.read_bytes() == before
    other = folder / "coco.json"
    other.write_text("{}")
    with pytest.raises(UserError, match="is not an annotation file"):
        merge(other, corrected(folder, tip=(1, 2)), by="anna")


def test_merges_at_once_lose_nothing(annotations):
    folder = annotations.parent
    images = [folder / f"n{number}.png" for number in range(12)]
    for number, image in enumerate(images):
        Image.fromarray(np.full((20, 20), number, np.uint8)).save(image)

    def work(image):
        merge(annotations, Annotations(NAMES, (Annotated(image, {"tip": Mark((1, 2))}),)), by="anna")

    threads = [threading.Thread(target=work, args=(image,)) for image in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {entry["id"] for entry in json.loads(annotations.read_text())["training"]}
    assert ids == {"a", *(image.stem for image in images)}


MERGING = """
import itertools, sys
from pathlib import Path
from lannunet_landmarks import Annotated, Annotations, Mark, merge
path = Path(sys.argv[1])
for number in itertools.count():
    mark = Mark((float(number % 40), 5.0))
    image = path.parent / "images" / "im0.png"
    merge(path, Annotations(("tip", "root"), (Annotated(image, {"tip": mark}),)), by="anna", keep=False)
    print(number, flush=True)
"""


def test_killed_while_it_merges_the_file_is_the_old_or_the_new_one(annotations):
    content = json.loads(annotations.read_text())
    content["training"] += [  # a file that takes a while to write
        {"id": f"s{n}", "image": "images/im3.png", "coordinates": [[1, 2], [3, 4]], "note": "x" * 2000}
        for n in range(200)
    ]
    annotations.write_text(json.dumps(content))
    for wait in (0.0, 0.013, 0.029):
        process = subprocess.Popen(
            [sys.executable, "-c", MERGING, str(annotations)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2):
            said = int(process.stdout.readline())
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        said = int(rest[-1]) if rest else said
        (first, *others) = json.loads(annotations.read_text())["training"]
        assert first["coordinates"][0][0] in (said % 40, (said + 1) % 40)
        assert len(others) == 200


def test_the_command(annotations, project, capsys):
    folder, before = annotations.parent, annotations.read_bytes()
    table = folder / "corrected.csv"
    table.write_text("image,landmark,x,y\nimages/im0.png,tip,13,24\nimages/im3.png,tip,1,2\n")
    assert project.lannunet("import", table, "--into", annotations) == 0
    said = capsys.readouterr().out
    assert "a: tip moved by 2.50 mm\n1 landmarks moved, by 2.50 mm in the median and 2.50 at most" in said
    assert "1 images are new (in its training list), 1 changed, 0 are unchanged" in said
    backup = Path(said.strip().splitlines()[-1].removeprefix("backup of the previous version: "))
    assert backup.read_bytes() == before
    (told,) = json.loads(annotations.read_text())["training"][0]["annotated"]
    assert told.split()[1] == getpass.getuser()
    assert project.lannunet("import", table, "--into", annotations, "--by", "anna") == 0
    table.write_text("image,landmark,x,y\nimages/im0.png,tip,13,24\nimages/im3.png,tip,1,2000\n")
    assert project.lannunet("import", table, "--images", folder, "-o", folder / "new.json") == 0
    said = capsys.readouterr().err
    assert "warning: 1 images cannot be used as they are" in said and "(1, 2000) lies outside" in said
    assert project.lannunet("import", table) == 2
    assert "--output or --into: give one" in capsys.readouterr().err
    assert project.lannunet("import", table, "--into", folder / "nowhere.json") == 2
    assert "there is no file" in capsys.readouterr().err
