"""Geometry and number of dimensions."""

import numpy as np
import pytest
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.headers import case_geometry, check_case, check_cases
from PIL import Image
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
    redeclare,
    refused,
    write,
)


def test_where_the_voxels_lie_is_read(tmp_path):
    dataset = read_dataset(raw(tmp_path))
    geometry = read_case(dataset.training[0], dataset).geometry
    assert (geometry.size, geometry.axes) == (SIZE, 3)
    np.testing.assert_allclose(geometry.spacing, SPACING, rtol=1e-6)
    np.testing.assert_allclose(geometry.origin, ORIGIN, rtol=1e-6)
    np.testing.assert_allclose(geometry.direction, OBLIQUE, atol=1e-6)
    assert case_geometry(dataset.training[0], dataset) == geometry


@pytest.mark.parametrize(
    ("ending", "shape"),
    [
        (".nii", (3, 4, 5)),
        (".mha", (3, 4, 5)),
        (".nrrd", (3, 4, 5)),
        (".nii.gz", (1, 4, 5)),
        (".nii.gz", (4, 5)),
        (".png", (4, 5)),
        (".bmp", (4, 5)),
        (".tif", (4, 5)),
    ],
)
def test_file_endings_and_dimensions(tmp_path, ending, shape):
    folder = raw(tmp_path, ending=ending, shape=shape)
    dataset = read_dataset(folder)
    flat = shape[-2:] if len(shape) == 2 or shape[0] == 1 else shape
    assert dataset.dimensions == len(flat)
    assert dataset.file_ending == ending
    for n, read in enumerate(read_everything(folder)):
        np.testing.assert_array_equal(read.pixels, image_values(flat, n)[None])
        np.testing.assert_array_equal(read.label, label_values(flat, n))
        assert (read.geometry.size, read.geometry.axes) == (flat[::-1], len(shape))


def test_one_case_of_a_single_slice_among_volumes_is_a_volume(tmp_path):
    folder = raw(tmp_path)
    write(folder / "imagesTr/case_0_0000.nii.gz", image_values((1, 4, 5)))
    write(folder / "labelsTr/case_0.nii.gz", label_values((1, 4, 5)))
    assert read_dataset(folder).dimensions == 3
    assert [read.pixels.shape for read in read_everything(folder)] == [(1, 1, 4, 5), (1, 3, 4, 5)]


IMAGE = "imagesTr/case_0_0001.nii.gz"
LABEL = "labelsTr/case_0.nii.gz"
FLIPPED = tuple((np.reshape(OBLIQUE, (3, 3)) * [-1, -1, 1]).ravel())
TURNED = tuple((np.reshape(OBLIQUE, (3, 3)) @ Rotation.from_euler("z", 40, degrees=True).as_matrix()).ravel())


@pytest.mark.parametrize("part", [IMAGE, LABEL])
@pytest.mark.parametrize("direction", [FLIPPED, TURNED], ids=["flipped", "turned"])
def test_what_points_another_way_is_refused(tmp_path, part, direction):
    folder = raw(tmp_path, channels=2)
    write(folder / part, label_values(SIZE[::-1]), direction=direction)
    refused(part, "direction", "mm apart", call=lambda: read_everything(folder))


@pytest.mark.parametrize("part", [IMAGE, LABEL])
def test_what_lies_elsewhere_is_said_with_its_distance_and_beside_the_image_refused(tmp_path, part, capsys):
    folder = raw(tmp_path, channels=2)
    dataset = read_dataset(folder)
    check_cases(dataset.training, dataset)
    write(folder / part, label_values(SIZE[::-1]), origin=(10.0, -20.0, 30.8))
    assert not capsys.readouterr().err
    check_cases(dataset.training, dataset)
    said = capsys.readouterr().err
    assert f"{part}: by the origins in their headers it lies 0.8 mm away from" in said
    assert "case_0_0000.nii.gz. Their voxels" in said
    write(folder / part, label_values(SIZE[::-1]), origin=(0.0, 0.0, 0.0))
    refused(part, "37.42 mm", "overlap", call=lambda: check_case(dataset.training[0], dataset))


def test_images_that_state_no_spacing_among_others_are_said(tmp_path, capsys):
    folder = raw(tmp_path)
    np.save(folder / "x.npy", image_values(SIZE[::-1]))
    cases = {
        name: {"images": [image], "label": "labelsTr/case_0.nii.gz"}
        for name, image in (("a", "imagesTr/case_0_0000.nii.gz"), ("b", "x.npy"))
    }
    redeclare(folder, dataset=cases)
    dataset = read_dataset(folder)
    check_cases(dataset.training, dataset)
    said = capsys.readouterr().err
    assert f"1 of 2 images, such as {folder / 'x.npy'}, do not state their spacing" in said


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_photograph_is_upright_and_so_must_its_label_be(tmp_path, orientation, capsys):
    folder = raw(tmp_path, count=1, ending=".png", shape=(4, 5))
    exif = Image.Exif()
    exif[274] = orientation
    path = folder / "imagesTr/case_0_0000.png"
    Image.open(path).save(path, exif=exif)
    dataset = read_dataset(folder)
    if orientation == 6:
        refused("size is 5×4", "4×5", "EXIF", call=lambda: check_cases(dataset.training, dataset))
        return
    check_cases(dataset.training, dataset)
    said = capsys.readouterr().err
    assert ("state an orientation (EXIF) and are read upright" in said) == (orientation != 1)


def test_what_headers_round_is_no_difference(tmp_path, capsys):
    folder = raw(tmp_path)
    turn = Rotation.from_euler("xyz", [1e-4, 1e-4, 1e-4]).as_matrix() @ np.reshape(OBLIQUE, (3, 3))
    for n in (0, 1):
        path = folder / f"labelsTr/case_{n}.nii.gz"
        write(
            path, label_values(SIZE[::-1]), np.array(SPACING) * 1.0001, np.array(ORIGIN) + 1e-3, turn.ravel()
        )
    dataset = read_dataset(folder)
    check_cases(dataset.training, dataset)
    assert not capsys.readouterr().err
