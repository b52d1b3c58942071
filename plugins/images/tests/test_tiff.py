import json

import numpy as np
import pytest
from PIL import Image as pillow

from lannunet_core.errors import UserError
from lannunet_core.images.reader import image_header, read_image
from tests.fixtures.images import tiff

X, Y = 21, 18


def samples(channels, kind, seed=0):
    numbers = np.random.default_rng(seed).integers(0, 120, (channels, Y, X))
    return (numbers if kind[0] != "i" else numbers - 60).astype(kind)


def check(path, expected, dimensions=2):
    pixels, header = read_image(path, dimensions).pixels, image_header(path, dimensions)
    assert pixels.dtype == expected.dtype
    np.testing.assert_array_equal(pixels, expected)
    assert (header.size, header.channels) == (expected.shape[:0:-1], len(expected))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4", "i2", "u4", "f8"])
def test_every_channel_of_every_layout_is_read(tmp_path, channels, kind):
    page = samples(channels, kind)
    ways = [
        {"planar": planar} | way
        for planar in (1, 2)
        for way in (
            {},
            {"order": ">"},
            {"tile": 16},
            {"compression": 8},
            {"compression": 8, "predictor": 3 if kind[0] == "f" else 2},
        )
    ]
    for number, way in enumerate(ways):
        path = tmp_path / f"{number}.tif"
        path.write_bytes(tiff([page], **way))
        check(path, page)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_compressions_that_libtiff_writes(tmp_path, compression):
    for number, (array, tags) in enumerate(
        [
            (samples(1, "u2")[0], {317: 2} if compression != "packbits" else {}),
            (samples(1, "f4")[0], {317: 3} if compression != "packbits" else {}),
            (np.moveaxis(samples(3, "u1"), 0, -1), {}),
        ]
    ):
        path = tmp_path / f"{number}.tif"
        pillow.fromarray(array).save(path, compression=compression, tiffinfo=tags)
        check(path, array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("kind", ["u1", "u2", "u4"])
def test_where_0_is_white_bright_means_bright(tmp_path, kind):
    page = samples(1, kind)
    path = tmp_path / "white.tif"
    for way in ({}, {"compression": 8}, {"tile": 16}):
        path.write_bytes(tiff([page], photometric=0, **way))
        check(path, np.iinfo(kind).max - page)


def test_alpha_is_dropped_and_a_further_channel_is_not(tmp_path):
    page = samples(4, "u1")
    path = tmp_path / "colours.tif"
    for extra, kept in ((0, 4), (1, 3), (2, 3)):
        path.write_bytes(tiff([page], photometric=2, tags={338: extra}))
        check(path, page[:kept])
    path.write_bytes(tiff([samples(2, "u2")], tags={338: 2}))
    check(path, samples(2, "u2")[:1])


@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_tag_turns_the_picture(tmp_path, kind, orientation):
    page = samples(1, kind)
    path = tmp_path / "turned.tif"
    path.write_bytes(tiff([page], tags={274: orientation}))
    turns = {
        2: pillow.Transpose.FLIP_LEFT_RIGHT,
        3: pillow.Transpose.ROTATE_180,
        4: pillow.Transpose.FLIP_TOP_BOTTOM,
        5: pillow.Transpose.TRANSPOSE,
        6: pillow.Transpose.ROTATE_270,
        7: pillow.Transpose.TRANSVERSE,
        8: pillow.Transpose.ROTATE_90,
    }
    shown = pillow.fromarray(page[0].astype(np.uint8))
    shown = shown.transpose(turns[orientation]) if orientation > 1 else shown
    check(path, np.asarray(shown)[None].astype(kind))


def test_pages_are_slices_and_a_thumbnail_is_none(tmp_path):
    pages = [samples(1, "u2", seed) for seed in range(4)]
    path = tmp_path / "volume.tif"
    path.write_bytes(tiff(pages))
    check(path, np.stack(pages, 1), 3)
    path.write_bytes(tiff(pages, photometric=0))
    check(path, 65535 - np.stack(pages, 1), 3)
    path.write_bytes(tiff([samples(2, "f4", seed) for seed in range(4)], planar=2))
    check(path, np.stack([samples(2, "f4", seed) for seed in range(4)], 1), 3)
    pillow.fromarray(pages[0][0]).save(
        path, save_all=True, append_images=[pillow.fromarray(pages[0][0, ::2, ::2])], tiffinfo={254: 0}
    )
    with pytest.raises(UserError, match=r"volume\.tif: its pages differ in size or type"):
        read_image(path, 2)


def test_the_spacing_of_a_volume_lies_beside_it(tmp_path):
    for name in ("cell_0000.tif", "label.tif", "other.tif"):
        (tmp_path / name).write_bytes(tiff([samples(1, "u1")] * 3))
    (tmp_path / "cell.json").write_text(json.dumps({"spacing": [5.0, 0.5, 0.25]}))
    (tmp_path / "label.json").write_text(json.dumps({"spacing": [5, 0.5, 0.25]}))
    (tmp_path / "other.json").write_text(json.dumps({"shapes": []}))  # of an annotation tool
    for name in ("cell_0000.tif", "label.tif"):
        assert read_image(tmp_path / name, 3).spacing == (0.25, 0.5, 5)
        assert image_header(tmp_path / name, 3).spacing == (0.25, 0.5, 5)
    assert read_image(tmp_path / "other.tif", 3).spacing is None
    (tmp_path / "label.json").write_text(json.dumps({"spacing": [5, 0, 0.25]}))
    with pytest.raises(UserError, match=r"label\.tif: its spacing in .*label\.json should be three lengths"):
        read_image(tmp_path / "label.tif", 3)


@pytest.mark.parametrize(
    "way",
    [
        {"tags": {258: [12, 12]}},
        {"tags": {258: [8, 16]}},
        {"tags": {339: [6, 6]}},
        {"tags": {259: 34712}},  # JPEG 2000
        {"photometric": 5},
    ],
)
def test_another_layout_is_refused_in_one_sentence(tmp_path, way):
    path = tmp_path / "odd.tif"
    path.write_bytes(tiff([samples(2, "u2")], **way))
    with pytest.raises(UserError, match=r"odd\.tif: a TIFF of 2 samples .* is not read\. Save it"):
        read_image(path, 2)


def test_floats_where_0_is_white_are_refused(tmp_path):
    path = tmp_path / "odd.tif"
    path.write_bytes(tiff([samples(1, "f4")], photometric=0))
    with pytest.raises(UserError, match=r"is not read\. Save it"):
        read_image(path, 2)
