import numpy as np
import pytest
import SimpleITK as sitk

from lannunet_core.errors import UserError
from lannunet_core.images.reader import image_header, image_placement, read_image
from tests.fixtures.images import metaimage

VOLUME = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


def test_voxels_lie_where_simpleitk_has_them(tmp_path):
    path = tmp_path / "image.mha"
    image = sitk.GetImageFromArray(VOLUME)
    image.SetSpacing((0.5, 0.6, 2))
    image.SetOrigin((1, 2, 3))
    image.SetDirection((0, -1, 0, 0.6, 0, 0.8, -0.8, 0, 0.6))
    sitk.WriteImage(image, str(path), True)
    found = image_placement(path)
    assert (found.spacing, found.origin) == (image.GetSpacing(), image.GetOrigin())
    np.testing.assert_allclose(found.direction.ravel(), image.GetDirection())
    np.testing.assert_array_equal(read_image(path, 3).pixels[0], VOLUME)


def test_a_negative_spacing_is_a_length_and_0_is_unknown(tmp_path):
    path = tmp_path / "image.mha"
    path.write_bytes(metaimage(VOLUME, ElementSpacing="-0.5 0.75 2"))
    assert read_image(path, 3).spacing == image_header(path, 3).spacing == (0.5, 0.75, 2)
    np.testing.assert_array_equal(read_image(path, 3).pixels[0], VOLUME)
    direction = sitk.ReadImage(str(path)).GetDirection()
    np.testing.assert_array_equal(image_placement(path).direction.ravel(), direction)
    for spacing in ("0 0.75 2", "nan 1 1"):
        path.write_bytes(metaimage(VOLUME, ElementSpacing=spacing))
        assert read_image(path, 3).spacing is image_header(path, 3).spacing is None


def test_slices_in_files_of_their_own(tmp_path):
    for number, plane in enumerate(VOLUME):
        (tmp_path / f"slice{number + 1}.raw").write_bytes(b"head" + plane.astype("<i2").tobytes())
    head = metaimage(VOLUME, HeaderSize=4)[: -VOLUME.nbytes].decode().removesuffix("LOCAL\n")
    names = "".join(f"slice{number}.raw\n" for number in (1, 2, 3))
    (tmp_path / "list.mhd").write_text(f"{head}LIST\n{names}")
    (tmp_path / "pattern.mhd").write_text(f"{head}slice%d.raw 1 3 1\n")
    (tmp_path / "end.mhd").write_text(f"{head.replace('HeaderSize = 4', 'HeaderSize = -1')}LIST\n{names}")
    for name in ("list.mhd", "pattern.mhd", "end.mhd"):
        np.testing.assert_array_equal(read_image(tmp_path / name, 3).pixels[0], VOLUME)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"DimSize": "5 4"}, "NDims is 3, DimSize 5 4"),
        ({"ElementSpacing": "1 1"}, "ElementSpacing has 2 numbers, should have 3"),
        ({"BinaryData": "False"}, "BinaryData false"),
        ({"DimSize": "5 4 -3"}, r"is empty: 5×4×-3 pixels"),
    ],
)
def test_a_wrong_header_is_told(tmp_path, fields, message):
    (tmp_path / "image.mha").write_bytes(metaimage(VOLUME, **fields))
    with pytest.raises(UserError, match=rf"image\.mha: .*{message}"):
        read_image(tmp_path / "image.mha", 3)
