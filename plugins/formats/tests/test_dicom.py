"""DICOM reports are read back by highdicom; without it the extra is named."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from lannunet_landmarks import Annotated, Annotations, Mark
from lannunet_landmarks.data.formats import format_called

from lannunet_core import UserError

UID = "1.2.826.0.1.3680043.8.498."


@pytest.fixture
def radiograph(tmp_path) -> Path:
    image = sitk.GetImageFromArray(np.zeros((1, 40, 60), np.uint16))
    tags = {
        "0008|0060": "DX",
        "0010|0020": "p1",
        "0010|0010": "A^B",
        "0020|000d": f"{UID}1",
        "0020|000e": f"{UID}2",
    }
    for key, value in {**tags, "0020|0010": "1", "0008|0050": "7", "0008|0020": "20260101"}.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(tmp_path / "x.dcm"))
    return tmp_path / "x.dcm"


def annotations(image):
    return Annotations(("tip", "eye"), (Annotated(image, {"tip": Mark((10.5, 20.25))}, id="x"),))


def test_points_are_in_a_report(radiograph, tmp_path):
    highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")
    format_called("dicom-sr", "").write(annotations(radiograph), tmp_path / "out")
    report = highdicom.sr.srread(tmp_path / "out" / "x.dcm")
    (group,) = report.content.get_planar_roi_measurement_groups()
    assert group.tracking_identifier == "tip"
    assert group.roi.value[0].tolist() == [11.0, 20.75]
    with pytest.raises(UserError, match=r"a\.png is no DICOM image"):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 4), np.uint8)), str(tmp_path / "a.png"))
        format_called("dicom-sr", "").write(annotations(tmp_path / "a.png"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_without_highdicom_the_extra_is_named(radiograph, tmp_path, monkeypatch):
    monkeypatch.setattr("lannunet_formats.dicom.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'lannunet-formats\[dicom\]'"):
        format_called("dicom-sr", "").write(annotations(radiograph), tmp_path / "out")
