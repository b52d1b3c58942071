import numpy as np
import pytest

from lannunet_core.errors import UserError
from lannunet_core.images.reader import image_header, image_placement, read_image

GREY = np.arange(10 * 13, dtype=np.uint16).reshape(10, 13)


def test_a_nrrd_of_negative_spacing(tmp_path):
    path = tmp_path / "image.nrrd"
    head = "NRRD0004\ntype: uint16\ndimension: 2\nsizes: 13 10\nendian: little\nencoding: raw\n"
    for field in ("spacings: -0.5 0.75", "space dimension: 2\nspace directions: (-0.5,0) (0,0.75)"):
        path.write_bytes(f"{head}{field}\n\n".encode() + GREY.astype("<u2").tobytes())
        assert read_image(path, 2).spacing == image_header(path, 2).spacing == (0.5, 0.75)
        np.testing.assert_array_equal(image_placement(path).direction, np.diag([-1, 1]))
    path.write_bytes(f"{head}spacings: nan nan\n\n".encode() + GREY.astype("<u2").tobytes())
    assert read_image(path, 2).spacing is None
    path.write_bytes(f"{head}spacings: 0 0.75\n\n".encode() + GREY.astype("<u2").tobytes())
    with pytest.raises(UserError, match=r"image\.nrrd: .*spacing \(0\) invalid"):
        read_image(path, 2)


def test_the_axis_of_channels_has_no_spacing(tmp_path):
    path = tmp_path / "image.nrrd"
    head = (
        "NRRD0004\ntype: uint16\ndimension: 3\nsizes: 2 13 10\nkinds: vector domain domain\nendian: little\n"
    )
    colours = np.stack([GREY, GREY + 1], -1)
    path.write_bytes(
        f"{head}encoding: raw\nspacings: nan 0.5 0.75\n\n".encode() + colours.astype("<u2").tobytes()
    )
    assert read_image(path, 2).spacing == (0.5, 0.75)
    np.testing.assert_array_equal(read_image(path, 2).pixels, np.moveaxis(colours, -1, 0))
