"""DICOM reports and segmentations are read back by highdicom; without it the extra is named."""

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


LONG = ("anterior superior iliac spine, left", "anterior superior iliac spine, right")  # begin alike
PLACED = {"tip": Mark((10.5, 20.25)), LONG[0]: Mark((30.4, 5.0)), LONG[1]: Mark((59.0, 0.0))}


def annotations(image):
    nothing = Annotated(image, {"eye": Mark(None)}, id="empty")
    return Annotations(("eye", "tip", *LONG), (Annotated(image, PLACED, id="x"), nothing))


def test_points_are_in_a_report(radiograph, tmp_path):
    highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")
    format_called("dicom-sr", "").write(annotations(radiograph), tmp_path / "out")
    report = highdicom.sr.srread(tmp_path / "out" / "x.dcm")
    groups = report.content.get_planar_roi_measurement_groups()
    assert [one.tracking_identifier for one in groups] == ["tip", *LONG]
    points = [one.roi.value[0].tolist() for one in groups]
    np.testing.assert_allclose(points, [[11.0, 20.75], [30.9, 5.5], [59.5, 0.5]], atol=1e-5)
    assert len({one.finding_type.value for one in groups}) == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.dcm"]
    said = format_called("dicom-sr", "").lost(annotations(radiograph))
    assert (
        said[-1] == "DICOM reports (TID 1500) cannot hold 1 images without any landmark: they are left out."
    )


def test_a_segment_lies_around_each_landmark(radiograph, tmp_path):
    """Segments have 3 × 3 pixels, or one near the border; an image without a landmark has no segment."""
    highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")
    of = format_called("dicom-seg", "")
    of.write(annotations(radiograph), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.dcm"]
    found = highdicom.seg.segread(tmp_path / "out" / "x.dcm")
    labels = [found.get_segment_description(n).segment_label for n in found.segment_numbers]
    assert labels == ["tip", *LONG]
    (source,) = found.get_source_image_uids()
    pixels = found.get_pixels_by_source_instance([source[2]])[0]
    assert pixels.shape == (40, 60, 3)
    for number, (mark, count) in enumerate(zip(PLACED.values(), (9, 9, 1), strict=True)):
        where = np.argwhere(pixels[..., number])[:, ::-1]
        assert len(where) == count
        assert np.abs(where.mean(axis=0) - mark.at).max() <= of.error
    assert "rounds points by up to 0.5 pixels" in of.lost(annotations(radiograph))[-1]
    outside = Annotated(radiograph, {"tip": Mark((60.0, 3.0))}, id="x")
    with pytest.raises(UserError, match=r'sample "x": landmark tip is outside of .*x\.dcm'):
        of.write(Annotations(("tip",), (outside,)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["dicom-sr", "dicom-seg"])
def test_a_picture_that_is_no_dicom_is_refused(name, tmp_path):
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((40, 60), np.uint8)), str(tmp_path / "a.png"))
    with pytest.raises(UserError, match=r'sample "x": .*a\.png is not a DICOM image'):
        format_called(name, "").write(annotations(tmp_path / "a.png"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_without_highdicom_the_extra_is_named(radiograph, tmp_path, monkeypatch):
    monkeypatch.setattr("lannunet_formats.dicom.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'lannunet-formats\[dicom\]'"):
        format_called("dicom-sr", "").write(annotations(radiograph), tmp_path / "out")
