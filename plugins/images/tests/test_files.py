import os

import numpy as np
import pytest
from lannunet_images import IMAGE_FILES
from PIL import Image as pillow

from lannunet_core.errors import UserError
from lannunet_core.images.reader import image_format
from tests.fixtures.images import dicom

GREY = np.arange(20, dtype=np.uint16).reshape(4, 5)


def test_what_of_a_folder_is_an_image(tmp_path):
    for name in ("IM0001", "1.2.840.113619.2.5", "scan.dcm", "DICOMDIR"):
        (tmp_path / name).write_bytes(dicom(GREY))
    for name in ("x.png", "y.PNG"):
        pillow.fromarray(GREY.astype(np.uint8)).save(tmp_path / name)
    for name in ("._x.png", "._IM0001"):
        (tmp_path / name).write_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X        " + bytes(100))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.123").mkdir()
    found = sorted(path.name for path in tmp_path.iterdir() if IMAGE_FILES.knows(path))
    assert found == ["1.2.840.113619.2.5", "IM0001", "scan.dcm", "x.png", "y.PNG"]
    np.testing.assert_array_equal(IMAGE_FILES.read(tmp_path / "IM0001", 2).pixels[0], GREY)
    with pytest.raises(UserError, match=r"\._x\.png: is metadata of macOS about another file"):
        IMAGE_FILES.read(tmp_path / "._x.png", 2)


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "image.png")
    for path in (tmp_path / "image.png", tmp_path):
        with pytest.raises(UserError, match="is a folder or a device, not an image file"):
            image_format(path)
