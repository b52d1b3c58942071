import numpy as np
import pytest

from lannunet_core.errors import UserError
from lannunet_core.images.reader import image_header, image_placement, read_image, series_of
from tests.fixtures.images import dicom

GREY = np.arange(10 * 13, dtype=np.uint16).reshape(10, 13)
KINDS = {
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "IO": "1.2.840.10008.5.1.4.1.1.1.3",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "XA": "1.2.840.10008.5.1.4.1.1.12.1",
    "RF": "1.2.840.10008.5.1.4.1.1.12.2",
    "SC": "1.2.840.10008.5.1.4.1.1.7",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "NM": "1.2.840.10008.5.1.4.1.1.20",
}
PIXEL, IMAGER, SCANNED = (
    {"t0028_0030": "0.1\\0.3"},
    {"t0018_1164": "0.2\\0.4"},
    {"t0018_2010": "0.5\\0.6"},
)
MAGNIFIED = {"t0018_1114": "1.25"}
SPACINGS = [  # the tags (rows, columns), and what they mean (x, y)
    (PIXEL, (0.3, 0.1)),
    (IMAGER, (0.4, 0.2)),
    (SCANNED, (0.6, 0.5)),
    (PIXEL | IMAGER | MAGNIFIED, (0.3, 0.1)),
    (IMAGER | MAGNIFIED, (0.32, 0.16)),
    (IMAGER | SCANNED, (0.4, 0.2)),
    ({"t0028_0030": "-0.1\\-0.3"}, (0.3, 0.1)),
    ({"t0028_0030": "1\\1"}, (1, 1)),
    ({}, None),
    ({"t0028_0034": "4\\3"}, None),  # the shape of a pixel is no length
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_spacing_of_every_kind_of_dicom_is_what_its_tags_say(tmp_path, kind):
    path = tmp_path / "image.dcm"
    for tags, expected in SPACINGS:
        path.write_bytes(dicom(GREY, KINDS[kind], **tags))
        found = read_image(path, 2).spacing
        assert found == image_header(path, 2).spacing
        assert found == (None if expected is None else pytest.approx(expected)), (kind, tags)
        assert image_placement(path).spacing[:2] == (found or (1, 1))


def test_a_dicom_of_spacing_0_says_nothing(tmp_path):
    path = tmp_path / "image.dcm"
    path.write_bytes(dicom(GREY, t0028_0030="0\\0"))
    assert read_image(path, 2).spacing is image_header(path, 2).spacing is None
    path.write_bytes(dicom(GREY, t0028_0030="0\\0", **IMAGER))
    assert read_image(path, 2).spacing == (0.4, 0.2)
    path.write_bytes(dicom(GREY, t0028_0030="0,1\\0,3"))
    with pytest.raises(UserError, match=r"its DICOM tag \(0028,0030\) is '0,1\\\\0,3', not numbers"):
        read_image(path, 2)
    path.write_bytes(dicom(GREY, KINDS["US"], t0028_0030="0\\0"))
    with pytest.raises(UserError, match=r"image\.dcm: .*states a spacing of 0"):
        read_image(path, 2)


def test_the_pixels_are_as_they_are_stored(tmp_path):
    (tmp_path / "image").write_bytes(dicom(GREY, **PIXEL))
    np.testing.assert_array_equal(read_image(tmp_path / "image", 2).pixels[0], GREY)


SEQUENCE = (  # of undefined length, with an item of undefined length and one with
    b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff"
    b"\xfe\xff\0\xe0\xff\xff\xff\xff\x08\0\x50\x11UI\4\0001.2\0\xfe\xff\r\xe0\0\0\0\0"
    b"\xfe\xff\0\xe0\x0c\0\0\0\x08\0\x50\x11UI\4\0001.2\0"
    b"\xfe\xff\xdd\xe0\0\0\0\0"
)
ROWS = b"\x28\0\x10\0US"


def test_what_scanners_write_is_read(tmp_path):
    path = tmp_path / "image.dcm"
    content = dicom(GREY, **PIXEL)
    place = content.index(b"\x28\0\2\0US")
    kinds = {
        "nested": content[:place] + SEQUENCE + content[place:],
        "dual": b"II*\0" + content[4:],  # also a TIFF, by its first bytes
        "implicit": dicom(GREY, implicit=True, **PIXEL),  # though it says explicit
        "bare": dicom(GREY, preamble=False, **PIXEL),
    }
    for kind, changed in kinds.items():
        path.write_bytes(changed)
        image = read_image(path, 2)
        np.testing.assert_array_equal(image.pixels[0], GREY, err_msg=kind)
        assert image.spacing == (0.3, 0.1)


@pytest.mark.parametrize("change", ["pixels", "tag", "fragment", "kind"])
def test_an_element_longer_than_the_file_takes_no_memory(tmp_path, monkeypatch, change):
    content = dicom(GREY)
    place = content.index(b"\x28\0\2\0US")
    changed = {
        "pixels": content.replace(b"OW\0\0\4\1\0\0", b"OW\0\0\xff\xff\xff\x7f"),
        "tag": content[:place] + b"\x28\0\1\0UN\0\0\xff\xff\xff\x7f1.23" + content[place:],
        "fragment": content.replace(
            b"OW\0\0\4\1\0\0", b"OW\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\x7f"
        ),
        "kind": content.replace(ROWS, ROWS[:4] + b"\1\2"),
    }[change]
    assert changed != content
    path = tmp_path / "image.dcm"
    path.write_bytes(changed)
    with pytest.raises(
        UserError, match=r"image\.dcm: .*(an element claims 2147483647 of|no DICOM element follows)"
    ):
        read_image(path, 2)
    monkeypatch.setattr("SimpleITK.ImageFileReader.ReadImageInformation", lambda _: pytest.fail("took it"))
    assert series_of(path) == ""
