"""Where voxels lie, and how many dimensions there are."""

import numpy as np
import pytest
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.data.headers import case_geometry

from tests.fixtures.nnunet import (
    OBLIQUE,
    ORIGIN,
    SIZE,
    SPACING,
    image_values,
    label_values,
    raw,
    read_everything,
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
