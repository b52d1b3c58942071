"""A third-party image format, from a distribution with an entry point."""

import numpy as np
import pytest
from lannunet_images import IMAGE_FILES

from lannunet_core.errors import UserError
from lannunet_core.images import formats
from lannunet_core.images.reader import image_format, image_header, image_placement, read_image
from lannunet_core.plugins.formats import registered
from lannunet_core.plugins.installed import PluginWarning

STRANGER = """
import numpy as np

from lannunet_core import ImageFormat, Stated


def stated(path, dimensions):
    width, height = path.read_bytes()[4:6]
    return Stated((width, height), 1, (0.5, 2.0))


def pixels(path, dimensions):
    width, height, *values = path.read_bytes()[4:]
    return np.array(values, np.uint8).reshape(1, height, width)


FORMATS = [ImageFormat("Raster", (".ras",), lambda head: head.startswith(b"RAS1"), stated, pixels)]
NO_FORMATS = ["Raster"]
"""
ENTRY = "[lannunet.image_formats]\nrasters = strange_rasters:{}\n"


@pytest.fixture
def install(distribution):
    def install(value):
        distribution(
            "strange-rasters", {}, {"strange_rasters.py": STRANGER}, entry_points=ENTRY.format(value)
        )
        registered.cache_clear()

    yield install
    registered.cache_clear()


def test_a_format_of_a_stranger_is_as_good_as_ours(install, tmp_path):
    install("FORMATS")
    path = tmp_path / "x.ras"
    path.write_bytes(b"RAS1" + bytes([3, 2, 1, 2, 3, 4, 5, 6]))
    image, header = read_image(path, 2), image_header(path, 2)
    np.testing.assert_array_equal(image.pixels, [[[1, 2, 3], [4, 5, 6]]])
    assert (image.spacing, header.size, header.channels) == ((0.5, 2.0), (3, 2), 1)
    assert image_format(path) == "Raster"
    assert image_placement(path) is None
    assert IMAGE_FILES.knows(path)
    path.write_bytes(b"RAS1" + bytes([3, 2, 1, 2]))
    with pytest.raises(
        UserError, match=r"x\.ras: damaged or unusual Raster image: .*Copy or convert it again"
    ):
        read_image(path, 2)


def test_what_is_no_list_of_formats_is_named_and_left_out(install, tmp_path):
    install("NO_FORMATS")
    with pytest.warns(
        PluginWarning, match="'strange_rasters:NO_FORMATS' is not a list of lannunet_core.ImageFormat"
    ):
        known = formats.image_suffixes()
    assert ".png" in known
    assert ".ras" not in known
