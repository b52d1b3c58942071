"""Reading and writing labels, against SimpleITK."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings, strategies as st
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.headers import case_geometry, file_geometry
from lannunet_segmentation.data.label_files import label_ending, read_label, write_label
from lannunet_segmentation.data.loose import loose_cases
from lannunet_segmentation.types import IGNORE, Case, Geometry
from PIL import Image
from scipy.spatial.transform import Rotation

from lannunet_core import RunFailed
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
    (case,) = loose_cases([folder / f"image{ending}"], 1, 3)
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


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("shear", [1e-4, 0.02, 0.2])
def test_a_label_is_sheared_as_its_image(tmp_path, ending, shear):
    """SimpleITK refuses to read such a NIfTI file, and would write another."""
    axes = np.reshape(OBLIQUE, (3, 3)) @ [[1, shear, 0], [0, 1, shear], [0, 0, 1]]
    axes /= np.linalg.norm(axes, axis=0)
    geometry = Geometry(SIZE, SPACING, ORIGIN, tuple(axes.ravel().tolist()), 3)
    label = label_values(SIZE[::-1]).astype(np.int16)
    write_label(tmp_path / f"x{ending}", label, geometry)
    found = file_geometry(tmp_path / f"x{ending}", 3)
    np.testing.assert_allclose(found.direction, geometry.direction, atol=1e-6)
    np.testing.assert_allclose((*found.spacing, *found.origin), (*SPACING, *ORIGIN), rtol=1e-6)


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


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".tif", ".bmp"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch, ending):
    """The library truncates or skips the file without an error."""
    size = SIZE if ending[1] in "nm" and ending != ".png" else SIZE[:2]
    dimensions = len(size)
    geometry = Geometry(
        size, SPACING[:dimensions], (0.0,) * dimensions, tuple(np.eye(dimensions).ravel()), dimensions
    )
    label = label_values(size[::-1]).astype(np.int16)
    whole = sitk.WriteImage
    for kept in (0.0, 0.5, 0.95):

        def write_less(image, path, kept=kept, **more):
            whole(image, path, **more)
            content = Path(path).read_bytes()
            Path(path).write_bytes(content[: int(kept * len(content))])

        monkeypatch.setattr(sitk, "WriteImage", write_less)
        with pytest.raises(RunFailed, match=rf"label{ending}: .* Is the disk full\?"):
            write_label(tmp_path / f"label{ending}", label, geometry)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "dimensions", "written"),
    [
        ("x.nii.gz", 3, ".nii.gz"),
        ("x.NII.GZ", 3, ".nii.gz"),
        ("x.MHA", 3, ".mha"),
        ("x.mhd", 3, ".nii.gz"),
        ("x.tif", 3, ".nii.gz"),
        ("x.npy", 3, ".nii.gz"),
        ("x.dcm", 2, ".nii.gz"),
        ("1.2.840.1", 2, ".nii.gz"),
        ("x.tif", 2, ".tif"),
        ("x.jpg", 2, ".png"),
        ("x.JPEG", 2, ".png"),
        ("x.bmp", 2, ".bmp"),
        ("x.vox", 3, ".nii.gz"),
    ],
)
def test_every_image_has_a_format_that_holds_its_labels(tmp_path, name, dimensions, written):
    dataset = replace(read_dataset(raw(tmp_path, count=1)), dimensions=dimensions)
    assert label_ending(Case("x", (tmp_path / name,), None), dataset) == written


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_what_is_no_number_is_no_label(tmp_path, ending, kind, wrong):
    """The value is refused; other readers convert it to background."""
    folder = raw(tmp_path, count=1, ending=ending)
    path = folder / f"labelsTr/case_0{ending}"
    label = label_values(SIZE[::-1]).astype(kind)
    write(path, label)
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.label, label)
    label[1, 2, 3] = wrong
    write(path, label)
    refused(path, "no integer", call=lambda: read_everything(folder))


@pytest.mark.parametrize(
    ("ending", "bits", "mode"),
    [
        (".png", 1, "1"),
        (".tif", 1, "1"),
        (".bmp", 1, "1"),
        (".png", 2, "P"),
        (".tif", 8, "P"),
        (".bmp", 8, "P"),
    ],
)
def test_labels_are_what_a_picture_stores_not_what_it_shows(tmp_path, ending, bits, mode):
    folder = raw(tmp_path, count=1, ending=ending, shape=(4, 5))
    label = label_values((4, 5)) % 2
    picture = Image.fromarray(label > 0) if mode == "1" else Image.fromarray(label).convert("P")
    if mode == "P":
        picture.putdata(label.ravel().tolist())
        picture.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    picture.save(folder / f"labelsTr/case_0{ending}", **({"bits": bits} if bits == 2 else {}))
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.label, label)


def test_grey_of_few_bits_counts_from_zero(tmp_path):
    folder = raw(tmp_path, count=1, ending=".png", shape=(4, 8))
    label = label_values((4, 8))
    rows = b"".join(b"\0" + bytes(_packed(row)) for row in label)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 4, 2, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (folder / "labelsTr/case_0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    (read,) = read_everything(folder)
    np.testing.assert_array_equal(read.label, label)


def _packed(row):
    """Four numbers of two bits a byte."""
    return (row.reshape(-1, 4) << [6, 4, 2, 0]).sum(1).tolist()


def test_a_volume_is_no_picture(tmp_path):
    label, geometry = np.zeros(SIZE[::-1], np.int16), Geometry(SIZE, SPACING, ORIGIN, OBLIQUE, 3)
    for name in ("label.png", "label.jpg", "label"):
        refused(name, ".nii.gz", call=lambda n=name: write_label(tmp_path / n, label, geometry))
