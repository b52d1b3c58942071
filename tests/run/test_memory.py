"""Whole runs with an allocator that refuses: training ends with one sentence, prediction continues."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from lannunet_core import BEST_MODEL, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("without_charts")

REFUSING = '''
import os

from lannunet_core import Plugin, hookimpl


class Refusing(Plugin):
    """Its network has memory for this many numbers of an image."""

    @hookimpl(wrapper=True)
    def network(self):
        import torch

        network = yield

        def refuse(module, images):
            if images[0].numel() > int(os.environ.get("NUMBERS", 10**9)):
                if "ON_CPU" in os.environ:
                    raise RuntimeError("DefaultCPUAllocator: you tried to allocate 4398046511104 bytes.")
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        network.register_forward_pre_hook(refuse)
        return network


class Plain(Plugin):
    """Sees eight pixels, and normalises over nothing."""

    @hookimpl
    def network(self):
        from torch import nn

        last = nn.Conv2d(8, len(self.run.outputs), 9, padding=4)
        return nn.Sequential(nn.Conv2d(1, 8, 9, padding=4), nn.ReLU(), last)


class Greedy(Plugin):
    """Its own part of the step is what takes the memory."""

    @hookimpl
    def training_step(self, step):
        import torch

        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
'''


@pytest.fixture(autouse=True)
def refusing(distribution):
    names = {"refusing": "refusing:Refusing", "greedy": "refusing:Greedy", "plain": "refusing:Plain"}
    distribution("refusing", names, {"refusing.py": REFUSING})


KEYS = ("solver.data_loader_batch_size_train (2)", "solver.accumulate (1)")


@pytest.mark.parametrize("how", ["step", "trial", "one image", "hook", "on the CPU"])
def test_training_ends_with_one_sentence(project, monkeypatch, capsys, how):
    project.set(trainer={"plugins": ["greedy" if how == "hook" else "refusing"]})
    if how != "hook":
        monkeypatch.setenv("NUMBERS", "1000" if how == "one image" else "1500")
    if how == "trial":
        project.set(sampler={"num_workers": "auto"})
    if how == "on the CPU":
        monkeypatch.setenv("ON_CPU", "yes")
    assert project.train() == 1
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if not line.startswith("warning")]
    assert line.startswith("Error: There is not enough memory to train: lower ")
    assert all(key in line for key in (*KEYS, "sampler.input_size ([32, 32])"))
    assert not (project.out / "checkpoints" / "best.safetensors").exists()


def test_training_of_segmentation_names_its_keys(segmentation, monkeypatch, capsys):
    monkeypatch.setenv("NUMBERS", "5000")
    segmentation.set(trainer={"plugins": ["refusing"]}, solver={"data_loader_batch_size_train": 2})
    assert segmentation.train() == 1
    error = capsys.readouterr().err
    assert all(key in error for key in (*KEYS, "sampler.patch.sample_patch_size ([16, 16, 16])"))


def test_landmarks_are_predicted_with_less(make_project, monkeypatch, capsys):
    """All images at once, two at a time, one at a time, and windows of one image."""
    project = make_project(sizes=[(64, 64)], input_size=[64, 64])
    del project.config["model"]["unet"]
    project.set(
        trainer={"plugins": ["refusing"]},
        solver={"max_epochs": 1, "data_loader_batch_size_eval": 8},
        model={"architecture": "plain"},
    )
    assert project.train() == 0
    found = {}
    said = {
        10**9: None,
        8192: "2 at a time from here on, not 8",
        4096: "1 at a time from here on, not 8",
        2048: "windows of 32×64, not of 64×64",
    }
    for numbers in said:
        monkeypatch.setenv("NUMBERS", str(numbers))
        folder = project.folder / str(numbers)
        capsys.readouterr()
        assert project.lannunet("predict", project.out, project.folder / "images", "-o", folder) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if "memory is" in line]
        assert lines == ([f"memory is short: {said[numbers]}"] if said[numbers] else [])
        rows = project.rows(folder)
        found[numbers] = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    for numbers in (8192, 4096, 2048):
        assert np.abs(found[numbers] - found[10**9]).max() <= 1e-3  # the last digit of the table


def test_segmentation_is_predicted_with_less(segmentation_project, monkeypatch, capsys):
    """Fewer patches per batch change nothing; smaller patches give the result of a model with that size."""
    project = segmentation_project(size=(80, 48), ending=".png", patch=[64, 64])
    solver = {"max_epochs": 1, "mini_batch_size": 8, "base_lr": 0.01, "data_loader_batch_size_eval": 4}
    project.set(trainer={"plugins": ["refusing"]}, solver={"data_loader_batch_size_train": 4, **solver})
    project.set(model={"unet": {"strides": [[2, 2], [2, 2]]}})
    assert project.train() == 0
    trained = load_checkpoint(project.out / BEST_MODEL)
    sampler = {**trained.config["sampler"], "patch": {"sample_patch_size": [32, 64]}}
    smaller = replace(
        trained,
        config={**trained.config, "sampler": sampler},
        run={**trained.run, "input_size": [32, 64]},
    )
    save_checkpoint(project.folder / "smaller.safetensors", smaller)
    said = {
        10**9: [],
        4096: ["memory is short: 1 at a time from here on, not 4"],
        2048: ["memory is short: windows of 32×64, not of 64×64"],
    }

    def predict(model, name):
        folder = project.folder / name
        capsys.readouterr()
        assert project.lannunet("predict", model, project.raw / "imagesTs", "-o", folder) == 0
        files = sorted(folder.glob("*.png"))
        return np.stack([sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files])

    of_smaller, found = predict(project.folder / "smaller.safetensors", "smaller"), {}
    for numbers, lines in said.items():
        monkeypatch.setenv("NUMBERS", str(numbers))
        found[numbers] = predict(project.out, str(numbers))
        assert [line for line in capsys.readouterr().out.splitlines() if "memory is" in line] == lines
    assert len(np.unique(found[10**9])) > 1
    assert np.array_equal(found[4096], found[10**9])
    assert np.array_equal(found[2048], of_smaller) and not np.array_equal(of_smaller, found[10**9])
