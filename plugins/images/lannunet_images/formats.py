"""The formats, in the order in which they are tried."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from lannunet_core import ImageFormat
from lannunet_images import arrays, dicom, medical, metaimage, nifti, pictures, tiff


def _starts(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(marks)


def _any(read: Callable[..., Any], *name: str) -> Callable[[Path, int | None], Any]:
    """Adapt a reader that does not depend on the number of dimensions."""
    return lambda path, _dimensions: read(path, *name)


def _png_reader(path: Path) -> ModuleType:
    """The reader of a PNG; Pillow would reduce 16-bit colours to 8 bits."""
    with path.open("rb") as file:
        return medical if file.read(25)[24:] == b"\x10" else pictures


FORMATS = (
    ImageFormat(
        "DICOM",
        (".dcm", ".dicom", ".ima"),
        dicom.matches,
        _any(medical.stated, "DICOM"),
        _any(medical.pixels, "DICOM"),
        by_name_too=True,  # old files lack the preamble
        series=dicom.series_of,
    ),
    ImageFormat(
        "PNG",
        (".png",),
        _starts(b"\x89PNG\r\n\x1a\n"),
        lambda path, _: _png_reader(path).stated(path, "PNG"),
        lambda path, _: _png_reader(path).pixels(path, "PNG"),
    ),
    ImageFormat(
        "JPEG",
        (".jpg", ".jpeg"),
        _starts(b"\xff\xd8\xff"),
        _any(pictures.stated, "JPEG"),
        _any(pictures.pixels, "JPEG"),
    ),
    ImageFormat(
        "TIFF",
        (".tif", ".tiff"),
        _starts(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        _any(tiff.stated),
        _any(tiff.pixels),
    ),
    ImageFormat("BMP", (".bmp",), _starts(b"BM"), _any(pictures.stated, "BMP"), _any(pictures.pixels, "BMP")),
    ImageFormat(
        "NRRD", (".nrrd",), _starts(b"NRRD"), _any(medical.stated, "NRRD"), _any(medical.pixels, "NRRD")
    ),
    ImageFormat("NumPy", (".npy",), _starts(arrays.NPY), arrays.stated, arrays.pixels),
    ImageFormat("NumPy archive", (".npz",), _starts(arrays.ZIP), arrays.stated, arrays.pixels),
    ImageFormat("NIfTI", (".nii", ".nii.gz"), nifti.matches, _any(nifti.stated), _any(nifti.pixels)),
    ImageFormat(
        "MetaImage",
        (".mha", ".mhd"),
        lambda head: b"NDims" in head,
        _any(metaimage.stated),
        _any(metaimage.pixels),
    ),
)
