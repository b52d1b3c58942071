"""The images that are suggested, and the folder that `lannunet suggest` writes."""

import csv
import json
import shutil

import numpy as np
import pytest
from lannunet_landmarks import read_queue
from lannunet_landmarks.loop.suggest import not_annotated, spread
from lannunet_landmarks.types import Sample
from PIL import Image


def test_neighbours_do_not_come_together():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(5) * 10, 20, axis=0)
    features = groups + rng.normal(size=groups.shape) * 0.01
    worth = np.concatenate([np.full(20, 1.0), rng.uniform(0.2, 0.9, 80)])  # the first group is worth most
    chosen = [index for index, _ in spread(worth, features, None, 5)]
    assert chosen[0] < 20
    assert sorted(index // 20 for index in chosen) == [0, 1, 2, 3, 4]
    known = features[[0, 25]]
    assert {index // 20 for index, _ in spread(worth, features, known, 3)} == {2, 3, 4}


def test_each_is_the_best_of_what_is_left():
    """Against the definition, image by image."""
    rng = np.random.default_rng(1)
    features, known, worth = rng.normal(size=(30, 4)), rng.normal(size=(3, 4)), rng.uniform(size=30)
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(features) for j, b in enumerate(features) if i != j]
    taken = list(known)
    found = spread(worth, features, known, 30)
    for index, novelty in found:
        nearest = [min(np.linalg.norm(one - other) for other in taken) for one in features]
        left = [i for i in range(30) if not any(features[i] is one for one in taken)]
        assert index == max(left, key=lambda i: worth[i] * nearest[i])
        assert novelty == pytest.approx(nearest[index] / np.median(pairs))
        features = list(features)
        taken.append(features[index])
    assert len({index for index, _ in found}) == 30
    assert spread(np.ones(1), np.zeros((1, 2)), None, 4) == [(0, np.inf)]


def test_what_is_annotated_is_left_out_also_under_another_name(tmp_path):
    for name, value in (("a", 1), ("b", 2), ("c", 3)):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / f"{name}.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "copy of a.png")
    shutil.copy(tmp_path / "c.png", tmp_path / "d.png")

    def samples(*names):
        return [Sample(one, tmp_path / f"{one}.png", np.zeros((1, 2)), np.zeros(1, int)) for one in names]

    left = not_annotated(samples("copy of a", "b", "c", "d"), samples("a"))
    assert [one.id for one in left] == ["b", "c"]


@pytest.fixture
def pool(trained, tmp_path):
    folder = tmp_path / "pool"
    folder.mkdir()
    for number, path in enumerate(sorted((trained.folder / "images").glob("*.png"))):
        shutil.copy(path, folder / path.name)
        turned = np.asarray(Image.open(path))[::-1]
        Image.fromarray(turned).save(folder / f"=new{number}.png")
    return folder


def test_the_folder_has_the_queue_and_predictions_to_start_from(trained, pool, tmp_path, capsys):
    out = tmp_path / "to_annotate"
    assert trained.lannunet("suggest", trained.out, pool, "-n", 3, "-o", out, "--format", "csv") == 0
    assert "holds 3 of 16 images (8 are annotated already)" in capsys.readouterr().out
    queue = read_queue(out)
    assert len(queue) == 3
    for name, image in queue:  # all images without annotation are upside down
        assert name.startswith("=new") and image.resolve() == (pool / name).resolve()
    with (out / "queue.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"][:2] for row in rows] == ["'="] * 3  # no spreadsheet evaluates it
    assert all(0 <= float(row["confidence"]) <= 1 and float(row["distance"]) > 0 for row in rows)

    merged = tmp_path / "merged.json"
    shutil.copy(trained.json, merged)
    content = json.loads(merged.read_text())
    for split in ("training", "validation", "testing"):
        for entry in content[split]:
            entry["image"] = str(trained.folder / entry["image"])
    merged.write_text(json.dumps(content))
    start = next(path for path in out.iterdir() if path.name != "queue.csv")
    assert trained.lannunet("import", start, "--into", merged) == 0
    assert "3 images are new" in capsys.readouterr().out
    assert len(json.loads(merged.read_text())["training"]) == 7


def test_what_cannot_be_suggested_is_said(trained, tmp_path, capsys):
    images, out = trained.folder / "images", tmp_path / "out"
    assert trained.lannunet("suggest", trained.out, images, "-o", out) == 2
    assert "all of them are annotated already" in capsys.readouterr().err
    assert trained.lannunet("suggest", trained.out, images, "-o", out, "--format", "sleap") == 2
    assert "is only read; written are" in capsys.readouterr().err
    assert not out.exists()
    assert trained.lannunet("suggest", trained.out, images, "-o", images) == 2
    assert "exists already" in capsys.readouterr().err
