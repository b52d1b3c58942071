import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from lannunet_core.errors import UserError
from lannunet_core.images.reader import image_header, image_placement, read_image
from tests.fixtures.images import nifti

VOLUME = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
SHEARED = [[0.5, 0.05, 0, 5], [0, 0.6, 0.1, 6], [0, 0, 2.5, 7]]


@pytest.mark.parametrize(("qform", "sform"), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 4)])
def test_voxels_lie_where_simpleitk_has_them(tmp_path, qform, sform):
    path = tmp_path / "image.nii"
    rows = [[0, -2, 0, 5], [1.2, 0, 1.6, 6], [1.6, 0, -1.2, 7]] @ np.diag([1, 1, 2, 1.0])
    rows[:, 0] *= 1.5 / 2
    path.write_bytes(nifti(VOLUME, (1.5, 2, 4), rows, sform, qform, (0.5, -0.5, 0.5), offset=3))
    expected, found = sitk.ReadImage(str(path)), image_placement(path)
    np.testing.assert_allclose(found.spacing, expected.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(found.origin, expected.GetOrigin(), atol=1e-6)
    np.testing.assert_allclose(found.direction.ravel(), expected.GetDirection(), atol=1e-6)
    assert image_header(path, 3).spacing == found.spacing == read_image(path, 3).spacing
    assert image_header(path, 3).placement.origin == found.origin


def test_a_sheared_file_is_read_with_the_spacing_of_its_matrix(tmp_path):
    path = tmp_path / "sheared.nii.gz"
    path.write_bytes(gzip.compress(nifti(VOLUME, (0.5, 0.6, 2.5), SHEARED)))
    columns = np.array(SHEARED)[:, :3]
    image, placement = read_image(path, 3), image_placement(path)
    np.testing.assert_array_equal(image.pixels[0], VOLUME)
    np.testing.assert_allclose(image.spacing, np.linalg.norm(columns, axis=0), rtol=1e-6)
    assert placement.spacing == image.spacing == image_header(path, 3).spacing
    shear = np.diag([-1, -1, 1]) @ columns  # to x to the left and y to the back
    np.testing.assert_allclose(placement.direction * placement.spacing, shear, atol=1e-6)
    np.testing.assert_allclose(placement.origin, (-5, -6, 7))


@pytest.mark.parametrize("qform", [0, 1])
def test_a_negative_spacing_is_a_length_and_0_is_unknown(tmp_path, qform):
    path = tmp_path / "image.nii"
    path.write_bytes(nifti(VOLUME, (-0.5, 0.75, -2.5), qform=qform))
    assert read_image(path, 3).spacing == image_header(path, 3).spacing == (0.5, 0.75, 2.5)
    expected = sitk.ReadImage(str(path))
    np.testing.assert_allclose(image_placement(path).direction.ravel(), expected.GetDirection(), atol=1e-6)
    for pixdim in ((0, 0, 0), (0.5, 0.5, 0), (0.5, np.nan, 2)):
        path.write_bytes(nifti(VOLUME, pixdim, qform=qform))
        assert read_image(path, 3).spacing is image_header(path, 3).spacing is None
    path.write_bytes(nifti(VOLUME, (0, 0, 0), SHEARED))
    np.testing.assert_allclose(read_image(path, 3).spacing, np.linalg.norm(SHEARED, axis=0)[:3], rtol=1e-6)


def test_lengths_in_other_units_become_mm(tmp_path):
    path = tmp_path / "image.nii"
    for units, factor in ((1, 1000), (2, 1), (3, 0.001), (0, 1)):
        path.write_bytes(nifti(VOLUME, (0.5, 0.75, 2.5), units=units))
        np.testing.assert_allclose(read_image(path, 3).spacing, np.array([0.5, 0.75, 2.5]) * factor)


def test_nan_stays(tmp_path):
    values = VOLUME.astype(np.float32)
    values[1, 2, 3], values[0, 0, 0] = np.nan, np.inf
    path = tmp_path / "image.nii"
    path.write_bytes(nifti(values))
    np.testing.assert_array_equal(read_image(path, 3).pixels[0], values)


def test_numbers_are_scaled_where_the_header_says_so(tmp_path):
    path = tmp_path / "image.nii"
    path.write_bytes(nifti(VOLUME, scale=(0.5, -3)))
    np.testing.assert_array_equal(read_image(path, 3).pixels[0], VOLUME * 0.5 - 3)
    path.write_bytes(nifti(VOLUME, scale=(0, 7)))  # no scale
    assert read_image(path, 3).pixels.dtype == np.int16


def test_pixels_follow_the_header_where_it_does_not_say(tmp_path):
    content = bytearray(nifti(VOLUME))
    content[108:112] = bytes(4)
    (tmp_path / "image.nii").write_bytes(content)
    np.testing.assert_array_equal(read_image(tmp_path / "image.nii", 3).pixels[0], VOLUME)


def test_numbers_of_no_grey_value_are_refused(tmp_path):
    content = bytearray(nifti(VOLUME))
    content[70] = 32  # complex
    (tmp_path / "image.nii").write_bytes(content)
    with pytest.raises(UserError, match="numbers of type 32"):
        read_image(tmp_path / "image.nii", 3)
