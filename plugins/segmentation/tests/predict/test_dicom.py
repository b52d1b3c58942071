"""Folders of DICOM slices, predicted from the command line; results as DICOM segmentations."""

import sys

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from tests.fixtures.dicom import OBLIQUE, STEP, write_series
from tests.fixtures.nnunet import redeclare

SLICES = 30


@pytest.fixture
def study(segmentation, tmp_path):
    """A trained project, and 60 files of two series: one lacks a slice, the other has a duplicate slice."""
    assert segmentation.train() == 0
    volume = np.random.default_rng(0).integers(60, 140, (SLICES, 24, 20)).astype(np.uint16)
    volume[8:20, 8:16, 4:12] = 180
    more = {"volume": volume, "oblique": True}
    for name, uid, change in (("plain", "1.2.3", {"without": [7]}), ("contrast", "1.2.4", {"twice": [3]})):
        write_series(tmp_path / name, SLICES, title=name, prefix=name, **change, **more)
        write_series(tmp_path / "both", SLICES, title=name, prefix=name, uid=uid, **change, **more)
    assert len(list((tmp_path / "both").iterdir())) == 2 * SLICES
    return segmentation


def test_a_folder_is_a_volume_or_one_sentence_and_comes_back_as_dicom_seg(
    study, tmp_path, capsys, monkeypatch
):
    def predict(name, *more):
        capsys.readouterr()
        code = study.lannunet("predict", study.out, tmp_path / name, "-o", tmp_path / f"of_{name}", *more)
        return code, " ".join(capsys.readouterr().err.split())

    code, said = predict("both")
    assert code == 2 and "both/1.2.3: a slice is missing between plain006.dcm and plain008.dcm" in said
    code, said = predict("plain")
    assert code == 2 and "a slice is missing between plain006.dcm and plain008.dcm" in said
    code, said = predict("contrast", "--format", "dicom-seg")
    assert code == 0 and "duplicate slices are left out: twice003.dcm" in said

    # With the slice, each series is a case, whether both are predicted or one is named.
    content = pydicom.dcmread(tmp_path / "both/plain006.dcm")
    place = np.array(content.ImagePositionPatient, float)
    place += OBLIQUE[:, 2] * STEP
    content.ImagePositionPatient = [float(f"{value:.6f}") for value in place]
    content.save_as(tmp_path / "both/plain007.dcm")
    code, said = predict("both", "--format", "dicom-seg")
    written = sorted(path.name for path in (tmp_path / "of_both").glob("both*"))
    assert code == 0 and written == [f"both_1.2.{n}.{end}" for n in (3, 4) for end in ("dcm", "nii.gz")]
    assert study.lannunet("predict", study.out, tmp_path / "both/1.2.4", "-o", tmp_path / "one") == 0
    alone = (tmp_path / "of_contrast/contrast.nii.gz").read_bytes()
    for folder in ("one", "of_both"):
        assert (tmp_path / folder / "both_1.2.4.nii.gz").read_bytes() == alone

    label = sitk.ReadImage(str(tmp_path / "of_contrast/contrast.nii.gz"))
    labels = sitk.GetArrayFromImage(label)
    assert labels.shape == (SLICES, 24, 20) and labels.any()
    assert label.GetSpacing() == pytest.approx((0.5, 0.75, STEP))
    written = highdicom.seg.segread(tmp_path / "of_contrast/contrast.dcm")
    assert [each.SegmentLabel for each in written.SegmentSequence] == ["bright", "dark"]
    for number in (1, 2):
        if not (labels == number).any():
            continue
        volume = written.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
        found = np.argwhere(volume.array > 0)
        there = found @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        wanted = [
            label.TransformIndexToPhysicalPoint(place[::-1].tolist())
            for place in np.argwhere(labels == number)
        ]
        order = [np.lexsort(np.round(points, 2).T) for points in (there, np.array(wanted))]
        np.testing.assert_allclose(there[order[0]], np.array(wanted)[order[1]], atol=2e-3)

    # What a segmentation cannot refer to is refused before the work.
    nifti = study.raw / "imagesTs/Ts0_0000.nii.gz"
    assert study.lannunet("predict", study.out, nifti, "-o", tmp_path / "a", "--format", "dicom-seg") == 2
    assert "is not a DICOM image" in capsys.readouterr().err
    assert study.lannunet("predict", study.out, nifti, "-o", tmp_path / "a", "--format", "nrrd") == 2
    assert "there is no format 'nrrd'; there is dicom-seg" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert study.lannunet("predict", study.out, nifti, "-o", tmp_path / "a", "--format", "dicom-seg") == 2
    assert "pip install 'lannunet-segmentation[dicom]'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "a").exists()


def test_series_train_where_dataset_json_names_their_folders(segmentation):
    """`dataset` of version 2 with folders as images, instead of the same volumes as files."""
    entries = {}
    for number in range(3):
        path = segmentation.raw / f"imagesTr/Tr{number}_0000.nii.gz"
        volume = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.uint16)
        folder = segmentation.raw / f"dicom/Tr{number}"
        write_series(folder, len(volume), volume=volume, uid=f"1.2.{number}")
        source = segmentation.raw / f"labelsTr/Tr{number}.nii.gz"
        label = sitk.ReadImage(str(source))
        label.SetSpacing((0.5, 0.75, STEP))
        label.SetOrigin((10, -20, 30))
        sitk.WriteImage(label, str(source))
        images = [f"dicom/Tr{number}"]
        if number == 1:  # one of two series in its folder
            write_series(segmentation.raw / images[0], 4, prefix="other")
            images = [f"{images[0]}/1.2.{number}"]
        entries[f"Tr{number}"] = {"images": images, "label": f"labelsTr/Tr{number}.nii.gz"}
    redeclare(segmentation.raw, dataset=entries, numTraining=3)
    segmentation.set(trainer={"fold": 0})
    segmentation.set(inference={"split": "validation"})
    assert segmentation.train() == 0
    written = sorted((segmentation.out / "predictions").glob("*.nii.gz"))
    assert written and sitk.ReadImage(str(written[0])).GetSpacing() == pytest.approx((0.5, 0.75, STEP))
