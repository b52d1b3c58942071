"""Label maps as files: read and checked against the classes, and written with the geometry of their image.

Arrays are (*S), sizes (x, y[, z]). A voxel without annotation is `IGNORE`, whatever its value in the files.
"""

from __future__ import annotations

import gzip
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from lannunet_images import IMAGE_FILES, ImageFiles
from numpy.typing import NDArray

from lannunet_core import RunFailed, UserError, atomic_path, image_format
from lannunet_segmentation.data.headers import LOSSY, file_geometry
from lannunet_segmentation.types import IGNORE, Case, Geometry, Labels, SegmentationDataset, SegmentedCase

INTEGER_TOLERANCE = 1e-3  # for rounding in files of scaled numbers
PERPENDICULAR = 1e-6
MOST_NAMED = 40  # classes in a message
PICTURES = (".png", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii", ".nii.gz", ".mha", ".nrrd")  # not .mhd, whose voxels are in a second file


def read_label(path: Path, dataset: SegmentationDataset) -> tuple[Labels, Geometry]:
    """Read a label map (*S) with `IGNORE` where there is no annotation, and its geometry.

    Args:
        path: A label file.
        dataset: Data set with its classes and ignore label.

    Raises:
        UserError: It contains numbers that are not integers, or not classes.
    """
    pixels = _label_pixels(path, dataset.dimensions, dataset.files)
    return as_labels(pixels, path, dataset), file_geometry(path, dataset.dimensions, dataset.files)


def as_labels(values: NDArray[Any], path: Path, dataset: SegmentationDataset) -> Labels:
    """Convert values of any number type to labels of this data set; `path` names them in messages."""
    if values.dtype.kind == "f":
        whole = np.rint(values)
        with np.errstate(invalid="ignore"):
            fractions = ~(np.abs(whole - values) <= INTEGER_TOLERANCE)  # also true for NaN and infinity
        if fractions.any():
            raise UserError(
                f"{path}: holds {values[fractions][0]:g}, which is no integer. Labels are whole numbers; was "
                "it resampled with linear interpolation, or is it an image?"
            )
        values = whole
    highest = len(dataset.class_names) - 1 if dataset.ignore is None else dataset.ignore
    for value in (values.min(), values.max()):
        if not IGNORE <= value <= highest:
            known = [f"{index} {name}" for index, name in enumerate(dataset.class_names)]
            names = ", ".join(known[:MOST_NAMED] + [f"… {known[-1]}"] * (len(known) > MOST_NAMED))
            more = "" if dataset.ignore is None else f", {dataset.ignore} ignore"
            raise UserError(
                f"{path}: holds the label {value:g}, which is not one of the classes ({names}{more}; −1 is "
                "not annotated). Declare it in dataset.json, or correct the label."
            )
    labels = values.astype(np.int16)
    if dataset.ignore is not None:
        labels[labels == dataset.ignore] = IGNORE
    return labels


def write_label(path: Path, label: Labels, geometry: Geometry) -> None:
    """Write a label map with the geometry of its image.

    Volumes are signed 16-bit; 2D images, which are unsigned, are 8-bit if that is sufficient.

    Args:
        path: Path, whose suffix is the format. Its folder exists.
        label: (*S).
        geometry: Geometry of the image that was segmented.

    Raises:
        UserError: The format cannot hold these labels.
        RunFailed: The file differs from what was written: the disk is full.
    """
    if label.shape != geometry.size[::-1]:
        raise ValueError(f"label {label.shape} for an image of size {geometry.size}")
    suffix = next((each for each in (*VOLUMES, *PICTURES) if path.name.endswith(each)), None)
    if suffix is None or (suffix in PICTURES and geometry.axes != 2):
        supported = ", ".join(VOLUMES if geometry.axes == 3 else (*VOLUMES, *PICTURES))
        raise UserError(f"{path}: labels of this image cannot have this format. Choose one of {supported}.")
    if suffix in PICTURES:
        if label.min(initial=0) < 0:
            raise UserError(f"{path}: a 2D image cannot hold −1. Choose one of {', '.join(VOLUMES)}.")
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
        # SimpleITK does not report a full disk, or raises an error of its own.
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            if suffix.startswith(".nii"):
                _keep_shear(temporary, geometry, spacing)
            held = _label_pixels(temporary, len(geometry.size), IMAGE_FILES)
            if suffix == ".png":
                _check_end(temporary)
        except (RuntimeError, OSError) as error:
            cause = str(error).strip().splitlines()[-1]
            raise RunFailed(f"{path}: could not be written. Is the disk full? ({cause})") from error
        except UserError as error:  # it cannot be read back
            raise RunFailed(f"{path}: could not be written as a whole. Is the disk full?") from error
        if not np.array_equal(held.ravel(), label.ravel()):
            raise RunFailed(f"{path}: does not hold what was written. Is the disk full?")


def _keep_shear(path: Path, geometry: Geometry, spacing: Sequence[float]) -> None:
    """Write the axes of a sheared image into a NIfTI file: SimpleITK writes perpendicular ones."""
    axes = np.reshape(geometry.direction, (geometry.axes, geometry.axes))
    if geometry.axes != 3 or np.allclose(axes.T @ axes, np.eye(3), atol=PERPENDICULAR):
        return
    rows = np.column_stack([axes * spacing, geometry.origin]) * [
        [-1],
        [-1],
        [1],
    ]  # x to the right, y to the front
    zipped = path.name.endswith(".gz")
    content = bytearray(gzip.decompress(path.read_bytes()) if zipped else path.read_bytes())
    struct.pack_into("=hh", content, 252, 0, 1)  # the codes: a matrix, not a quaternion
    struct.pack_into("=12f", content, 280, *rows.ravel())
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)


def _check_end(path: Path) -> None:
    """Raise an error if a PNG file lacks its last part, which has no pixels."""
    with path.open("rb") as file:
        file.seek(-8, 2)
        if file.read(4) != b"IEND":
            raise OSError("its end is missing")


def read_prediction(case: SegmentedCase) -> Labels:
    """Read the current label map (*S) of a case from its file."""
    pixels = _label_pixels(case.predicted, len(_geometry(case).size), IMAGE_FILES)
    return np.asarray(np.rint(pixels), np.int16)


def rewrite_prediction(case: SegmentedCase, labels: NDArray[np.integer[Any]]) -> None:
    """Replace the label map (*S) of a case, for `postprocess_all`."""
    write_label(case.predicted, np.asarray(labels, np.int16), _geometry(case))


def _geometry(case: SegmentedCase) -> Geometry:
    if case.geometry is None:
        raise ValueError(f"the geometry of {case.id} is not known")
    return case.geometry


def label_ending(case: Case, dataset: SegmentationDataset) -> str:
    """The suffix of a case's predicted label file: as of its image, if that format supports label maps."""
    name = case.images[0].name.lower()
    flat = dataset.dimensions == 2
    fitting = (*VOLUMES, *PICTURES) if flat else VOLUMES
    own = next((ending for ending in fitting if name.endswith(ending)), None)
    if own == ".bmp" and len(dataset.class_names) > 256:
        return ".png"
    if own is None or dataset.layout == "preprocessed":
        return ".png" if flat and name.endswith(LOSSY) else ".nii.gz"
    return own


def _label_pixels(path: Path, dimensions: int, files: ImageFiles) -> NDArray[Any]:
    """(*S) as stored."""
    if files.reader(path) is None:
        stored = _picture_labels(path, image_format(path))
        if stored is not None:
            return stored
    pixels = files.read(path, dimensions).pixels
    if len(pixels) != 1:
        raise UserError(f"{path}: has {len(pixels)} channels; a label file has one number per voxel.")
    return cast(NDArray[Any], pixels[0])


def _picture_labels(path: Path, name: str) -> NDArray[np.uint8] | None:
    """Labels of an image whose stored values differ from the shown ones; None: it has none, or is damaged.

    A palette only defines how to show the labels; grey of 2 or 4 bits is shown with its highest value as
    white.
    """
    if name not in ("PNG", "TIFF", "BMP"):
        return None
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damage is reported when the file is read
            with Image.open(path) as picture:
                if getattr(picture, "n_frames", 1) > 1 or picture.mode not in ("P", "L"):
                    return None
                mode, stored = picture.mode, np.asarray(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    if mode == "P":
        return stored
    with path.open("rb") as file:
        bits = file.read(25)[24]
    return stored // (255 // (2**bits - 1)) if name == "PNG" and bits < 8 else None
