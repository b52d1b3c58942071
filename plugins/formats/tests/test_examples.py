"""Example files of DeepLabCut, Lightning Pose and SLEAP, if they are on this machine.

`LANNUNET_EXAMPLES` names a folder with clones of (parts of) DeepLabCut/DeepLabCut,
paninski-lab/lightning-pose and talmolab/sleap; they are not part of this repository.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from lannunet_landmarks.data.exchange import format_of, read_source

from lannunet_core import cli, image_header


@pytest.fixture
def example():
    """The file or folder of an example, by its name."""
    folder = os.environ.get("LANNUNET_EXAMPLES")
    if not folder:
        pytest.skip("LANNUNET_EXAMPLES names no folder with the examples of other programs")

    def find(name) -> Path:
        found = sorted(Path(folder).rglob(name))
        return found[0] if found else pytest.skip(f"{name} is not in {folder}")

    return find


def read(path, images=None):
    of = format_of(path, -1)
    return of.name, read_source(path, of, images)


@pytest.mark.parametrize(("project", "table", "count", "names"), [
    ("Reaching-Mackenzie-2018-08-30", "CollectedData_Mackenzie", 55, 5),
    ("openfield-Pranav-2018-10-30", "CollectedData_Pranav", 116, 4),
])  # fmt: skip
def test_deeplabcut(project, table, count, names, example):
    """The .csv of the project, which is read, and the .h5 next to it have the same content."""
    pytest.importorskip("h5py")
    folder = example(project)
    name, of_csv = read(folder)
    _, of_h5 = read(next(folder.rglob(f"{table}.h5")))
    assert (name, len(of_csv.images), len(of_csv.names)) == ("deeplabcut", count, names)
    assert of_h5.names == of_csv.names
    for one, again in zip(of_csv.images, of_h5.images, strict=True):
        assert (one.image, one.marks.keys()) == (again.image, again.marks.keys())
        for key, mark in one.marks.items():
            assert again.marks[key].at == pytest.approx(mark.at, abs=1e-6)


def test_lightning_pose(example):
    name, said = read(example("mirror-mouse-example"))
    assert (name, len(said.images), len(said.names)) == ("deeplabcut", 90, 17)
    assert said.images[0].marks["paw1LH_top"].at == (77.25, 36.25)
    for one in said.images:
        at = np.array([mark.at for mark in one.marks.values()])
        assert (at >= 0).all()
        assert (at <= image_header(one.image, 2).size).all()


def test_sleap(example, tmp_path):
    """Image files that were annotated on another machine, and a package with two flies in one image."""
    pytest.importorskip("h5py")
    name, said = read(example("small_robot_siv.slp"), example("robot0.jpg").parent)
    assert (name, said.names) == ("sleap", ("1",))
    assert [one.image.name for one in said.images] == ["robot0.jpg", "robot1.jpg", "robot2.jpg"]
    assert [one.marks["1"].at for one in said.images] == [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]
    with pytest.raises(Exception, match=r"minimal_instance\.slp, frame 0: has 2 instances"):
        read(example("minimal_instance.slp"), tmp_path)


def test_an_example_becomes_a_data_set(example, tmp_path):
    with pytest.raises(SystemExit) as end:
        cli.main(["import", str(example("mirror-mouse-example")), "-o", str(tmp_path / "mouse.json")])
    assert not end.value.code
    content = json.loads((tmp_path / "mouse.json").read_text())
    assert sum(len(content[split]) for split in ("training", "validation", "testing")) == 90
