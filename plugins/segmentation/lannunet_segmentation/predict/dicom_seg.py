"""Label maps as DICOM segmentations that refer to their source slices, written with highdicom."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_images import ImageFiles
from numpy.typing import NDArray

from lannunet_core import UserError, __version__, atomic_path, image_format, inside
from lannunet_segmentation.types import Case, Region

FORMAT = "dicom-seg"
SCHEME = "99LANNUNET"  # coding scheme for a data set's own codes
CODE, MEANING = 16, 64  # characters, limits of a code's value and meaning


def check_sources(cases: Sequence[Case], files: ImageFiles, folder: Path) -> dict[str, Path]:
    """The file of each case by its id, if each consists of DICOM images that a segmentation can refer to.

    Args:
        cases: Cases to be segmented.
        files: Reader of their images.
        folder: Output folder.

    Raises:
        UserError: highdicom is not installed; a case has other files, or a file with several frames.
    """
    if find_spec("highdicom") is None or find_spec("pydicom") is None:
        raise UserError(
            f"--format {FORMAT}: needs highdicom. Install it with pip install 'lannunet-segmentation[dicom]'."
        )
    targets = {}
    for case in cases:
        parts = files.parts(case.images[0])
        if len(case.images) > 1 or image_format(parts[0]) != "DICOM":
            raise UserError(
                f"--format {FORMAT}: {case.images[0]} is not a DICOM image, so a DICOM file cannot refer to "
                "it. Leave --format out."
            )
        if len(parts) == 1 and files.header(parts[0], 3).size[2] > 1:
            raise UserError(
                f"--format {FORMAT}: {case.images[0]} holds several frames, and only slices that are files "
                "are referred to. Leave --format out."
            )
        targets[case.id] = inside(folder, f"{case.id}.dcm", str(case.images[0]))
    return targets


def write_dicom_seg(
    path: Path, labels: NDArray[np.integer[Any]], sources: Sequence[Path], compared: Sequence[Region]
) -> None:
    """Write a binary segmentation with one segment per class or region.

    Args:
        path: The file.
        labels: ([z,] y, x) label values, in the order of `sources`.
        sources: The DICOM file of each slice.
        compared: The classes or regions, in the order of the segments.

    Raises:
        UserError: A source lacks a tag that every DICOM object has.
    """
    import highdicom
    import pydicom
    from highdicom import seg
    from pydicom.sr.codedict import codes

    images = [pydicom.dcmread(source, stop_before_pixels=True) for source in sources]
    frames = labels.reshape(len(images), *labels.shape[-2:])
    masks = np.stack([region.mask(frames) for region in compared], axis=-1).astype(np.uint8)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        "LannU-Net", codes.DCM.ArtificialIntelligence, __version__
    )
    segments = [
        seg.SegmentDescription(
            number,
            region.name[:MEANING],
            codes.SCT.AnatomicalStructure,
            highdicom.sr.CodedConcept(f"label {number}"[:CODE], SCHEME, region.name[:MEANING]),
            seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_uid=highdicom.UID(),
            tracking_id=region.name,
        )
        for number, region in enumerate(compared, 1)
    ]
    try:
        made = seg.Segmentation(
            images,
            masks,
            seg.SegmentationTypeValues.BINARY,
            segments,
            series_instance_uid=highdicom.UID(),
            series_number=1,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="LannU-Net",
            manufacturer_model_name="LannU-Net",
            software_versions=__version__,
            device_serial_number="1",
            omit_empty_frames=bool(masks.any()),
        )
    except AttributeError as error:  # a tag that is copied from the image
        raise UserError(f"{sources[0]}: lacks a tag that is needed ({error}).") from None
    with atomic_path(path) as temporary:
        made.save_as(temporary)
