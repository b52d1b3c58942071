import struct
import zlib

import numpy as np
import pytest
from PIL import Image as pillow

from lannunet_core.images.reader import image_header, read_image

UPRIGHT = np.zeros((24, 16), np.uint8)
UPRIGHT[2:6, 10:14] = 255  # a mark in one corner
STORED = {  # how each orientation of EXIF stores a picture that is seen as UPRIGHT
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


def save(path, array, orientation, late=False):
    exif = pillow.Exif()
    exif[274] = orientation
    if not late:
        pillow.fromarray(np.ascontiguousarray(array)).save(path, exif=exif, quality=100)
        return
    pillow.fromarray(np.ascontiguousarray(array)).save(path)
    content, chunk = path.read_bytes(), b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    end = content.rindex(b"IEND") - 4
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content[:end] + chunk + content[end:])


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("suffix", "kind", "late"),
    [(".jpg", "u1", False), (".png", "u1", False), (".png", "u1", True), (".png", "u2", False)],
)
def test_a_picture_is_read_as_it_is_seen(tmp_path, orientation, suffix, kind, late):
    path = tmp_path / f"photograph{suffix}"
    save(path, STORED[orientation].astype(kind), orientation, late)
    pixels = read_image(path, 2).pixels
    assert pixels.dtype == kind
    assert image_header(path, 2).size == pixels.shape[:0:-1] == (16, 24)
    np.testing.assert_array_equal(pixels[0] > 127, UPRIGHT > 0)


def test_a_damaged_exif_leaves_the_picture_as_it_is(tmp_path):
    path = tmp_path / "photograph.jpg"
    for exif in (b"Exif\0\0MM", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0\0\0\0\0"):
        pillow.fromarray(UPRIGHT).save(path, exif=exif, quality=100)
        assert image_header(path, 2).size == (16, 24)
        np.testing.assert_array_equal(read_image(path, 2).pixels[0] > 127, UPRIGHT > 0)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_one_bit_is_0_or_1(tmp_path, suffix):
    path = tmp_path / f"mask{suffix}"
    pillow.fromarray(UPRIGHT > 0).save(path)
    pixels = read_image(path, 2).pixels
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[0], UPRIGHT > 0)


def test_a_large_picture_is_read_stripe_by_stripe(tmp_path, monkeypatch):
    monkeypatch.setattr("lannunet_images.pictures.STRIPE", 50)
    colours = np.random.default_rng(0).integers(0, 256, (24, 16, 4), dtype=np.uint8)
    pillow.fromarray(colours).save(tmp_path / "image.png")
    np.testing.assert_array_equal(
        read_image(tmp_path / "image.png", 2).pixels, np.moveaxis(colours[..., :3], -1, 0)
    )
