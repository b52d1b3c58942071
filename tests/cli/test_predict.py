"""`lannunet predict` as its users call it: standalone images, without annotations."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import yaml

from lannunet_core import load_checkpoint, save_checkpoint


def rows(folder):
    with (folder / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def points(rows):
    return [(row["x"], row["y"], row["confidence"]) for row in rows]


@pytest.fixture
def images(trained):
    return [trained.folder / sample["image"] for sample in trained.annotations["testing"]]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "found"


def test_as_in_the_run(trained, images, out):
    """Predictions from the folder of a run and from a model file are the same."""
    for number, model in enumerate((trained.out, trained.out / "checkpoints" / "best.safetensors")):
        folder = out / str(number)
        assert trained.lannunet("predict", model, *images, "-o", folder) == 0
        assert points(rows(folder)) == points(trained.rows())
        assert [row["id"] for row in rows(folder)] == ["testing6.png"] * 2 + ["testing7.png"] * 2
        assert all(not row["error_px"] and not row["state"] for row in rows(folder))


def test_pixels_of_the_training_images_shape(make_project, capsys):
    """The JSON states pixels that are no squares, which `predict` does not see, and the files nothing."""
    project = make_project()
    project.annotations["spacing"] = [0.5, 0.25]
    assert project.train() == 0
    folder, images = project.folder / "found", [one["image"] for one in project.annotations["testing"]]
    images = [project.folder / image for image in images]
    capsys.readouterr()
    assert project.lannunet("predict", project.out, *images, "-o", folder) == 0
    assert points(rows(folder)) == points(project.rows())
    assert "2 of 2 images state no spacing" in capsys.readouterr().err


@pytest.mark.parametrize("again", ["", "checkpoints/best.safetensors"])
def test_a_model_does_not_agree_with_itself(trained, images, out, again, capsys):
    assert trained.lannunet("predict", trained.out, *images, "-o", out, "--also", trained.out / again) == 2
    assert "is in the ensemble twice. Name each model once." in capsys.readouterr().err
    assert not out.exists()


def test_what_it_leaves(trained, images, out):
    assert trained.lannunet("predict", trained.out, *images, "-o", out) == 0
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "run.json",
        "predictions.csv",
        "summary.json",
        "report.html",
        ".lannunet-files",
    }
    assert json.loads((out / "run.json").read_text())["model"] == trained.out.name


def test_folders_and_files(trained, out, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(trained.folder / "images", folder)
    (folder / "notes.txt").write_text("no image")
    (folder / "within").mkdir()
    twice = folder / "testing6.png"
    assert trained.lannunet("predict", trained.out, folder, twice, "-o", out) == 0
    assert len(rows(out)) == 2 * 8


def test_files_of_one_name_keep_apart(trained, images, out, tmp_path):
    same = tmp_path / images[0].name
    shutil.copy(images[1], same)
    assert trained.lannunet("predict", trained.out, images[0], same, "-o", out) == 0
    shared = os.path.commonpath([images[0].parent, tmp_path])  # no parent: reports contain no absolute path
    ids = [str(path.relative_to(shared)) for path in (images[0], same)]
    assert [row["id"] for row in rows(out)[::2]] == ids
    assert points(rows(out)) == points(trained.rows())


def test_other_sizes_and_formats(trained, out, tmp_path):
    np.save(tmp_path / "wide.npy", np.random.default_rng(0).uniform(0, 1, (50, 200)))
    assert trained.lannunet("predict", trained.out, tmp_path / "wide.npy", "-o", out) == 0
    assert max(float(row["x"]) for row in rows(out)) < 200


def test_spacing(trained, images, out):
    assert trained.lannunet("predict", trained.out, *images, "-o", out, "--spacing", 0.5) == 0
    assert points(rows(out)) == points(trained.rows())


@pytest.mark.parametrize("spacing", ["0", "-1", "inf", "nan"])
def test_impossible_spacing(trained, images, out, spacing):
    assert trained.lannunet("predict", trained.out, *images, "-o", out, "--spacing", spacing) == 2
    assert not out.exists()


def test_overwriting(trained, images, out):
    assert trained.lannunet("predict", trained.out, images[0], "-o", out) == 0
    assert trained.lannunet("predict", trained.out, *images, "-o", out) == 2
    assert len(rows(out)) == 2
    assert trained.lannunet("predict", trained.out, *images, "-o", out, "--overwrite") == 0
    assert len(rows(out)) == 4


def test_volumes(make_project):
    project = make_project(sizes=((32, 28, 20),), input_size=[24, 24, 16])
    assert project.train("--set", "inference.debug=true") == 0
    found = project.folder / "found"
    assert project.lannunet("predict", project.out, project.folder / "images", "-o", found) == 0
    assert [row["z"] for row in rows(found)][8:12] != [""] * 4
    of_test = [row for row in rows(found) if row["id"].startswith("testing")]
    assert [row["z"] for row in of_test] == [row["z"] for row in project.rows()]
    assert {path.suffix for path in (found / "debug").iterdir()} == {".png"}


def test_the_model_itself_is_not_overwritten(trained, images, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(trained.out, model)
    other = ("predict", trained.out, *images, "--also", model / "checkpoints" / "best.safetensors")
    for command in (("predict", model, *images), other):
        assert trained.lannunet(*command, "-o", model, "--overwrite") == 2
        assert "--output" in (said := capsys.readouterr().err) and "name another folder" in said
        assert (model / "checkpoints" / "best.safetensors").is_file() and (
            model / "predictions.csv"
        ).is_file()


def test_mirrored_looks_on_request(trained, images, out, tmp_path, capsys):
    """The results equal those of a model whose configuration enables them."""
    plain, asking = tmp_path / "plain.safetensors", tmp_path / "asking.safetensors"
    model = load_checkpoint(trained.out)
    model.config["sampler"]["data_aug"] = "AffineComplex"
    save_checkpoint(plain, model)
    model.config["inference"]["tta"] = True
    save_checkpoint(asking, model)
    assert trained.lannunet("predict", plain, *images, "-o", out / "asked", "--tta") == 0
    assert trained.lannunet("predict", asking, *images, "-o", out / "asking") == 0
    assert rows(out / "asked") == rows(out / "asking")
    assert points(rows(out / "asked")) != points(trained.rows())
    assert yaml.safe_load((out / "asked" / "config.yaml").read_text())["inference"]["tta"] is True
    assert trained.lannunet("predict", asking, *images, "-o", out / "not", "--no-tta") == 0
    assert points(rows(out / "not")) == points(trained.rows())

    model.config["sampler"]["data_aug"] = "None"
    save_checkpoint(asking, model)
    assert trained.lannunet("predict", asking, *images, "-o", out / "not", "--tta", "--overwrite") == 2
    assert "inference.tta: sampler.data_aug None never mirrors" in capsys.readouterr().err
    assert points(rows(out / "not")) == points(trained.rows())  # nothing was removed
