"""A folder of DICOM slices, written by pydicom, as one volume."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from lannunet_images import IMAGE_FILES, image_name, is_series, read_series

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
    assert "duplicate slices are left out: twice003.dcm" in capsys.readouterr().err


def test_two_slices_at_one_place_that_differ_are_refused(tmp_path):
    write_series(tmp_path / "ct", COUNT, twice=[3])
    other = pydicom.dcmread(tmp_path / "ct/twice003.dcm")
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "ct/twice003.dcm")
    refused("slice003.dcm and twice003.dcm", call=lambda: IMAGE_FILES.read(tmp_path / "ct", 3))


def write_study(folder, **more):
    """Two series in one folder; their volumes by SeriesInstanceUID."""
    rng = np.random.default_rng(0)
    drawn = {f"1.2.{n}": rng.integers(0, 2000, (COUNT, 10, 14)).astype(np.uint16) for n in (3, 4)}
    for title, (uid, volume) in zip(("venous", "scout"), drawn.items(), strict=True):
        write_series(folder, COUNT, title=title, prefix=title, uid=uid, volume=volume, **more)
    return drawn


def test_two_series_in_a_folder_are_named(tmp_path):
    write_study(tmp_path / "study")
    refused(
        "2 DICOM series", "venous (6 files, such as venous000.dcm, UID 1.2.3)", "scout (6 files",
        f"Name one by its UID ({tmp_path}/study/1.2.", "separate folder",
        call=lambda: IMAGE_FILES.read(tmp_path / "study", 3),
    )  # fmt: skip


def test_one_of_the_series_is_named_by_its_uid(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "study"
    drawn = write_study(folder, without=())
    for uid, volume in drawn.items():
        np.testing.assert_array_equal(IMAGE_FILES.read(folder / uid, 3).pixels[0], volume)
        assert IMAGE_FILES.header(folder / uid, 3).size == volume.shape[::-1]
        np.testing.assert_allclose(IMAGE_FILES.placement(folder / uid).spacing, (0.5, 0.75, STEP))
        assert {path.name[:-7] for path in IMAGE_FILES.parts(folder / uid)} < {"venous", "scout"}
        assert IMAGE_FILES.knows(folder / uid) and is_series(folder / uid)
        assert image_name(folder / uid) == f"study_{uid}"
    monkeypatch.chdir(folder)
    assert image_name(Path("1.2.3")) == "study_1.2.3"
    assert not is_series(folder / "1.2.5") and not is_series(tmp_path / "none/1.2.3")
    refused("with no DICOM file", call=lambda: IMAGE_FILES.read(folder / "1.2.5", 3))
    (folder / "venous003.dcm").unlink()
    refused(
        "study/1.2.3: a slice is missing between venous002.dcm and venous004.dcm",
        call=lambda: IMAGE_FILES.read(folder / "1.2.3", 3),
    )
    (folder / "1.2.3").write_bytes(b"a file of that name")  # is what it says it is
    assert not is_series(folder / "1.2.3") and image_name(folder / "1.2.3") == "1.2.3"


def test_the_volumes_of_a_folder(tmp_path, capsys):
    """Each series of several slices is a volume; every other file is a separate image."""
    folder = tmp_path / "study"
    write_study(folder)
    write_series(folder, 1, title="localizer", prefix="one")
    (folder / "z.mha").write_bytes(b"")
    others = [folder / "one000.dcm", folder / "z.mha"]
    assert IMAGE_FILES.volumes(folder, sorted(folder.iterdir())) == [
        folder / "1.2.4", folder / "1.2.3", *others,
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "has 3 DICOM series" in said
    assert "study_1.2.3: venous, 6 files" in said and "study_1.2.4: scout, 6 files" in said
    for path in folder.glob("[so]*.dcm"):
        path.unlink()
    assert IMAGE_FILES.volumes(folder, sorted(folder.iterdir())) == [folder, others[1]]
    assert not capsys.readouterr().out


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
    "turned": (change(ImageOrientationPatient=[1, 0, 0, 0, 0, 1]), "slice002.dcm is rotated"),
    "another spacing": (change(PixelSpacing=[1, 1]), "spacing of slice002.dcm is 1×1"),
    "no place": (change(ImagePositionPatient=None), "slice002.dcm: has no Image Position"),
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
