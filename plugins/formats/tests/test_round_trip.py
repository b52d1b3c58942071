"""Writing and reading a format keeps positions: to 1e-6 pixels, for blobs to half a voxel."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from lannunet_landmarks import load_dataset
from lannunet_landmarks.data.annotations import dataset_section
from lannunet_landmarks.data.exported import in_system
from lannunet_landmarks.data.formats import formats, matching

from lannunet_core import UserError, call_accepting

COUNTED = ("tps", "morphologika")  # landmarks have no names there
BY_CASE = ("slicer", "fcsv", "morphologika")  # do not contain the folder of the images
WRITTEN = {one.name: one for one in formats() if one.write and one.read}
CASES = [
    (name, dimensions, system)
    for name in WRITTEN
    for system in WRITTEN[name].systems
    for dimensions in WRITTEN[name].dimensions
    if system == "pixel" or dimensions == 3  # our 2D images have no world coordinates
]
SHARES = st.lists(st.tuples(*[st.floats(0, 1)] * 3) | st.none(), min_size=3, max_size=3)


def test_only_blobs_are_rounded():
    assert {name: of.error for name, of in WRITTEN.items() if of.error > 1e-6} == {"nnlandmark": 0.5}


@pytest.mark.parametrize(("name", "dimensions", "system"), CASES)
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(shares=st.lists(SHARES, min_size=3, max_size=3))
def test_what_is_written_is_read(name, dimensions, system, shares, pictures, volumes, annotated):
    of, folder = WRITTEN[name], pictures if dimensions == 2 else volumes
    size = np.array([60, 40] if dimensions == 2 else [20, 16, 12])
    missing = [np.nan] * 3
    points = np.array([[missing if one is None else one for one in of_image] for of_image in shares])
    points = points[..., :dimensions] * (size - 1)
    points[:, 0] = size / 3  # each image shows at least one
    if name == "nnlandmark":  # one voxel holds one landmark
        points[..., 0] = [2, 9, 16]
    before = annotated(folder, points)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        out = Path(place) / (of.file or "out")
        of.write(in_system(before, system), out)
        assert matching(out).name == name
        images = folder if name in BY_CASE else None
        after = in_system(call_accepting(of.read, path=out, images=images, y_up=None), "pixel")
    names = dict(zip(before.names, ("1", "2", "3") if name in COUNTED else before.names, strict=True))
    for one, again in zip(before.images, after.images, strict=True):
        assert again.image.resolve() == one.image.resolve()
        assert set(again.marks) == {names[key] for key in one.marks}
        for key, mark in one.marks.items():
            error = np.abs(np.subtract(again.marks[names[key]].at, mark.at)).max()
            assert error <= of.error


FLAGS = {
    "absent": lambda one: replace(one, at=None),
    "occluded": lambda one: replace(one, occluded=True),
    "confidence": lambda one: replace(one, confidence=0.25),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_a_format_holds_comes_back_and_the_rest_is_said(name, pictures, volumes, annotated, tmp_path):
    of = WRITTEN[name]
    folder = pictures if "pixel" in of.systems and 2 in of.dimensions else volumes
    start = annotated(folder, np.arange(3.0)[:, None] + np.ones((2, 3, 2 if folder == pictures else 3)) * [2])
    for flag, change in FLAGS.items():
        first = start.images[0]
        marks = {**first.marks, "tip": change(first.marks["tip"])}
        before = replace(start, images=(replace(first, marks=marks), *start.images[1:]))
        said = [line for line in of.lost(before) if flag in line]
        assert bool(said) == (flag not in of.holds)
        out = tmp_path / flag / (of.file or "out")
        out.parent.mkdir()
        of.write(in_system(before, of.systems[0]), out)
        images = folder if name in BY_CASE else None
        again = call_accepting(of.read, path=out, images=images, y_up=None).images[0].marks
        if flag in of.holds - {"confidence"}:
            mark = again["tip"]
            assert (mark.at is None, mark.occluded) == (flag == "absent", flag == "occluded")


@pytest.mark.parametrize("name", WRITTEN)
def test_a_missing_image_is_named_with_the_place(name, pictures, volumes, annotated, tmp_path):
    """One sentence, whether the reader or the data set finds the mistake."""
    of = WRITTEN[name]
    flat = "pixel" in of.systems and 2 in of.dimensions
    shutil.copytree(pictures if flat else volumes, tmp_path / "images")
    before = annotated(tmp_path / "images", np.full((6, 1, 2 if flat else 3), 5.0), ["tip"])
    out = tmp_path / (of.file or "out")
    of.write(in_system(before, of.systems[0]), out)
    before.images[2].image.unlink()
    with pytest.raises(UserError) as error:
        load_dataset(dataset_section(out, tmp_path / ("" if name == "lannunet" else "images")), -1)
    said = str(error.value)
    stem = before.images[2].id
    assert str(out) in said
    assert stem in said.replace(str(out), "", 1)
    assert "\n" not in said
