"""The files that `lannunet predict` reads from a folder, and those that it never overwrites."""

import shutil
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_images import IMAGE_FILES
from lannunet_landmarks.predict.loose import loose_samples
from PIL import Image

from lannunet_core import RunInfo, UserError
from tests.fixtures.dicom import write_series

PICTURE = np.zeros((12, 10), np.uint8)


def run_of(dimensions):
    return RunInfo("landmarks", dimensions, 1, ("a",), (8,) * dimensions, None, 1, "cpu", 0)


def names(folder, dimensions=2):
    return [one.id for one in loose_samples([folder], run_of(dimensions))]


def write_dicom(path, series, number=1):
    """A slice of a series, under any name."""
    image = sitk.GetImageFromArray(PICTURE.astype(np.uint16))
    for tag, value in (("0020|000e", series), ("0020|0013", str(number)), ("0008|0060", "OT")):
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path.with_name("written.dcm")))
    writer.Execute(image)
    path.with_name("written.dcm").rename(path)


def test_a_folder_of_several_kinds(tmp_path, capsys):
    for name in ("a.png", "b.jpg", "C.TIF"):
        Image.fromarray(PICTURE).save(tmp_path / name)
    np.save(tmp_path / "d.npy", PICTURE)
    sitk.WriteImage(sitk.GetImageFromArray(PICTURE), str(tmp_path / "e.mha"))
    sitk.WriteImage(sitk.GetImageFromArray(PICTURE), str(tmp_path / "f.nii.gz"))
    write_dicom(tmp_path / "IM0001", "1.2.3")
    write_dicom(tmp_path / "1.2.840.7", "1.2.4")
    for name in ("._a.png", ".DS_Store", "notes.txt", "points.json"):
        (tmp_path / name).write_text("no image")
    (tmp_path / "within").mkdir()
    assert names(tmp_path) == ["1.2.840.7", "C.TIF", "IM0001", "a.png", "b.jpg", "d.npy", "e.mha", "f.nii.gz"]
    assert "left out, as they are not images: notes.txt, points.json, within" in capsys.readouterr().err


def test_slices_of_one_series_are_said(tmp_path, capsys):
    for number in range(3):
        write_dicom(tmp_path / f"IM{number}", "1.2.3", number)
    assert len(names(tmp_path)) == 3
    assert "3 files are slices of one DICOM series; each is predicted" in capsys.readouterr().err
    (volume,) = loose_samples([tmp_path], run_of(3))
    with pytest.raises(UserError, match="not a volume"):
        IMAGE_FILES.read(volume.image, 3)
    loose_samples(sorted(tmp_path.iterdir()), run_of(2))
    assert "3 files are slices" in capsys.readouterr().err
    apart = tmp_path / "apart"
    apart.mkdir()
    for number in range(3):
        write_dicom(apart / f"IM{number}", f"1.2.{number}")
    assert len(names(apart)) == 3
    assert not capsys.readouterr().err


def test_a_damaged_slice_is_no_traceback(tmp_path):
    (tmp_path / "IM0").write_bytes(bytes(128) + b"DICM" + struct.pack("<HH", 8, 5))
    assert names(tmp_path) == ["IM0"]


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="none: there is no such image or folder"):
        loose_samples([tmp_path / "none"], run_of(2))
    (tmp_path / "._x.png").touch()
    (tmp_path / "below").mkdir()
    with pytest.raises(UserError, match=r"there are no images in this folder.*not searched \(below\)"):
        names(tmp_path)


def test_inputs_are_no_target(trained, tmp_path, capsys):
    """They are not removed together with earlier results."""
    scans = tmp_path / "scans"
    scans.mkdir()
    for one in trained.annotations["testing"]:
        shutil.copy(trained.folder / one["image"], scans)
    for flags in ((), ("--overwrite",)):
        assert trained.lannunet("predict", trained.out, scans, "-o", scans, *flags) == 2
        assert "is the folder of the images" in capsys.readouterr().err
    assert len(list(scans.iterdir())) == 2

    out, debug = tmp_path / "out", ("--set", "inference.debug=true")
    model = tmp_path / "model"
    settings = (*debug, "--set", f"output.output_dir={model}", "--set", "solver.max_epochs=1")
    assert trained.lannunet("train", trained.yaml, *settings) == 0
    assert trained.lannunet("predict", model, scans, "-o", out) == 0
    (picture, *_) = drawn = sorted((out / "debug").iterdir())
    shutil.copy(drawn[0], tmp_path / "kept.png")
    assert trained.lannunet("predict", model, picture, "-o", out, "--overwrite") == 2
    assert f"{picture} is in {out}, which --overwrite empties" in capsys.readouterr().err
    assert picture.read_bytes() == (tmp_path / "kept.png").read_bytes()


def test_a_folder_of_dicom_slices_is_one_volume(tmp_path):
    volume = write_series(tmp_path / "ct", 5)
    (sample,) = loose_samples([tmp_path / "ct"], run_of(3))
    assert (sample.id, sample.image) == ("ct", tmp_path / "ct")
    np.testing.assert_array_equal(IMAGE_FILES.read(sample.image, 3).pixels[0], volume)
    write_series(tmp_path / "gap", 5, without=[2])
    with pytest.raises(UserError, match=r"a slice is missing between slice001\.dcm and slice003\.dcm"):
        IMAGE_FILES.read(loose_samples([tmp_path / "gap"], run_of(3))[0].image, 3)


def test_each_series_of_a_folder_is_a_sample(tmp_path):
    volumes = {}
    for place in ("a/ct", "b/ct"):
        for uid in ("1.2.3", "1.2.4"):
            path = tmp_path / place / uid
            volumes[path] = write_series(tmp_path / place, 5, prefix=uid, uid=uid)
    samples = loose_samples([tmp_path / "a/ct"], run_of(3))
    assert [one.id for one in samples] == ["ct_1.2.3", "ct_1.2.4"]
    assert [one.id for one in loose_samples([tmp_path / "a/ct/1.2.4"], run_of(3))] == ["ct_1.2.4"]
    assert len(loose_samples([tmp_path / "a/ct"], run_of(2))) == 10
    samples = loose_samples([tmp_path / "a/ct", tmp_path / "b/ct"], run_of(3))
    assert [one.id for one in samples] == ["a/ct/1.2.3", "a/ct/1.2.4", "b/ct/1.2.3", "b/ct/1.2.4"]
    for one in samples:
        np.testing.assert_array_equal(IMAGE_FILES.read(one.image, 3).pixels[0], volumes[one.image])
    with pytest.raises(UserError, match=r"no such image or folder"):
        loose_samples([tmp_path / "a/ct/1.2.5"], run_of(3))
