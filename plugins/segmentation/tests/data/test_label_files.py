"""Labels as they are read and written, by SimpleITK on the other side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings, strategies as st
from lannunet_segmentation.data.cases import loose_cases, read_case
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.headers import case_geometry
from lannunet_segmentation.data.label_files import read_label, write_label
from lannunet_segmentation.types import IGNORE, Geometry
from scipy.spatial.transform import Rotation

from tests.fixtures.nnunet import (
    OBLIQUE,
    ORIGIN,
    SIZE,
    SPACING,
    image_values,
    label_values,
    raw,
    read_everything,
    refused,
    write,
)


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.int64])
def test_what_nobody_annotated_is_ignored_however_it_is_written(tmp_path, kind):
    labels = {"background": 0, "organ": 1, "tumour": 2, "ignore": 3}
    folder = raw(tmp_path, count=1, labels=labels)
    stored = np.random.default_rng(1).integers(-1, 4, SIZE[::-1])
    assert set(np.unique(stored)) == {-1, 0, 1, 2, 3}
    write(folder / "labelsTr/case_0.nii.gz", stored.astype(kind))
    dataset = read_dataset(folder)
    assert dataset.class_names == ("background", "organ", "tumour")
    assert dataset.ignore == 3
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.label, np.where(stored == 3, IGNORE, stored))


def test_whole_numbers_that_scaling_has_rounded_are_labels(tmp_path):
    folder = raw(tmp_path, count=1, ending=".mha")
    write(folder / "labelsTr/case_0.mha", label_values(SIZE[::-1]) * np.float32(0.99999))
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.label, label_values(SIZE[::-1]))


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(*[st.integers(2, 6)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 5)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    mirrored=st.booleans(),
    ending=st.sampled_from([".nii.gz", ".nii", ".mha", ".nrrd"]),
)
def test_every_voxel_of_a_written_label_lies_where_the_images_voxel_does(
    tmp_path_factory, size, spacing, origin, angles, mirrored, ending
):
    folder = tmp_path_factory.mktemp("written")
    direction = Rotation.from_euler("zyx", angles, degrees=True).as_matrix()
    direction[:, 0] *= -1 if mirrored else 1
    image = write(
        folder / f"image{ending}",
        image_values(size[::-1]),
        spacing,
        origin,
        tuple(direction.ravel().tolist()),
    )
    dataset = replace(
        read_dataset(raw(folder / "data", count=1)), class_names=tuple("abc"), file_ending=ending
    )
    (case,) = loose_cases([folder / f"image{ending}"], 1, ending, 3)
    label = np.random.default_rng(0).integers(-1, 3, size[::-1]).astype(np.int16)
    write_label(folder / f"label{ending}", label, case_geometry(case, dataset))
    written = sitk.ReadImage(str(folder / f"label{ending}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), label)
    for corner in [(0, 0, 0), tuple(step - 1 for step in size), (0, size[1] - 1, 0)]:
        np.testing.assert_allclose(
            written.TransformIndexToPhysicalPoint(corner),
            image.TransformIndexToPhysicalPoint(corner),
            atol=1e-2,  # NIfTI stores 32-bit floats
        )
    np.testing.assert_array_equal(read_label(folder / f"label{ending}", dataset)[0], label)


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5)])
def test_a_2d_label_comes_back_with_as_many_axes_as_its_image(tmp_path, shape):
    folder = raw(tmp_path, shape=shape)
    dataset = read_dataset(folder)
    read = read_case(dataset.training[0], dataset)
    target = tmp_path / "written.nii.gz"
    write_label(target, read.label, read.geometry)
    image, written = (sitk.ReadImage(str(path)) for path in (dataset.training[0].images[0], target))
    assert written.GetSize() == image.GetSize() == shape[::-1]
    for of in (sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
        np.testing.assert_allclose(of(written), of(image), atol=1e-5)


@pytest.mark.parametrize(
    ("ending", "highest"), [(".png", 2), (".png", 300), (".tif", 2), (".tif", 300), (".bmp", 255)]
)
def test_pictures_hold_labels(tmp_path, ending, highest):
    folder = raw(tmp_path, ending=ending, shape=(4, 5))
    dataset = read_dataset(folder)
    geometry = case_geometry(dataset.training[0], dataset)
    label = np.zeros((4, 5), np.int16)
    label[1, 2] = highest
    write_label(tmp_path / f"written{ending}", label, geometry)
    many = replace(dataset, class_names=tuple(map(str, range(400))))
    np.testing.assert_array_equal(read_label(tmp_path / f"written{ending}", many)[0], label)
    label[0, 0] = IGNORE
    refused("−1", call=lambda: write_label(tmp_path / f"other{ending}", label, geometry))


def test_a_label_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    geometry = Geometry(SIZE, SPACING, ORIGIN, OBLIQUE, 3)
    target = tmp_path / "label.nii.gz"
    write_label(target, label_values(SIZE[::-1]).astype(np.int16), geometry)
    before = target.read_bytes()
    monkeypatch.setattr(sitk, "WriteImage", lambda image, path, **_: (Path(path).touch(), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        write_label(target, np.zeros(SIZE[::-1], np.int16), geometry)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_a_volume_is_no_picture(tmp_path):
    label, geometry = np.zeros(SIZE[::-1], np.int16), Geometry(SIZE, SPACING, ORIGIN, OBLIQUE, 3)
    for name in ("label.png", "label.jpg", "label"):
        refused(name, ".nii.gz", call=lambda n=name: write_label(tmp_path / n, label, geometry))
