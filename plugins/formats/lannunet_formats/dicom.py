"""DICOM structured reports of template TID 1500: a point a landmark, in the DICOM image that it lies in.

By highdicom, which is an extra. They are written, not read. Points count from the corner of the first pixel,
whose centre is at (0.5, 0.5) (DICOM PS3.3 C.18.6.1).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_landmarks import Annotated, Annotations, LandmarkFormat

from lannunet_core import UserError, __version__, atomic_path, image_format
from lannunet_formats.common import HALF, file_of

SCHEME = "99LANNUNET"  # of codes that are a data set's own


def matches(path: Path) -> bool:
    return False


def write(annotations: Annotations, out: Path) -> None:
    """A folder of one report an image."""
    if find_spec("highdicom") is None or find_spec("pydicom") is None:
        raise UserError(
            "--format dicom-sr: needs highdicom. Install it with pip install 'lannunet-formats[dicom]'."
        )
    files = [file_of(out, one, ".dcm") for one in annotations.images]
    reports = [_report(one, annotations.names) for one in annotations.images]
    out.mkdir(parents=True)
    for report, file in zip(reports, files, strict=True):
        with atomic_path(file) as temporary:
            report.save_as(temporary)


def _report(one: Annotated, names: tuple[str, ...]) -> Any:
    import highdicom
    import pydicom
    from highdicom import sr
    from pydicom.sr.codedict import codes

    where = f'sample "{one.id}"'
    if image_format(one.image) != "DICOM":
        raise UserError(f"{where}: {one.image} is no DICOM image, so a DICOM report cannot name it.")
    image = pydicom.dcmread(one.image, stop_before_pixels=True)
    source = sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
    groups = []
    for name in names:
        mark = one.marks.get(name)
        if mark is None or mark.at is None:
            continue
        region = sr.ImageRegion(
            sr.GraphicTypeValues.POINT, np.array([[value + HALF for value in mark.at]]), source
        )
        groups.append(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                sr.TrackingIdentifier(highdicom.UID(), name),
                referenced_region=region,
                finding_type=sr.CodedConcept(name[:16], SCHEME, name[:64]),
            )
        )
    device = sr.ObserverContext(
        codes.DCM.Device,
        sr.DeviceObserverIdentifyingAttributes(highdicom.UID(), name="LannU-Net", model_name=__version__),
    )
    try:
        return sr.ComprehensiveSR(
            [image],
            sr.MeasurementReport(
                sr.ObservationContext(observer_device_context=device),
                _procedure(image),
                imaging_measurements=groups,
            ),
            series_instance_uid=highdicom.UID(),
            series_number=1,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="LannU-Net",
        )
    except AttributeError as error:  # a tag that every report copies from its image
        raise UserError(f"{where}: {one.image} lacks a tag that a report needs ({error}).") from None


def _procedure(image: Any) -> Any:
    from highdicom import sr

    return sr.CodedConcept(
        str(image.Modality), "DCM", str(image.get("StudyDescription") or image.Modality)[:64]
    )


DICOM_SR = LandmarkFormat(
    "dicom-sr",
    "DICOM reports (TID 1500)",
    matches,
    None,
    write,
    dimensions=(2,),
    holds=frozenset({"unannotated"}),
)
