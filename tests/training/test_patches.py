"""Runs that train on patches, from the command line."""

import json
import shutil

import numpy as np
import pytest
import torch

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
    assert described["run"]["input_size"] == [32, 32]  # what the network sees
    # A model finds them again in loose images.
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


def test_patches_teach(make_project):
    """On patches of images of mixed sizes, predicted patch by patch: blobs are found to a pixel."""
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
def test_a_resumed_run_is_the_same_run(make_project, mode):
    project = on_patches(make_project(sizes=MIXED), PATCH | NATIVE, mode)
    assert project.train() == 0
    whole = torch.load(project.out / "checkpoints" / "latest.pt", weights_only=True)
    rows = project.rows()
    shutil.rmtree(project.out)
    # The first epoch of the two: stopped at its end, by a run that plans for two.
    assert project.train("--set", "trainer.validate_every=2") == 0
    shutil.rmtree(project.out)
    project.set(model={"architecture": "unet"})
    assert project.train() == 0
    again = torch.load(project.out / "checkpoints" / "latest.pt", weights_only=True)
    for name, value in whole["learner"].items():
        assert torch.equal(value, again["learner"][name])
    assert project.rows() == rows
