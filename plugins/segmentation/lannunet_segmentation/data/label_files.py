"""Label maps as files: read and checked against the classes, and written in the geometry of their image.

Arrays are (*S), sizes (x, y[, z]). A voxel that nobody annotated is `IGNORE`, whatever the files call it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from lannunet_core import IMAGE_FILES, ImageFiles, UserError, atomic_path, image_format
from lannunet_segmentation.data.headers import file_geometry
from lannunet_segmentation.types import IGNORE, Geometry, Labels, SegmentationDataset, SegmentedCase

INTEGER_TOLERANCE = 1e-3  # files of scaled numbers round
PICTURES = (".png", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd")


def read_label(path: Path, dataset: SegmentationDataset) -> tuple[Labels, Geometry]:
    """A label map (*S) with `IGNORE` where nobody annotated, and where its voxels lie.

    Args:
        path: A label file.
        dataset: What it belongs to: its classes and ignore label.

    Raises:
        UserError: It holds numbers that are not integers, or none of the classes.
    """
    pixels = _label_pixels(path, dataset.dimensions, dataset.files)
    return as_labels(pixels, path, dataset), file_geometry(path, dataset.dimensions, dataset.files)


def as_labels(values: NDArray[Any], path: Path, dataset: SegmentationDataset) -> Labels:
    """Values of any number type as labels of this data set; `path` names them in messages."""
    if values.dtype.kind == "f":
        whole = np.rint(values)
        fractions = ~(np.abs(whole - values) <= INTEGER_TOLERANCE)  # NaN too
        if fractions.any():
            raise UserError(
                f"{path}: holds {values[fractions][0]:g}, which is no integer. Labels are whole numbers; was "
                "it resampled with linear interpolation, or is it an image?"
            )
        values = whole
    highest = len(dataset.class_names) - 1 if dataset.ignore is None else dataset.ignore
    for value in (values.min(), values.max()):
        if not IGNORE <= value <= highest:
            names = ", ".join(f"{index} {name}" for index, name in enumerate(dataset.class_names))
            more = "" if dataset.ignore is None else f", {dataset.ignore} ignore"
            raise UserError(
                f"{path}: holds the label {value:g}, which is none of the classes ({names}{more}; −1 is not "
                "annotated). Declare it in dataset.json, or correct the label."
            )
    labels = values.astype(np.int16)
    if dataset.ignore is not None:
        labels[labels == dataset.ignore] = IGNORE
    return labels


def write_label(path: Path, label: Labels, geometry: Geometry) -> None:
    """Write a label map in the geometry of its image.

    Volumes are signed 16-bit; pictures, which have no sign, are 8-bit where that is enough.

    Args:
        path: Its suffix is the format. Its folder exists.
        label: (*S).
        geometry: Of the image that was segmented.

    Raises:
        UserError: The format cannot hold labels, or not these.
    """
    if label.shape != geometry.size[::-1]:
        raise ValueError(f"label {label.shape} for an image of size {geometry.size}")
    suffix = next((each for each in (*VOLUMES, *PICTURES) if path.name.lower().endswith(each)), None)
    if suffix is None or (suffix in PICTURES and geometry.axes != 2):
        supported = ", ".join(VOLUMES if geometry.axes == 3 else (*VOLUMES, *PICTURES))
        raise UserError(f"{path}: labels of this image cannot be written so. Choose one of {supported}.")
    if suffix in PICTURES:
        if label.min(initial=0) < 0:
            raise UserError(f"{path}: a picture cannot hold −1. Choose one of {', '.join(VOLUMES)}.")
        label = cast(Labels, label.astype(np.uint8 if label.max(initial=0) < 256 else np.uint16))
    import SimpleITK as sitk

    spacing = geometry.spacing
    if geometry.axes > len(spacing):
        label, spacing = label[None], (*spacing, geometry.thickness)
    image: Any = sitk.GetImageFromArray(label)
    image.SetSpacing(spacing)
    image.SetOrigin(geometry.origin)
    image.SetDirection(geometry.direction)
    with atomic_path(path) as temporary:
        sitk.WriteImage(image, str(temporary), useCompression=suffix != ".mhd")


def read_prediction(case: SegmentedCase) -> Labels:
    """The label map (*S) of a case, as its file holds it now."""
    pixels = _label_pixels(case.predicted, len(_geometry(case).size), IMAGE_FILES)
    return np.asarray(np.rint(pixels), np.int16)


def rewrite_prediction(case: SegmentedCase, labels: NDArray[np.integer[Any]]) -> None:
    """Write another label map (*S) in the place of a case's, for `postprocess_all`."""
    write_label(case.predicted, np.asarray(labels, np.int16), _geometry(case))


def _geometry(case: SegmentedCase) -> Geometry:
    if case.geometry is None:
        raise ValueError(f"the geometry of {case.id} is not known")
    return case.geometry


def writable_ending(dataset: SegmentationDataset) -> str:
    """What predicted label files end in: as the data set's own do, unless only a plugin knows those."""
    ending = dataset.file_ending
    known = ending.lower().endswith((*VOLUMES, *PICTURES))
    foreign = not known and dataset.files.reader(Path(f"label{ending}")) is not None
    return ".nii.gz" if foreign or dataset.layout == "preprocessed" else ending


def _label_pixels(path: Path, dimensions: int, files: ImageFiles) -> NDArray[Any]:
    """(*S) as stored."""
    if files.reader(path) is None and image_format(path) == "PNG":
        from PIL import Image

        with Image.open(path) as picture:
            if picture.mode == "P":
                return np.asarray(picture)  # the palette only says how to show the labels
    pixels = files.read(path, dimensions).pixels
    if len(pixels) != 1:
        raise UserError(f"{path}: has {len(pixels)} channels; a label file has one number a voxel.")
    return cast(NDArray[Any], pixels[0])
