import gzip
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_images import IMAGE_FILES
from PIL import Image as pillow

from lannunet_core.errors import UserError
from lannunet_core.images.reader import image_format, image_header, read_image

X, Y, Z = 13, 10, 7
GREY = (np.arange(Y)[:, None] * 100 + np.arange(X)).astype(np.uint16)  # value = 100 y + x
VOLUME = (np.arange(Z)[:, None, None] * 10_000 + GREY).astype(np.uint16)
COLOUR = np.random.default_rng(0).integers(0, 256, (Y, X, 3), dtype=np.uint8)


def write(path, array, spacing=None, is_vector=False, compress=False):
    image = sitk.GetImageFromArray(array, isVector=is_vector)
    if spacing:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path), compress)
    return path


def check_header(path, dimensions):
    image, header = read_image(path, dimensions), image_header(path, dimensions)
    assert header.size == image.pixels.shape[:0:-1]
    assert header.channels == image.pixels.shape[0]
    assert header.spacing == image.spacing


@pytest.mark.parametrize("suffix", [".png", ".tif", ".dcm", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_16_bit_grey_has_x_right_and_y_down(tmp_path, suffix):
    path = write(tmp_path / f"image{suffix}", GREY)
    pixels = read_image(path, 2).pixels
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, GREY[None])
    check_header(path, 2)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".tif"])
def test_volumes_come_as_z_y_x(tmp_path, suffix):
    path = write(tmp_path / f"image{suffix}", VOLUME)
    np.testing.assert_array_equal(read_image(path, 3).pixels, VOLUME[None])
    check_header(path, 3)


def test_nifti_written_by_hand_is_not_transposed(tmp_path):
    """NIfTI stores x fastest; the header follows its specification, not the library that reads it."""
    header = bytearray(352)
    header[0:4] = np.int32(348).tobytes()
    header[40:56] = np.array([3, X, Y, Z, 1, 1, 1, 1], "<i2").tobytes()
    header[70:74] = np.array([512, 16], "<i2").tobytes()  # uint16
    header[76:108] = np.array([1, 0.5, 0.75, 2, 0, 0, 0, 0], "<f4").tobytes()
    header[108:112] = np.float32(352).tobytes()
    header[123] = 2  # mm
    header[344:348] = b"n+1\0"
    path = tmp_path / "image.nii"
    path.write_bytes(bytes(header) + VOLUME.astype("<u2").tobytes())
    image = read_image(path, 3)
    np.testing.assert_array_equal(image.pixels, VOLUME[None])
    assert image.spacing == (0.5, 0.75, 2)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_colour_is_three_channels(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    pillow.fromarray(COLOUR).save(path)
    np.testing.assert_array_equal(read_image(path, 2).pixels, np.moveaxis(COLOUR, -1, 0))
    check_header(path, 2)


def test_jpeg(tmp_path):
    smooth = np.stack([GREY // 4] * 3, -1).astype(np.uint8)
    pillow.fromarray(smooth).save(tmp_path / "image.jpeg", quality=100)
    difference = read_image(tmp_path / "image.jpeg", 2).pixels - np.moveaxis(smooth, -1, 0).astype(float)
    assert np.abs(difference).max() < 4
    check_header(tmp_path / "image.jpeg", 2)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour_keeps_its_bits(tmp_path, suffix):
    colour = np.stack([GREY, GREY + 1, GREY + 2], -1)
    path = write(tmp_path / f"image{suffix}", colour, is_vector=True)
    np.testing.assert_array_equal(read_image(path, 2).pixels, np.moveaxis(colour, -1, 0))
    check_header(path, 2)


def test_alpha_is_dropped(tmp_path):
    alpha = np.full((Y, X, 1), 128, np.uint8)
    pillow.fromarray(np.concatenate([COLOUR, alpha], -1)).save(tmp_path / "rgba.png")
    pillow.fromarray(np.concatenate([COLOUR[..., :1], alpha], -1)).save(tmp_path / "la.png")
    deep = np.stack([GREY, GREY + 1, GREY + 2, GREY], -1)
    write(tmp_path / "deep.png", deep, is_vector=True)
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png", 2).pixels, np.moveaxis(COLOUR, -1, 0))
    np.testing.assert_array_equal(read_image(tmp_path / "la.png", 2).pixels, COLOUR[None, ..., 0])
    np.testing.assert_array_equal(
        read_image(tmp_path / "deep.png", 2).pixels, np.moveaxis(deep[..., :3], -1, 0)
    )
    for name in ("rgba.png", "la.png", "deep.png"):
        check_header(tmp_path / name, 2)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_palettes_are_resolved_to_colours(tmp_path, suffix):
    indexed = pillow.fromarray(COLOUR).quantize(16)
    indexed.save(tmp_path / f"image{suffix}")
    expected = np.moveaxis(np.asarray(indexed.convert("RGB")), -1, 0)
    np.testing.assert_array_equal(read_image(tmp_path / f"image{suffix}", 2).pixels, expected)
    check_header(tmp_path / f"image{suffix}", 2)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_black_and_white(tmp_path, suffix):
    mask = COLOUR[..., 0] > 128
    pillow.fromarray(mask).save(tmp_path / f"image{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"image{suffix}", 2).pixels[0] > 0, mask)


def test_float_tiff(tmp_path):
    values = np.random.default_rng(1).random((Y, X), np.float32)
    pillow.fromarray(values).save(tmp_path / "image.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "image.tif", 2).pixels, values[None])


def test_components_of_a_vector_image_are_channels(tmp_path):
    vectors = np.stack([VOLUME, VOLUME + 1], -1)
    for name in ("image.mha", "image.nrrd", "image.nii.gz"):
        path = write(tmp_path / name, vectors, is_vector=True)
        np.testing.assert_array_equal(read_image(path, 3).pixels, np.moveaxis(vectors, -1, 0))
        check_header(path, 3)
    four = np.stack([GREY] * 4, -1)  # in a medical file the fourth channel is not alpha
    assert read_image(write(tmp_path / "four.mha", four, is_vector=True), 2).pixels.shape == (4, Y, X)


def test_fourth_axis_of_a_volume_is_channels(tmp_path):
    series = sitk.JoinSeries([sitk.GetImageFromArray(VOLUME), sitk.GetImageFromArray(VOLUME + 1)])
    sitk.WriteImage(series, str(tmp_path / "image.nii.gz"))
    np.testing.assert_array_equal(
        read_image(tmp_path / "image.nii.gz", 3).pixels, np.stack([VOLUME, VOLUME + 1])
    )
    check_header(tmp_path / "image.nii.gz", 3)


def test_volume_of_one_slice_is_a_picture(tmp_path):
    path = write(tmp_path / "image.nii.gz", VOLUME[:1], spacing=(0.5, 0.75, 2))
    assert read_image(path, 2).pixels.shape == (1, Y, X)
    assert read_image(path, 2).spacing == (0.5, 0.75)
    assert read_image(path, 3).pixels.shape == (1, 1, Y, X)
    check_header(path, 2)
    check_header(path, 3)


@pytest.mark.parametrize(
    ("shape", "dimensions", "channels"),
    [
        ((Y, X), 2, 1),
        ((2, Y, X), 2, 2),
        ((Y, X, 2), 2, 2),
        ((2, 20, 3), 2, 2),  # both could be channels: the first is
        ((Z, Y, X), 3, 1),
        ((3, Z, Y, X), 3, 3),
        ((Z, Y, X, 3), 3, 3),
    ],
)
def test_numpy_channels(tmp_path, shape, dimensions, channels):
    array = np.random.default_rng(2).random(shape)
    np.save(tmp_path / "image.npy", array)
    np.savez_compressed(tmp_path / "image.npz", array)
    expected = array
    if array.ndim == dimensions:
        expected = array[None]
    elif shape[0] != channels:
        expected = np.moveaxis(array, -1, 0)
    for name in ("image.npy", "image.npz"):
        np.testing.assert_array_equal(read_image(tmp_path / name, dimensions).pixels, expected)
        check_header(tmp_path / name, dimensions)


def test_npz_of_several_arrays_needs_a_name(tmp_path):
    np.savez(tmp_path / "good.npz", image=GREY, other=VOLUME)
    np.savez(tmp_path / "bad.npz", a=GREY, b=VOLUME)
    np.testing.assert_array_equal(read_image(tmp_path / "good.npz", 2).pixels, GREY[None])
    with pytest.raises(UserError, match=r"bad\.npz: has the arrays a, b. Name the image `image`"):
        read_image(tmp_path / "bad.npz", 2)


def test_numpy_executes_nothing_and_takes_only_numbers(tmp_path):
    np.save(tmp_path / "object.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.save(tmp_path / "complex.npy", GREY.astype(complex))
    np.save(tmp_path / "bool.npy", GREY > 300)
    for name in ("object.npy", "complex.npy"):
        with pytest.raises(UserError, match=name):
            read_image(tmp_path / name, 2)
    assert read_image(tmp_path / "bool.npy", 2).pixels.dtype == np.uint8


@pytest.mark.parametrize("suffix", [".dcm", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_spacing_is_read_where_the_format_has_it(tmp_path, suffix):
    path = write(tmp_path / f"image{suffix}", GREY, spacing=(0.5, 0.25))
    assert read_image(path, 2).spacing == (0.5, 0.25)
    check_header(path, 2)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".jpg"])
def test_the_resolution_of_a_picture_is_no_spacing(tmp_path, suffix):
    pillow.fromarray(COLOUR).save(tmp_path / f"image{suffix}", dpi=(300, 300))
    write(tmp_path / f"itk{suffix}", COLOUR, spacing=(0.5, 0.25), is_vector=True)
    assert read_image(tmp_path / f"image{suffix}", 2).spacing is None
    assert read_image(tmp_path / f"itk{suffix}", 2).spacing is None


def test_spacing_of_1_counts_only_where_it_is_stated(tmp_path):
    stated = write(tmp_path / "stated.mha", GREY, spacing=(1, 1))
    assert read_image(stated, 2).spacing == (1, 1)
    lines = stated.read_bytes().split(b"\n")
    silent = tmp_path / "silent.mha"
    silent.write_bytes(b"\n".join(line for line in lines if not line.startswith(b"ElementSpacing")))
    assert read_image(silent, 2).spacing is None
    (tmp_path / "silent.nrrd").write_bytes(
        f"NRRD0004\ntype: uint16\ndimension: 2\nsizes: {X} {Y}\nendian: little\nencoding: raw\n\n".encode()
        + GREY.astype("<u2").tobytes()
    )
    image = read_image(tmp_path / "silent.nrrd", 2)
    assert image.spacing is None
    np.testing.assert_array_equal(image.pixels, GREY[None])


def test_dicom_where_0_is_white_is_turned_round(tmp_path):
    path = write(tmp_path / "image.dcm", GREY, spacing=(0.5, 0.25))
    path.write_bytes(path.read_bytes().replace(b"MONOCHROME2", b"MONOCHROME1"))
    np.testing.assert_array_equal(read_image(path, 2).pixels, 65535 - GREY[None])


def test_dicom_without_spacing(tmp_path):
    path = write(tmp_path / "image.dcm", GREY, spacing=(0.5, 0.25))
    content = path.read_bytes()
    # PixelSpacing or NominalScannedPixelSpacing, whichever the library chose to write.
    start = max(content.find(b"\x28\x00\x30\x00"), content.find(b"\x18\x00\x10\x20"))
    length = 8 + int.from_bytes(content[start + 4 : start + 8], "little")
    path.write_bytes(content[:start] + content[start + length :])
    assert read_image(path, 2).spacing is None


def test_dicom_without_its_preamble_is_known_by_its_suffix(tmp_path):
    old = tmp_path / "old.dcm"
    old.write_bytes(write(tmp_path / "whole.dcm", GREY).read_bytes()[132:])
    np.testing.assert_array_equal(read_image(old, 2).pixels, GREY[None])


def test_content_decides_and_not_the_path(tmp_path):
    """A folder whose name ends like an image, and files with the suffix of another format, or without one."""
    folder = tmp_path / "scans.nii.gz" / "old.dcm"
    folder.mkdir(parents=True)
    for source in (
        write(tmp_path / "a.nii.gz", GREY),
        write(tmp_path / "b.nii", GREY),
        write(tmp_path / "c.png", GREY),
        write(tmp_path / "d.mha", GREY),
        write(tmp_path / "e.nrrd", GREY),
        write(tmp_path / "f.dcm", GREY),
        write(tmp_path / "g.tif", GREY),
    ):
        for name in (source.name, "scan", "scan.png", "scan.nii", "scan.NII.GZ", "scan.npy"):
            copy = shutil.copyfile(source, folder / name)
            np.testing.assert_array_equal(
                read_image(copy, 2).pixels, GREY[None], err_msg=f"{source} as {name}"
            )


def test_detached_metaimage(tmp_path):
    path = write(tmp_path / "image.mhd", GREY)
    np.testing.assert_array_equal(read_image(path, 2).pixels, GREY[None])
    (tmp_path / "image.raw").unlink()
    with pytest.raises(UserError, match=r"image\.mhd: .*its pixels are missing \(.*image\.raw\)"):
        read_image(path, 2)


def test_another_dimension_is_refused(tmp_path):
    volume = write(tmp_path / "volume.nii.gz", VOLUME)
    picture = write(tmp_path / "picture.png", GREY)
    np.save(tmp_path / "array.npy", VOLUME[None])
    for read in (read_image, image_header):
        with pytest.raises(
            UserError, match=rf"volume\.nii\.gz: a 3D image \({X}×{Y}×{Z}\) where 2D is needed"
        ):
            read(volume, 2)
        with pytest.raises(UserError, match=rf"picture\.png: a 2D image \({X}×{Y}\) where 3D is needed"):
            read(picture, 3)
        with pytest.raises(UserError, match=r"array\.npy: an array of shape \(1, 7, 10, 13\) where 2D"):
            read(tmp_path / "array.npy", 2)


FILES = {
    "g.png": lambda path: write(path, GREY),
    "c.png": lambda path: pillow.fromarray(COLOUR).save(path),
    "c.jpg": lambda path: pillow.fromarray(np.tile(COLOUR, (4, 4, 1))).save(path),
    "p.jpg": lambda path: pillow.fromarray(np.tile(COLOUR, (4, 4, 1))).save(path, progressive=True),
    "c.bmp": lambda path: pillow.fromarray(COLOUR).save(path),
    "g.tif": lambda path: pillow.fromarray(GREY).save(path),
    "l.tif": lambda path: pillow.fromarray(COLOUR).save(path, compression="tiff_lzw"),
    "g.dcm": lambda path: write(path, GREY),
    "g.nii": lambda path: write(path, GREY),
    "g.nii.gz": lambda path: write(path, GREY),
    "g.mha": lambda path: write(path, GREY),
    "z.mha": lambda path: write(path, GREY, compress=True),
    "g.nrrd": lambda path: write(path, GREY),
    "z.nrrd": lambda path: write(path, GREY, compress=True),
    "g.npy": lambda path: np.save(path, GREY),
    "g.npz": lambda path: np.savez(path, GREY),
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow also warns about a truncated TIFF
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_files_are_told_by_name(tmp_path, name, share):
    path = tmp_path / name
    FILES[name](path)
    read_image(path, 2)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UserError, match=rf"{name}: .*Copy or convert it again"):
        read_image(path, 2)


@pytest.mark.parametrize(
    "name", ["g.mha", "z.mha", "c.jpg", "g.nii", "g.nii.gz", "g.dcm", "g.nrrd", "c.bmp", "g.png"]
)
def test_libraries_print_nothing_of_their_own(tmp_path, name, capfd):
    path = tmp_path / name
    FILES[name](path)
    read_image(path, 2)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError):
        read_image(path, 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["z.mha", "g.nii.gz", "g.png", "g.npz"])
def test_damaged_streams_are_found(tmp_path, name):
    path = tmp_path / name
    FILES[name](path)
    content = bytearray(path.read_bytes())
    middle = len(content) * 2 // 3
    content[middle : middle + 6] = bytes(byte ^ 0x5A for byte in content[middle : middle + 6])
    path.write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_image(path, 2)


def test_what_is_no_image(tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "notes.png").write_text("not an image")
    (tmp_path / "empty.png").touch()
    (tmp_path / "other.gz").write_bytes(gzip.compress(b"not an image"))
    with pytest.raises(UserError, match=r'notes\.txt: unsupported image suffix "\.txt".*\.png.*\.npz'):
        image_format(tmp_path / "notes.txt")
    with pytest.raises(UserError, match=r"notes\.png: is not a PNG image"):
        image_format(tmp_path / "notes.png")
    with pytest.raises(UserError, match=r"empty\.png: is empty"):
        image_format(tmp_path / "empty.png")
    with pytest.raises(UserError, match=r'other\.gz: unsupported image suffix "\.gz"'):
        image_format(tmp_path / "other.gz")
    with pytest.raises(UserError, match=r"gone\.png: cannot be read"):
        image_format(tmp_path / "gone.png")
    assert {".png", ".nii.gz", ".npz"} < set(IMAGE_FILES.suffixes)
