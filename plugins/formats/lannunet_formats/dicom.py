"""DICOM: structured reports of template TID 1500 (points), and segmentations (a small square per landmark).

highdicom, which is an extra, writes one file per DICOM image; files are not read. In reports, the origin is
the corner of the first pixel, whose centre is at (0.5, 0.5) (DICOM PS3.3 C.18.6.1). In segmentations, each
landmark is a segment of 3 × 3 pixels around its pixel, smaller at the border.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_landmarks import Annotated, Annotations, LandmarkFormat
from numpy.typing import NDArray

from lannunet_core import UserError, __version__, atomic_path, image_format, image_header
from lannunet_formats.common import HALF, file_of

SCHEME = "99LANNUNET"  # coding scheme of codes that a data set defines
CODE, MEANING = 16, 64  # maximum characters of a code's value and meaning
HALF_SQUARE = 1  # pixels

Made = Callable[[Annotated, tuple[str, ...], Any], Any]
"""Returns the DICOM object for (an image, the landmarks' names, the image's tags)."""


def matches(path: Path) -> bool:
    return False


def write_reports(annotations: Annotations, out: Path) -> None:
    """Write a folder with one report per image that shows a landmark."""
    _write(annotations, out, "dicom-sr", _report)


def write_segmentations(annotations: Annotations, out: Path) -> None:
    """Write a folder with one segmentation per image that shows a landmark."""
    _write(annotations, out, "dicom-seg", _segmentation)


def _write(annotations: Annotations, out: Path, name: str, make: Made) -> None:
    if find_spec("highdicom") is None or find_spec("pydicom") is None:
        raise UserError(
            f"--format {name}: needs highdicom. Install it with pip install 'lannunet-formats[dicom]'."
        )
    shown = [one for one in annotations.images if _placed(one)]  # neither object may be empty
    files = [file_of(out, one, ".dcm") for one in shown]
    made = [_made(one, annotations.names, make) for one in shown]
    out.mkdir(parents=True)
    for dicom, file in zip(made, files, strict=True):
        with atomic_path(file) as temporary:
            dicom.save_as(temporary)


def _made(one: Annotated, names: tuple[str, ...], make: Made) -> Any:
    import pydicom

    where = f'sample "{one.id}"'
    if image_format(one.image) != "DICOM":
        raise UserError(f"{where}: {one.image} is not a DICOM image, so a DICOM file cannot refer to it.")
    image = pydicom.dcmread(one.image, stop_before_pixels=True)
    try:
        return make(one, names, image)
    except AttributeError as error:  # a tag that every object copies from its image
        raise UserError(f"{where}: {one.image} lacks a required tag ({error}).") from None


def _placed(one: Annotated) -> dict[str, tuple[float, ...]]:
    return {name: mark.at for name, mark in one.marks.items() if mark.at is not None}


def _code(name: str) -> Any:
    """The code of a landmark, derived from its name; long names with the same beginning differ in code."""
    from highdicom import sr

    value = name if len(name) <= CODE else f"{name[:7]}-{sha256(name.encode()).hexdigest()[:8]}"
    return sr.CodedConcept(value, SCHEME, name[:MEANING])


def _series() -> dict[str, Any]:
    import highdicom

    return {
        "series_instance_uid": highdicom.UID(),
        "series_number": 1,
        "sop_instance_uid": highdicom.UID(),
        "instance_number": 1,
        "manufacturer": "LannU-Net",
    }


def _report(one: Annotated, names: tuple[str, ...], image: Any) -> Any:
    import highdicom
    from highdicom import sr
    from pydicom.sr.codedict import codes

    source = sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
    placed = _placed(one)
    groups = [
        sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(highdicom.UID(), name),
            referenced_region=sr.ImageRegion(
                sr.GraphicTypeValues.POINT, np.array([placed[name]]) + HALF, source
            ),
            finding_type=_code(name),
        )
        for name in names
        if name in placed
    ]
    device = sr.ObserverContext(
        codes.DCM.Device,
        sr.DeviceObserverIdentifyingAttributes(highdicom.UID(), name="LannU-Net", model_name=__version__),
    )
    procedure = sr.CodedConcept(
        str(image.Modality), "DCM", str(image.get("StudyDescription") or image.Modality)[:MEANING]
    )
    report = sr.MeasurementReport(
        sr.ObservationContext(observer_device_context=device), procedure, imaging_measurements=groups
    )
    return sr.ComprehensiveSR([image], report, **_series())


def _segmentation(one: Annotated, names: tuple[str, ...], image: Any) -> Any:
    import highdicom
    from highdicom import seg
    from pydicom.sr.codedict import codes

    placed = _placed(one)
    shown = [name for name in names if name in placed]
    predicted = any(mark.confidence is not None for mark in one.marks.values())
    algorithm = highdicom.AlgorithmIdentificationSequence(
        "LannU-Net", codes.DCM.ArtificialIntelligence, __version__
    )
    segments = [
        seg.SegmentDescription(
            number,
            name[:MEANING],
            codes.SCT.AnatomicalStructure,
            _code(name),
            seg.SegmentAlgorithmTypeValues.AUTOMATIC if predicted else seg.SegmentAlgorithmTypeValues.MANUAL,
            algorithm_identification=algorithm if predicted else None,
            tracking_uid=highdicom.UID(),
            tracking_id=name,
        )
        for number, name in enumerate(shown, 1)
    ]
    return seg.Segmentation(
        [image],
        _drawn(one, shown, placed)[None],
        seg.SegmentationTypeValues.BINARY,
        segments,
        manufacturer_model_name="LannU-Net",
        software_versions=__version__,
        device_serial_number="1",
        omit_empty_frames=False,
        **_series(),
    )


def _drawn(one: Annotated, names: list[str], placed: Mapping[str, tuple[float, ...]]) -> NDArray[np.uint8]:
    """An array (y, x, segments), 1 in the square around each landmark's pixel."""
    size = np.array(image_header(one.image, 2).size)
    drawn = np.zeros((*size[::-1], len(names)), np.uint8)
    for number, name in enumerate(names):
        centre = np.rint(placed[name]).astype(int)
        if (centre < 0).any() or (centre >= size).any():
            raise UserError(f'sample "{one.id}": landmark {name} is outside of {one.image}.')
        half = np.minimum(HALF_SQUARE, np.minimum(centre, size - 1 - centre))
        x, y = (slice(c - h, c + h + 1) for c, h in zip(centre, half, strict=True))
        drawn[y, x, number] = 1
    return drawn


DICOM_SR = LandmarkFormat(
    "dicom-sr",
    "DICOM reports (TID 1500)",
    matches,
    None,
    write_reports,
    dimensions=(2,),
)
DICOM_SEG = LandmarkFormat(
    "dicom-seg",
    "DICOM segmentations",
    matches,
    None,
    write_segmentations,
    dimensions=(2,),
    error=0.5,
)
