"""Every input format leads to a trained model with three commands: import, plan, train."""

import json
from dataclasses import replace

import numpy as np
import pytest
from lannunet_landmarks.data.exported import in_system
from lannunet_landmarks.data.formats import formats

from lannunet_core import cli

SMALL = (
    "solver.max_epochs=1",
    "solver.mini_batch_size=1",
    "solver.data_loader_batch_size_train=2",
    "model.unet.init_features=4",
    "model.unet.max_features=8",
    "sampler.num_workers=0",
)
ON_A_PAGE = ("slicer", "labelme", "deeplabcut", "nnlandmark")  # whose commands test_pages.py runs
READ = {one.name: one for one in formats() if one.read and one.name not in ON_A_PAGE}
SPLITS = ["training", "training", "training", "training", "validation", "testing"]


def points(count, dimensions):
    grown = np.arange(count)[:, None, None] + 2 * np.arange(3)[:, None]
    return 1.25 + grown + np.zeros(dimensions)


def run(*words):
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return end.value.code or 0


@pytest.mark.parametrize("name", READ)
def test_import_plan_train(name, tmp_path, monkeypatch, pictures, volumes, annotated, write_slp, capsys):
    of = READ[name]
    flat = "pixel" in of.systems and 2 in of.dimensions
    folder = pictures if flat else volumes
    before = annotated(folder, points(6, 2 if flat else 3))
    if "splits" in of.holds:
        parts = zip(before.images, SPLITS, strict=True)
        before = replace(before, images=tuple(replace(one, split=split) for one, split in parts))
    source = tmp_path / (of.file or "source")
    if of.write is None:
        placed = [[[(*mark.at, True) for mark in one.marks.values()]] for one in before.images]
        backend = {"filename": "a0.png", "filenames": [one.image.name for one in before.images]}
        frames = [(0, n, 0, of_frame) for n, of_frame in enumerate(placed)]
        write_slp(source, before.names, [backend], frames)
    else:
        of.write(in_system(before, of.systems[0]), source)
    monkeypatch.chdir(tmp_path)
    assert run("import", source, "-o", "all.json", "--images", folder) == 0, capsys.readouterr().err
    assert run("plan", "all.json", "-o", "all.yaml", "--minutes", "1") == 0, capsys.readouterr().err
    size = f"sampler.input_size=[{', '.join(['32'] * (2 if flat else 3))}]"
    code = run("train", "all.yaml", *(word for one in (*SMALL, size) for word in ("--set", one)))
    assert code == 0, capsys.readouterr().err
    summary = json.loads((tmp_path / "runs" / "all" / "summary.json").read_text())
    assert summary["overall"]["counts"]["evaluated"] == 3  # of the one image for testing
