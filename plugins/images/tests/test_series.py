"""A folder of DICOM slices, written by pydicom, as one volume."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from lannunet_images import IMAGE_FILES, read_series

from lannunet_core.errors import UserError
from tests.fixtures.dicom import STEP, write_series

COUNT = 6


def refused(*said, call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for part in said:
        assert part in str(caught.value)


def test_slices_are_a_volume_in_the_order_of_their_places(tmp_path, capsys):
    volume = write_series(tmp_path / "ct", COUNT, shuffled=True)
    image = IMAGE_FILES.read(tmp_path / "ct", 3)
    np.testing.assert_array_equal(image.pixels[0], volume)
    header = IMAGE_FILES.header(tmp_path / "ct", 3)
    assert (header.size, header.channels) == (volume.shape[::-1], 1)
    assert header.spacing == image.spacing == pytest.approx((0.5, 0.75, STEP))
    assert not capsys.readouterr().err


@pytest.mark.parametrize("oblique", [False, True])
def test_the_world_is_that_of_gdcm(tmp_path, oblique):
    write_series(tmp_path / "ct", COUNT, oblique=oblique)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    other, placement = reader.Execute(), IMAGE_FILES.placement(tmp_path / "ct")
    np.testing.assert_array_equal(
        IMAGE_FILES.read(tmp_path / "ct", 3).pixels[0], sitk.GetArrayFromImage(other)
    )
    np.testing.assert_allclose(placement.origin, other.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(placement.spacing, other.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(placement.direction.ravel(), other.GetDirection(), atol=1e-5)


def test_under_a_tilted_gantry_the_volume_is_sheared(tmp_path):
    write_series(tmp_path / "ct", COUNT, tilt=0.4)
    placement = IMAGE_FILES.placement(tmp_path / "ct")
    last = [pydicom.dcmread(path) for path in read_series(tmp_path / "ct").files][-1].ImagePositionPatient
    found = placement.origin + placement.direction @ np.array([0, 0, (COUNT - 1) * placement.spacing[2]])
    np.testing.assert_allclose(found, np.array(last, float), atol=1e-4)


def test_a_missing_slice_is_named(tmp_path):
    write_series(tmp_path / "ct", COUNT, without=[2])
    refused(
        str(tmp_path / "ct"), "a slice is missing between slice001.dcm and slice003.dcm", "5 mm apart",
        call=lambda: IMAGE_FILES.read(tmp_path / "ct", 3),
    )  # fmt: skip
    write_series(tmp_path / "more", COUNT + 4, without=[4, 5])
    refused("2 slices are missing", call=lambda: IMAGE_FILES.header(tmp_path / "more", 3))


def test_a_slice_that_is_there_twice_counts_once_and_is_named(tmp_path, capsys):
    volume = write_series(tmp_path / "ct", COUNT, twice=[3])
    np.testing.assert_array_equal(IMAGE_FILES.read(tmp_path / "ct", 3).pixels[0], volume)
    assert "there twice, and counted once: twice003.dcm" in capsys.readouterr().err


def test_two_slices_at_one_place_that_differ_are_refused(tmp_path):
    write_series(tmp_path / "ct", COUNT, twice=[3])
    other = pydicom.dcmread(tmp_path / "ct/twice003.dcm")
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "ct/twice003.dcm")
    refused("slice003.dcm and twice003.dcm", call=lambda: IMAGE_FILES.read(tmp_path / "ct", 3))


def test_two_series_in_a_folder_are_named(tmp_path):
    for title in ("venous", "scout"):
        write_series(tmp_path / "study", COUNT, title=title, prefix=title)
    refused(
        "2 DICOM series", "venous (6 files", "scout (6 files", "folder of its own",
        call=lambda: IMAGE_FILES.read(tmp_path / "study", 3),
    )  # fmt: skip


def change(**values):
    def act(folder):
        path = folder / "slice002.dcm"
        content = pydicom.dcmread(path)
        for name, value in values.items():
            if value is None:
                delattr(content, name)
            else:
                setattr(content, name, value)
        content.save_as(path)

    return act


BAD = {
    "turned": (change(ImageOrientationPatient=[1, 0, 0, 0, 0, 1]), "slice002.dcm is turned"),
    "another spacing": (change(PixelSpacing=[1, 1]), "spacing of slice002.dcm is 1×1"),
    "no place": (change(ImagePositionPatient=None), "slice002.dcm: does not say where"),
    "damaged": (lambda f: (f / "slice002.dcm").write_bytes(bytes(128) + b"DICM\x08\0"), "slice002.dcm"),
    "uneven": (change(ImagePositionPatient=[10, -20, 36]), "mm apart, other slices 2.5 mm"),
    "one file": (lambda f: [p.unlink() for p in f.iterdir() if p.stem != "slice001"], "with 1 DICOM file,"),
}


@pytest.mark.parametrize(("act", "said"), BAD.values(), ids=BAD)
def test_what_is_no_volume_is_one_message(tmp_path, act, said):
    write_series(tmp_path / "ct", COUNT)
    act(tmp_path / "ct")
    refused(said, call=lambda: IMAGE_FILES.read(tmp_path / "ct", 3))


def test_a_folder_is_no_picture(tmp_path):
    write_series(tmp_path / "ct", COUNT)
    refused("where 2D is needed", call=lambda: IMAGE_FILES.read(tmp_path / "ct", 2))
    (tmp_path / "ct/slice000.dcm").rename(tmp_path / "slice000.dcm")
    assert IMAGE_FILES.knows(tmp_path / "ct") and not IMAGE_FILES.knows(tmp_path / "none")
