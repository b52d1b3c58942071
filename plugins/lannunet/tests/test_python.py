"""LannU-Net from Python: models in memory, on arrays; the results are those of the command line."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lannunet
import lannunet_images
import lannunet_landmarks
import lannunet_segmentation
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from PIL import Image

import lannunet_core
from tests.fixtures.projects import draw_segmentation_project


@pytest.fixture(scope="module")
def arrays(trained):
    """The testing images of landmarks, (y, x)."""
    paths = [trained.folder / sample["image"] for sample in trained.annotations["testing"]]
    return [np.asarray(Image.open(path)) for path in paths]


@pytest.fixture(scope="module")
def model(trained):
    return lannunet.load(str(trained.out), lannunet.Landmarks)


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    project = draw_segmentation_project(tmp_path_factory.mktemp("api") / "project", spacing=(0.5, 0.5, 2.0))
    given = {"dataset": {"root": project.raw}, "output": {"output_dir": project.out}}
    lannunet.train(project.config | given)
    return project


@pytest.fixture(scope="module")
def segmenter(segmentation):
    return lannunet.load(segmentation.out, lannunet.Segmentation)


def test_landmarks_of_an_array_are_those_of_the_command(trained, arrays, model, tmp_path):
    found = model.predict(arrays)
    images = [trained.folder / sample["image"] for sample in trained.annotations["testing"]]
    assert trained.lannunet("predict", trained.out, *images, "-o", tmp_path / "out") == 0
    rows = trained.rows(tmp_path / "out")
    assert [f"{value:.3f}" for one in found for value in one.points.ravel()] == [
        row[axis] for row in rows for axis in "xy"
    ]
    assert [f"{value:.4f}" for one in found for value in one.confidence] == [
        row["confidence"] for row in rows
    ]
    assert list(found[0].names) * 2 == [row["landmark"] for row in rows]
    if found[0].radius is not None:
        assert f"{found[0].radius:g}" == f"{float(rows[0][f'confidence_radius_{found[0].unit}']):g}"


def rooted(trained, out):
    """The sections of its configuration that name paths."""
    return {"dataset": {"src_targets": trained.json}, "output": {"output_dir": out}}


def test_an_image_is_the_same_in_every_form(trained, arrays, model):
    path = trained.folder / trained.annotations["testing"][0]["image"]
    array = arrays[0]
    picture = sitk.GetImageFromArray(array)
    for form in (
        array,
        array[None],
        torch.from_numpy(array.copy()),
        Image.open(path),
        path,
        str(path),
        picture,
    ):
        np.testing.assert_array_equal(model.predict(form).points, model.predict(array).points)
    assert model.predict(array).spacing is None
    assert model.predict(array, spacing=0.5).spacing == (0.5, 0.5)
    picture.SetSpacing((0.25, 0.75))
    assert model.predict(picture, spacing=0.5).spacing == (0.25, 0.75)


def test_nothing_is_written_or_printed_and_progress_is_told(arrays, model, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    told = []
    model.predict(arrays, progress=lambda *step: told.append(step))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert told[-1] == ("predicting given images", 2, 2)


def test_two_threads_agree_with_one(arrays, model, segmenter):
    volume = np.random.default_rng(0).normal(100, 20, (16, 24, 20)).astype(np.float32)
    for one, images in ((model, arrays * 4), (segmenter, [volume, volume[::-1].copy()])):
        alone = one.predict(images)
        with ThreadPoolExecutor(2) as threads:
            together = list(threads.map(one.predict, [images, images[::-1]]))
        for wanted, first, second in zip(alone, together[0], together[1][::-1], strict=True):
            for found in (first, second):
                for name in ("points", "labels"):
                    if hasattr(wanted, name):
                        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


def test_what_cannot_be_is_an_error_of_the_documented_kind(arrays, model, trained):
    with pytest.raises(lannunet.UserError, match="<image 0>: has 3 channel"):
        model.predict(np.stack([arrays[0]] * 3))
    with pytest.raises(lannunet.LannunetError, match="is not an image"):
        model.predict(np.array(["text"]))
    for spacing in (0, -1.0, (1.0, 2.0, 3.0)):
        with pytest.raises(lannunet.UserError, match="is not the size of a pixel in 2D"):
            model.predict(arrays[0], spacing=spacing)
    with pytest.raises(lannunet.UserError, match="returns no Segmentation"):
        lannunet.load(trained.out, lannunet.Segmentation)
    with pytest.raises(lannunet.UserError, match="there is no such model file"):
        lannunet.load("nowhere")


def test_a_label_map_is_that_of_the_command_in_the_geometry_of_its_image(segmentation, segmenter, tmp_path):
    paths = sorted((segmentation.raw / "imagesTs").iterdir())
    found = segmenter.predict([sitk.ReadImage(str(path)) for path in paths], probabilities=True)
    out = tmp_path / "out"
    assert segmentation.lannunet("predict", segmentation.out, *paths, "-o", out) == 0
    for path, one in zip(paths, found, strict=True):
        written = sitk.ReadImage(str(out / path.name.replace("_0000", "")))
        np.testing.assert_array_equal(one.labels, sitk.GetArrayFromImage(written))
        assert one.geometry.spacing == written.GetSpacing() == (0.5, 0.5, 2.0)
        np.testing.assert_array_equal(one.probabilities.argmax(0), one.labels)
        np.testing.assert_allclose(one.probabilities.sum(0), 1, atol=0.02)
        one.save(tmp_path / "again.nii.gz")
        assert (tmp_path / "again.nii.gz").read_bytes()
    assert found[0].names == ("background", "bright", "dark")


def test_predictions_are_evaluated(trained, arrays, model, segmentation, segmenter):
    found = model.predict(arrays)
    run = json.loads((trained.out / "summary.json").read_text())["overall"]
    assert lannunet.evaluate(found, trained.json)["overall"]["px"] == run["px"]
    points = [sample["coordinates"] for sample in trained.annotations["testing"]]
    assert lannunet.evaluate(found, points)["overall"]["px"] == run["px"]
    table = lannunet.evaluate(str(trained.out / "predictions.csv"), trained.json)["overall"]
    assert table["px"]["mean"] == pytest.approx(run["px"]["mean"], abs=1e-3)
    with pytest.raises(lannunet.UserError, match="2 predictions and 1 annotations"):
        lannunet.evaluate(found, points[:1])
    dataset = lannunet.read_dataset(segmentation.raw)
    images = [case.images[0] for case in dataset.testing]
    agreed = lannunet.evaluate(segmenter.predict(images), dataset)
    assert agreed["evaluated"] == 2
    assert agreed["overall"] == {
        **agreed["overall"],
        "dice": json.loads((segmentation.out / "summary.json").read_text())["overall"]["dice"],
    }


def test_a_run_and_its_evaluation_are_those_of_the_commands(trained, tmp_path):
    """The command line is a thin layer over the functions."""
    run = lannunet.train({**yaml.safe_load(trained.yaml.read_text()), **rooted(trained, tmp_path / "run")})
    assert trained.rows(run.folder) == trained.rows(trained.out)
    table, radii = trained.out / "predictions.csv", (1.0, 5.0)
    assert trained.lannunet("evaluate", table, trained.json, "--radii", "1,5", "-o", tmp_path / "theirs") == 0
    summary = lannunet.evaluate(table, str(trained.json), radii=radii, output=tmp_path / "ours")
    for file in ("summary.json", "predictions.csv"):
        assert (tmp_path / "ours" / file).read_text() == (tmp_path / "theirs" / file).read_text()
    assert summary == json.loads((tmp_path / "ours" / "summary.json").read_text())
    assert (tmp_path / "ours" / "report.html").exists()
    unrounded = lannunet.evaluate(run.results, lannunet.read_dataset(trained.json), task="landmarks")
    assert unrounded["overall"]["px"]["mean"] == pytest.approx(summary["overall"]["px"]["mean"], abs=1e-3)
    with pytest.raises(lannunet.UserError, match=r"output: .* holds the predictions themselves"):
        lannunet.evaluate(table, trained.json, output=trained.out)
    with pytest.raises(lannunet.UserError, match="a report shows a data set"):
        lannunet.evaluate([], [], task="landmarks", output=tmp_path)


def test_what_is_planned_can_be_trained(trained, tmp_path):
    planned = lannunet.plan(str(trained.json), folder=tmp_path, minutes=1, gpu=False)
    assert yaml.safe_load(str(planned))["solver"]["budget_minutes"] == planned["solver.budget_minutes"]
    assert lannunet.read_dataset(trained.json).landmark_names == ("0", "1")


def test_the_documentations_code_runs(trained, segmentation, arrays, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "landmarks").symlink_to(trained.out)
    (tmp_path / "runs" / "segmentation").symlink_to(segmentation.out)
    annotated = {key: value for key, value in trained.annotations.items() if key != "validation"}
    (tmp_path / "points.json").write_text(json.dumps(annotated))
    (tmp_path / "images").symlink_to(trained.folder / "images")
    given = {
        "array": arrays[0],
        "images": arrays,
        "volume": np.zeros((16, 24, 20), np.float32),
        "truth": [sample["coordinates"] for sample in trained.annotations["testing"]],
        "config": trained.config | {"solver": {"max_epochs": 1, "mini_batch_size": 1}},
    }
    text = (Path(__file__).parents[3] / "docs" / "python.md").read_text()
    for number, code in enumerate(re.findall("```python\n(.*?)```", text, re.DOTALL)):
        assert number == 2 or len(code.strip().splitlines()) <= 5
        exec(code, given)
    assert (tmp_path / "label.nii.gz").exists()
    assert "('background', 'bright', 'dark') (16, 24, 20) (3, 16, 24, 20)" in capsys.readouterr().out


def test_importing_it_imports_nothing_heavy():
    script = "import sys, lannunet; lannunet.load; print({'torch', 'SimpleITK', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).stdout == b"set()\n"


def test_the_core_is_a_module_to_run():
    ended = subprocess.run(
        [sys.executable, "-m", "lannunet_core", "--version"], capture_output=True, text=True
    )
    assert ended.stdout.startswith("lannunet-core ")


# torch and NumPy are left out, as in test_mypy.
SETTINGS = """
[mypy]
strict = true
[mypy-torch.*,numpy.*,scipy.*,lightning_fabric.*]
follow_imports = skip
ignore_missing_imports = true
[mypy-lannunet.*,lannunet_core.*,lannunet_images.*,lannunet_landmarks.*,lannunet_segmentation.*,pydantic.*]
follow_imports = silent
"""
USER = """
import lannunet
import numpy as np

model = lannunet.load("run", lannunet.Landmarks)
found = model.predict(np.zeros((8, 8)), spacing=(0.1, 0.1))
reveal_type(found)
reveal_type(model.predict([np.zeros((8, 8))]))
reveal_type(found.radius)
model.predct
"""


@pytest.mark.slow
def test_a_users_script_sees_the_types(tmp_path):
    (tmp_path / "script.py").write_text(USER)
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    packages = (lannunet, lannunet_core, lannunet_images, lannunet_landmarks, lannunet_segmentation)
    folders = [str(Path(package.__file__).parents[1]) for package in packages]
    ended = subprocess.run(
        [sys.executable, "-m", "mypy", "script.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
    )
    said = [line.removeprefix("script.py:") for line in ended.stdout.splitlines()]
    assert len(said) == 5, ended.stdout
    for line, part in zip(said, ("model.Landmarks", "list[", "None", '"predct"', "Found"), strict=True):
        assert part in line
