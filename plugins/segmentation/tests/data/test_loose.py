"""Loose files, and folders of them, as cases."""

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_segmentation.data.loose import loose_cases

from tests.fixtures.dicom import write_series
from tests.fixtures.nnunet import SIZE, image_values, refused, write


def test_files_that_differ_in_their_channel_are_one_case(tmp_path):
    for name in ("a_0000", "a_0001", "b_0000", "b_0001"):
        write(tmp_path / f"in/{name}.nii.gz", image_values(SIZE[::-1]))
    (tmp_path / "in/notes.txt").write_text("…")
    by_folder = loose_cases([tmp_path / "in"], 2, 3)
    assert [(case.id, [p.name[:6] for p in case.images]) for case in by_folder] == [
        ("a", ["a_0000", "a_0001"]),
        ("b", ["b_0000", "b_0001"]),
    ]
    by_file = loose_cases([tmp_path / f"in/b_000{n}.nii.gz" for n in (1, 0)], 2, 3)
    assert by_file == by_folder[1:]
    (tmp_path / "in/b_0001.nii.gz").unlink()
    refused("b_0000", "1 channel", call=lambda: loose_cases([tmp_path / "in"], 2, 3))


def test_files_need_no_channel_number_and_are_of_any_format(tmp_path):
    write(tmp_path / "some.scan.mha", image_values(SIZE[::-1]))
    write(tmp_path / "other.nii.gz", image_values(SIZE[::-1]))
    write(tmp_path / "lower.nii.gz", image_values(SIZE[::-1]))
    (tmp_path / "lower.nii.gz").rename(tmp_path / "upper.NII.GZ")
    every = ["other", "some.scan", "upper"]
    assert [case.id for case in loose_cases(sorted(tmp_path.iterdir()), 1, 3)] == every
    assert [case.id for case in loose_cases([tmp_path], 1, 3)] == every


def test_loose_files_that_cannot_be(tmp_path):
    write(tmp_path / "a/x.nii.gz", image_values(SIZE[::-1]))
    write(tmp_path / "b/x.nii.gz", image_values(SIZE[::-1]))
    (tmp_path / "empty").mkdir()
    for paths, said in [
        (["a", "b"], ('"x"', "apart")),
        (["away.nii.gz"], ("away.nii.gz", "does not exist")),
        (["empty"], ("empty", "no image")),
    ]:
        arguments = [tmp_path / path for path in paths], 1, 3
        refused(*said, call=lambda a=arguments: loose_cases(*a))
    refused("a/x.nii.gz", "2D", call=lambda: loose_cases([tmp_path / "a"], 1, 2))


def test_a_number_that_is_no_channel_belongs_to_the_name(tmp_path, capsys):
    write(tmp_path / "Img_0069.nii.gz", image_values(SIZE[::-1]))
    assert [case.id for case in loose_cases([tmp_path], 1, 3)] == ["Img_0069"]
    assert "Img_0069.nii.gz: is treated as a case" in capsys.readouterr().err
    write(tmp_path / "Img_0000.nii.gz", image_values(SIZE[::-1]))
    refused("Img_0069", "channel 69", "add _0000", call=lambda: loose_cases([tmp_path], 1, 3))


@pytest.mark.parametrize("second", ["x.nii.gz", "x_0000.mha", "x.nii"])
def test_no_file_is_lost_to_another_of_its_name(tmp_path, second):
    for name in ("x_0000.nii.gz", second):
        write(tmp_path / name, image_values(SIZE[::-1]))
    refused('"x"', "x_0000.nii.gz", second, call=lambda: loose_cases([tmp_path], 1, 3))


def test_what_other_systems_leave_is_no_image(tmp_path, capsys):
    write(tmp_path / "x.nii.gz", image_values(SIZE[::-1]))
    for name in ("._x.nii.gz", ".DS_Store", "Thumbs.db", "DICOMDIR"):
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    (tmp_path / "Thumbs.db").write_bytes(b"1")
    assert [case.id for case in loose_cases([tmp_path], 1, 3)] == ["x"]
    assert "left out, as they are not images: DICOMDIR, Thumbs.db" in capsys.readouterr().err


def write_slices(folder, names, series=None):
    """DICOM files of one slice each, 4×5."""
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.SetKeepOriginalImageUID(True)
    for number, name in enumerate(names):
        image = sitk.GetImageFromArray(image_values((4, 5), number).astype(np.uint16))
        for tag, value in (("0008|0018", f"1.2.3.{number}"), ("0020|000e", series or f"1.2.{number}")):
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{name}.dcm"))
        writer.Execute(image)
        (folder / f"{name}.dcm").rename(folder / name)


def test_dicom_files_need_no_suffix(tmp_path, capsys):
    names = ["1.2.840.1", "1.2.840.2", "IM01"]
    write_slices(tmp_path / "views", names)
    assert [case.id for case in loose_cases([tmp_path / "views"], 1, 2)] == names
    assert not capsys.readouterr().err


def test_slices_of_a_series_are_said_to_be_some(tmp_path, capsys):
    write_slices(tmp_path / "series", ["a.dcm", "b", "c"], series="1.2.9")
    files = sorted((tmp_path / "series").iterdir())
    refused("series", "3 files are slices", call=lambda: loose_cases(files, 1, 3))
    assert len(loose_cases(files, 1, 2)) == 3
    assert "3 files are slices of one DICOM series" in capsys.readouterr().err
    assert len(loose_cases(files[:1], 1, 3)) == 1


def test_a_folder_of_dicom_slices_is_one_volume(tmp_path):
    write_series(tmp_path / "ct", 4)
    write(tmp_path / "ct/other.nii.gz", image_values((4, 10, 14)))
    whole, other = loose_cases([tmp_path / "ct"], 1, 3)
    assert (whole.id, whole.images) == ("ct", (tmp_path / "ct",)) and other.id == "other"
    assert len(loose_cases(sorted((tmp_path / "ct").glob("*.dcm")), 1, 2)) == 4
    write_series(tmp_path / "gap", 5, without=[2])
    refused("a slice is missing", call=lambda: loose_cases([tmp_path / "gap"], 1, 3))


def test_each_series_of_a_folder_is_a_case(tmp_path):
    for uid in ("1.2.3", "1.2.4"):
        write_series(tmp_path / "ct", 4, prefix=uid, uid=uid)
    cases = loose_cases([tmp_path / "ct"], 1, 3)
    assert [case.id for case in cases] == ["ct_1.2.3", "ct_1.2.4"]
    assert loose_cases([tmp_path / "ct/1.2.4"], 1, 3) == cases[1:]  # of the same name
    assert len(loose_cases([tmp_path / "ct"], 1, 2)) == 8
    refused("1.2.5: does not exist", call=lambda: loose_cases([tmp_path / "ct/1.2.5"], 1, 3))


def test_a_folder_of_folders_says_so(tmp_path):
    write(tmp_path / "patient1/x.nii.gz", image_values(SIZE[::-1]))
    refused("no image", "patient1", call=lambda: loose_cases([tmp_path], 1, 3))
