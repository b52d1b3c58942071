"""Runs that train on patches, from the command line."""

import json

import numpy as np
import pytest
import torch
import yaml

from lannunet_core.run import checkpoint

PATCH = {"sample_patch_size": [32, 32]}
STITCHED = {**PATCH, "inference_mode": "patchify_and_stitch"}
NATIVE = {"resolution_to_sample_from": "full"}
MIXED = ((96, 80), (70, 100), (64, 64))


def on_patches(project, patch, mode="patch_bias", **sampler):
    project.set(sampler={"sample_mode": mode, "patch": patch, **sampler})
    return project


@pytest.mark.parametrize("patch", [PATCH, STITCHED, PATCH | NATIVE, STITCHED | NATIVE])
def test_either_resolution_and_either_inference(make_project, patch):
    project = on_patches(make_project(sizes=MIXED), patch, input_size=[64, 48])
    assert project.train() == 0
    rows = project.rows()
    assert len(rows) == 4
    assert all(np.isfinite(float(row["x"])) for row in rows)
    described = json.loads((project.out / "run.json").read_text())
    assert described["run"]["input_size"] == [32, 32]  # the input of the network
    # A model finds them again in standalone images.
    images = [project.folder / sample["image"] for sample in project.annotations["testing"]]
    assert project.lannunet("predict", project.out, *images, "-o", project.folder / "again") == 0
    again = project.rows(project.folder / "again")
    assert [(row["x"], row["y"]) for row in again] == [(row["x"], row["y"]) for row in rows]


def test_spacing_is_that_of_the_pixels_that_the_network_sees(make_project):
    project = make_project(sizes=((40, 36, 30),))
    for patch, spacing in ((NATIVE, [0.5, 0.5, 2.0]), ({}, [1.0, 1.0, 4.0])):
        on_patches(project, {"sample_patch_size": [16, 16, 8], **patch}, input_size=[20, 18, 15])
        assert project.train("--overwrite") == 0
        assert json.loads((project.out / "run.json").read_text())["run"]["spacing"] == pytest.approx(spacing)


@pytest.mark.slow
def test_patches_teach(make_project):
    """With patches of images of mixed sizes, predicted patch by patch, blobs are found to one pixel."""
    project = on_patches(make_project(sizes=MIXED, splits={"training": 8, "validation": 2, "testing": 4}),
                         STITCHED | NATIVE, data_aug="None")  # fmt: skip
    project.set(solver={"max_epochs": 6, "mini_batch_size": 25, "data_loader_batch_size_train": 6},
                model={"unet": {"init_features": 8, "max_features": 16}})  # fmt: skip
    assert project.train() == 0
    errors = [float(row["error_px"]) for row in project.rows()]
    assert np.median(errors) < 1


def test_volumes(make_project):
    project = make_project(sizes=((30, 26, 22), (28, 34, 20)))
    on_patches(project, {**STITCHED, **NATIVE, "sample_patch_size": [16, 16, 12]})
    assert project.train() == 0
    assert all(float(row["error_mm"]) > 0 for row in project.rows())


def test_imgaug_on_patches(make_project):
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        pytest.skip(f"imgaug's OpenCV does not load: {error}")
    project = on_patches(make_project(sizes=MIXED), PATCH | NATIVE, data_aug_package="imgaug")
    assert project.train() == 0


@pytest.mark.parametrize("mode", ["patch_bias", "patch_centred"])
def test_a_resumed_run_is_the_same_run(make_project, workshop, monkeypatch, mode):
    project = on_patches(make_project(sizes=MIXED), PATCH | NATIVE, mode)
    project.set(trainer={"plugins": ["saboteur"]})
    whole = project.folder / "whole"
    assert project.train("--set", f"output.output_dir={whole}") == 0
    with monkeypatch.context() as patch:
        patch.setenv("SABOTAGE", "step 5 SIGINT")
        assert project.train() == 130
    assert project.train("--resume") == 0
    assert project.rows() == project.rows(whole)
    one, other = (
        checkpoint.load_checkpoint(folder / "checkpoints" / "latest.pt") for folder in (whole, project.out)
    )
    assert all(torch.equal(one.learner[name], other.learner[name]) for name in one.learner)


# Plugins

MODULE = """
from lannunet_core import Plugin, hookimpl

class Pooling(Plugin):
    @hookimpl
    def network(self):
        from torch import nn

        return nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(8))

class Picky(Plugin):
    @hookimpl
    def network(self):
        from torch import nn

        class Net(nn.Conv2d):
            def forward(self, image):
                assert image.shape[-1] % 16 == 0, "the width is no multiple of 16"
                return super().forward(image)

        return Net(1, 2, 3, padding=1)

class Nearest(Plugin):
    # Of overlapping patches the last one is used.

    seen = []

    @hookimpl
    def stitch_heatmap(self, patches, windows):
        import torch

        maps = torch.zeros(1, 2, *reversed(windows.covered_size))
        for outputs, corners in patches:
            for one, corner in zip(outputs[0], corners, strict=True):
                maps[0][windows.box(corner)] = one
            self.seen.append(len(corners))
        x, y = windows.image_size
        return [maps[..., :y, :x]]
"""


@pytest.fixture
def plugins(distribution):
    names = ("Pooling", "Picky", "Nearest")
    distribution("patchwork", {name: f"patchwork:{name}" for name in names}, {"patchwork.py": MODULE})


def with_network(project, name):
    project.set(model={"architecture": name})
    project.config["model"].pop("unet", None)


def test_a_plugin_stitches_in_its_own_way(project, plugins):
    on_patches(project, STITCHED, input_size=[64, 64])
    project.set(trainer={"plugins": ["nearest"]}, solver={"data_loader_batch_size_eval": 5})
    assert project.train() == 0
    from patchwork import Nearest

    assert Nearest.seen[:2] == [5, 4]  # 3 × 3 patches of 32² an image, in batches


# What cannot be


@pytest.fixture
def refused(capsys):
    def refused(project, *arguments):
        """The message of a run that is refused before it writes anything."""
        assert project.train(*arguments) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert error.startswith("Error: ")
        assert error.count("\n") == 1
        assert not project.out.exists()
        return error

    return refused


def test_a_patch_larger_than_the_image(make_project, refused):
    project = on_patches(make_project(sizes=MIXED), {"sample_patch_size": [72, 32]}, input_size=[64, 64])
    assert "sample_patch_size: [72, 32] is larger than sampler.input_size, [64, 64]" in refused(project)
    on_patches(project, {"sample_patch_size": [72, 32], **NATIVE})
    error = refused(project)
    assert "is larger than the training image" in error
    assert "training1.png, [70, 100]; choose a smaller patch" in error


def test_a_patch_of_other_dimensions(project, refused):
    error = refused(on_patches(project, {"sample_patch_size": [16, 16, 16]}))
    assert "sampler.patch.sample_patch_size: [16, 16, 16] has 3 numbers" in error


@pytest.mark.parametrize("patch", [PATCH, STITCHED])
def test_a_patch_that_the_network_does_not_divide(project, plugins, refused, patch):
    on_patches(project, {**patch, "sample_patch_size": [36, 32]}, input_size=[64, 64])
    with_network(project, "pooling")
    error = refused(project)
    assert "the network of 'Pooling' (patchwork 1.0) cannot take patches of 36×32" in error
    assert "an output of 4×4 is not a whole fraction of it. Choose another size" in error
    with_network(project, "picky")
    error = refused(project)
    assert "sample_patch_size: the network of 'Picky' (patchwork 1.0) cannot take an input of 36×32" in error
    assert "(the width is no multiple of 16). Set it to [32, 32], " in error
    on_patches(project, {**patch, "sample_patch_size": [32, 36]})
    assert project.train() == 0


# Patches around predictions


def write_centres(project, change=lambda rows: rows, name="centres.csv"):
    """The annotations as an earlier run's predictions, one pixel off."""
    rows = [
        f"{sample['id']},{landmark},{x + 1},{y}"
        for split in ("training", "validation", "testing")
        for sample in project.annotations[split]
        for landmark, (x, y) in enumerate(sample["coordinates"])
    ]
    (project.folder / name).write_text("\n".join(["id,landmark,x,y", *change(rows)]) + "\n")
    return on_patches(project, {**PATCH, **NATIVE, "centres": name, "jitter": 3}, "patch_centred")


def test_landmarks_are_looked_for_around_predictions(make_project):
    project = make_project(sizes=MIXED)
    write_centres(project, lambda rows: [*rows[:-1], rows[-1].rsplit(",", 2)[0] + ",,"])
    assert project.train() == 0
    *rows, last = project.rows()
    for row in rows:
        # A half of the patch away at most, whatever the network has learnt.
        away = [float(row[axis]) - float(row[f"target_{axis}"]) - (axis == "x") for axis in "xy"]
        assert np.abs(away).max() <= 16.5
    assert (last["x"], last["y"], last["confidence"]) == ("", "", "0.0000")  # the earlier run found nothing
    resolved = yaml.safe_load((project.out / "config.yaml").read_text())
    assert resolved["sampler"]["patch"]["centres"] == str(project.folder / "centres.csv")


def test_without_predictions_the_run_says_that_it_starts_from_the_annotations(project, capsys):
    on_patches(project, PATCH | NATIVE, "patch_centred")
    assert project.train() == 0
    error = capsys.readouterr().err
    assert "warning: without sampler.patch.centres patches are cut around the annotations" in error
    image = project.folder / project.annotations["testing"][0]["image"]
    assert project.lannunet("predict", project.out, image, "-o", project.folder / "new") == 2
    error = capsys.readouterr().err
    assert "was trained on patches around the predictions of another model" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-2], 'sampler.patch.centres: the file has no sample "testing7"'),
        (lambda rows: rows[2:], 'sampler.patch.centres: the file has no sample "training0"'),
        (lambda rows: [r for r in rows if ",1," not in r], "has no landmark '1'; it has 0"),
        (lambda rows: rows[:-1], "landmark '1' of 'testing7' is missing"),
        (
            lambda rows: [*rows[:-1], "testing7,1,900,20"],
            "a patch around landmark '1' of sample \"testing7\" at (900, 20) shows nothing of its image of "
            "64×64 pixels",
        ),
        (lambda rows: [*rows[:-1], "testing7,1,far,20"], "'far' is not a number"),
    ],
)
def test_what_is_wrong_with_a_file_of_coordinates(project, refused, change, message):
    assert message in refused(write_centres(project, change))


def test_a_file_of_coordinates_that_is_not_there(project, refused):
    write_centres(project)
    (project.folder / "centres.csv").unlink()
    assert "centres.csv: there is no such file" in refused(project)
