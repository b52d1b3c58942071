"""DICOM, NRRD and PNG of 16 bits, read with SimpleITK."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Stated
from lannunet_images import dicom
from lannunet_images.claims import RATIO, check_claim
from lannunet_images.pictures import png_chunks, png_orientation, upright, upright_size
from lannunet_images.placed import placed

READERS = {"PNG": "PNGImageIO", "DICOM": "GDCMImageIO", "NRRD": "NrrdImageIO"}
NRRD_BITS = {"8": 8, "char": 8, "16": 16, "short": 16, "32": 32, "int": 32, "64": 64, "long": 64}


def stated(path: Path, name: str) -> Stated:
    with _header(path, name) as reader:
        return _stated(path, name, reader)


def pixels(path: Path, name: str) -> NDArray[Any]:
    """The stored pixels (C, …, y, x); a DICOM image in which 0 is white is inverted."""
    with _header(path, name) as reader:
        channels = _stated(path, name, reader).channels
        if 0 in reader.GetSpacing():
            raise ValueError("it states a spacing of 0, for which SimpleITK reads no pixels")
        image = reader.Execute()
    array = _simpleitk().GetArrayFromImage(image)  # (…, z, y, x), components last
    several = image.GetNumberOfComponentsPerPixel() > 1
    array = np.moveaxis(array, -1, 0)[:channels] if several else array[None]
    return upright(array, png_orientation(path)) if name == "PNG" else array


def _simpleitk() -> Any:
    import SimpleITK as sitk

    return sitk


@contextmanager
def _header(path: Path, name: str) -> Iterator[Any]:
    """A SimpleITK reader that has read the file's header."""
    sitk = _simpleitk()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(READERS[name])
    reader.SetFileName(str(path))
    if name == "DICOM":
        dicom.check_lengths(path)
    if name == "PNG":
        for _ in png_chunks(path):  # each is checked
            pass
    reader.ReadImageInformation()
    yield reader


def _stated(path: Path, name: str, reader: Any) -> Stated:
    size, channels = tuple(reader.GetSize()), reader.GetNumberOfComponents()
    rank = len(size)
    if name == "PNG":
        check_claim(size, channels, path.stat().st_size * RATIO, 16)
        seen = upright_size(size, png_orientation(path))
        return Stated(seen, 3 if channels == 4 else channels)  # no alpha
    axes = np.reshape(reader.GetDirection(), (rank, rank))
    steps: list[float | None] = list(reader.GetSpacing())
    if name == "NRRD":
        fields = _check_nrrd(path, size, channels)
        words = fields.get("spacings", "nan " * rank).split()  # one more if there is an axis of channels
        if "space directions" not in fields and len(words) == rank:  # SimpleITK returns 1 if it is missing
            steps = [None if word == "nan" else step for word, step in zip(words, steps, strict=True)]
    else:
        dicom.check_size(path, reader, size, channels)
        steps = dicom.spacing(reader)
    return placed(size, channels, steps, reader.GetOrigin(), axes)


def _check_nrrd(path: Path, size: tuple[int, ...], channels: int) -> dict[str, str]:
    """Compare the header with the file, and return the header's fields."""
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(1 << 16).decode("latin-1").strip(), "")
        pairs = (line.partition(":") for line in lines)
        fields = {key.strip().lower(): value.strip().lower() for key, colon, value in pairs if colon}
        start = file.tell()
    held: float | None = path.stat().st_size - start
    encoding = fields.get("encoding", "raw")
    if "data file" in fields or "datafile" in fields or encoding not in ("raw", "gzip", "gz"):
        held = None
    elif encoding != "raw":
        held = (path.stat().st_size - start) * RATIO
    bits = next((bits for word, bits in NRRD_BITS.items() if word in fields.get("type", "")), 8)
    check_claim(size, channels, held, bits)
    return fields
