import gzip
import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image as pillow

from lannunet_core.errors import UserError
from lannunet_core.images.reader import image_header, read_image
from tests.fixtures.images import dicom, metaimage, nifti, tiff

SMALL = np.arange(64, dtype=np.uint16).reshape(8, 8)


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")


def picture(suffix):
    file = io.BytesIO()
    pillow.fromarray(SMALL.astype(np.uint8)).save(file, suffix)
    return file.getvalue()


def large_nifti(content):
    return content[:42] + struct.pack("<hh", 30000, 30000) + content[46:]


def large_npy():
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": (30000, 30000)}
    )
    return file.getvalue() + bytes(64)


def large_npz():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("image.npy", large_npy())
    return file.getvalue()


def large_nrrd(encoding="raw"):
    head = (
        f"NRRD0004\ntype: uint16\ndimension: 2\nsizes: 30000 30000\nendian: little\nencoding: {encoding}\n\n"
    )
    data = SMALL.tobytes()
    return head.encode() + (gzip.compress(data) if encoding == "gzip" else data)


def large_tiff(compression=1):
    return tiff([SMALL[None]], compression=compression, tags={256: 30000, 257: 30000, 278: 30000})


# Each claims 30,000 × 30,000 pixels and holds next to none.
LIES = {
    "image.png": lambda: png(30000, 30000),
    "image.jpg": lambda: picture("JPEG").replace(b"\0\x0b\x08\0\x08\0\x08", b"\0\x0b\x08\x75\x30\x75\x30"),
    "image.bmp": lambda: picture("BMP")[:18] + struct.pack("<ii", 30000, 30000) + picture("BMP")[26:],
    "image.tif": large_tiff,
    "zipped.tif": lambda: large_tiff(8),
    "image.dcm": lambda: dicom(SMALL).replace(struct.pack("<H", 2) + struct.pack("<H", 8), b"\2\0\x30\x75"),
    "image.nii": lambda: large_nifti(nifti(SMALL)),
    "image.nii.gz": lambda: gzip.compress(large_nifti(nifti(SMALL))),
    "image.mha": lambda: metaimage(SMALL, DimSize="30000 30000"),
    "zipped.mha": lambda: metaimage(SMALL, compressed=True, DimSize="30000 30000"),
    "image.nrrd": large_nrrd,
    "zipped.nrrd": lambda: large_nrrd("gzip"),
    "image.npy": large_npy,
    "image.npz": large_npz,
}


@pytest.mark.parametrize("name", LIES)
def test_a_header_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(LIES[name]())
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"{name}: .*its header claims .*30000.*Copy or convert"):
            read_image(path, 2)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["image.png", "image.nii.gz", "image.npy", "image.mha", "image.tif"])
def test_the_limit_of_pixels_says_what_to_set(tmp_path, monkeypatch, name):
    write = {
        "image.png": lambda: picture("PNG"),
        "image.nii.gz": lambda: gzip.compress(nifti(SMALL)),
        "image.npy": lambda: np.save(path, SMALL) or path.read_bytes(),
        "image.mha": lambda: metaimage(SMALL),
        "image.tif": lambda: tiff([SMALL[None]]),
    }
    path = tmp_path / name
    path.write_bytes(write[name]())
    monkeypatch.setenv("LANNUNET_MAX_PIXELS", "63")
    for read in (read_image, image_header):
        with pytest.raises(UserError, match=rf"{name}: claims .*environment variable LANNUNET_MAX_PIXELS"):
            read(path, 2)
    monkeypatch.setenv("LANNUNET_MAX_PIXELS", "64")
    np.testing.assert_array_equal(read_image(path, 2).pixels[0], SMALL)
    monkeypatch.setenv("LANNUNET_MAX_PIXELS", "many")
    with pytest.raises(UserError, match="LANNUNET_MAX_PIXELS should be a whole number"):
        read_image(path, 2)


def test_messages_repeat_neither_advice_nor_colours_of_libraries(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    long = io.BytesIO()
    np.lib.format.write_array(long, np.zeros(2, [(f"field{n}", "f4") for n in range(2000)]))
    (tmp_path / "long.npy").write_bytes(long.getvalue())
    (tmp_path / "red.mha").write_bytes(metaimage(SMALL, ElementSpacing="\x1b[31mred\x1b[0m 1"))
    for name in ("objects.npy", "long.npy", "red.mha"):
        with pytest.raises(UserError, match=rf"{name}: ") as refused:
            read_image(tmp_path / name, 2)
        message = str(refused.value)
        assert "allow_pickle" not in message and "trust" not in message and "[31m" not in message
        assert message.isprintable()
