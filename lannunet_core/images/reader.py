"""Image files of every supported format as arrays (C, [z,] y, x), x to the right and y down.

The format is told by the file's first bytes; the suffix only decides where they are silent (DICOM without its
preamble). Pillow reads everyday pictures, NumPy its own files, SimpleITK the rest. SimpleITK returns
garbage, silently or with a line on stderr, for some damaged files: those are checked before it sees them.
"""

import gzip
import math
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from lannunet_core.errors import UserError
from lannunet_core.types import Floats

FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "DICOM": (".dcm", ".dicom", ".ima"),
    "NIfTI": (".nii", ".nii.gz"),
    "MetaImage": (".mha", ".mhd"),
    "NRRD": (".nrrd",),
    "NumPy": (".npy",),
    "NumPy archive": (".npz",),
}
MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"NRRD": "NRRD",
    b"\x93NUMPY": "NumPy",
    b"PK\x03\x04": "NumPy archive",
}
SIMPLEITK = {
    "PNG": "PNGImageIO",
    "TIFF": "TIFFImageIO",
    "DICOM": "GDCMImageIO",
    "NIfTI": "NiftiImageIO",
    "MetaImage": "MetaImageIO",
    "NRRD": "NrrdImageIO",
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
DEEP_MODES = ("I;16", "I;16B", "F")  # of Pillow: grey of 16 bits, or floats
DICOM_SPACING = ("0028|0030", "0018|1164", "0018|2010")  # pixel, imager pixel, nominal scanned pixel
META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}


@dataclass(frozen=True)
class Header:
    """What an image file says of itself.

    Attributes:
        size: (x, y[, z]) in pixels.
        channels: C.
        spacing: mm per pixel (x, y[, z]); None where the file states none.
    """

    size: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...] | None


@dataclass(frozen=True)
class Image:
    """An image as it is stored.

    Attributes:
        pixels: (C, [z,] y, x) in the file's own number type.
        spacing: mm per pixel (x, y[, z]); None where the file states none.
    """

    pixels: NDArray[Any]
    spacing: tuple[float, ...] | None


@dataclass(frozen=True)
class Placement:
    """Where the voxels of a medical file lie in the patient, as many axes as the file has.

    Attributes:
        spacing: mm per voxel.
        origin: World position of the first voxel.
        direction: The direction matrix, (axes, axes).
    """

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: Floats


def image_format(path: Path) -> str:
    """The format of a file by its content, of `FORMATS`.

    Raises:
        UserError: The file cannot be opened, or holds none of the formats.
    """
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    if not head:
        raise UserError(f"{path}: is empty. Copy the image again.")
    for magic, name in MAGIC.items():
        if head.startswith(magic):
            return name
    if head[128:132] == b"DICM":
        return "DICOM"
    if _nifti_version(_unzipped(head)):
        return "NIfTI"
    if b"NDims" in head:
        return "MetaImage"
    suffix = _suffix(path)
    if suffix in FORMATS["DICOM"]:
        return "DICOM"  # old files lack the preamble
    known = next((name for name, suffixes in FORMATS.items() if suffix in suffixes), None)
    if known:
        raise UserError(f"{path}: is not a {known} image, whatever its name says. Copy or convert it again.")
    supported = ", ".join(SUFFIXES)
    raise UserError(f'{path}: unsupported image suffix "{suffix}". Convert it to one of {supported}.')


def image_header(path: Path, dimensions: int) -> Header:
    """Size, channels and spacing, without the pixels where the format allows; see `read_image`."""
    name = image_format(path)
    with _errors_named(path, name):
        if name.startswith("NumPy"):
            pixels = _read_numpy(path, name, dimensions)
            return Header(tuple(pixels.shape[:0:-1]), pixels.shape[0], None)
        if _is_picture(path, name):
            with _open_picture(path) as picture:
                channels = 3 if _plain_mode(picture.mode) == "RGB" else 1
                return Header(*_layout(picture.size, channels, dimensions), None)
        with _simpleitk_reader(path, name) as reader:
            channels = _channels(name, reader.GetNumberOfComponents())
            layout = _layout(reader.GetSize(), channels, dimensions)
            return Header(*layout, _spacing(path, name, reader, dimensions))


def image_placement(path: Path) -> Placement | None:
    """Where a file says that its voxels lie; None for the formats that say nothing."""
    name = image_format(path)
    if name not in ("NIfTI", "MetaImage", "NRRD", "DICOM"):
        return None
    with _errors_named(path, name), _simpleitk_reader(path, name) as reader:
        axes = reader.GetDimension()
        direction = np.reshape(reader.GetDirection(), (axes, axes))
        return Placement(tuple(reader.GetSpacing()), tuple(reader.GetOrigin()), direction)


def read_image(path: Path, dimensions: int) -> Image:
    """An image's pixels as they are stored, and its spacing, as a picture or a volume (`dimensions` 2 or 3).

    An alpha channel is dropped; a palette is resolved to RGB; the components of a vector image and the fourth
    axis of a volume are channels; a volume of one slice is a picture where `dimensions` is 2. An array of
    D + 1 axes holds its channels first, or last where only the last axis has 4 or fewer entries. A DICOM file
    where 0 is white (MONOCHROME1) is turned round, so that bright means bright.

    Raises:
        UserError: The file is damaged, of no supported format, or of another dimension.
    """
    name = image_format(path)
    with _errors_named(path, name):
        if name.startswith("NumPy"):
            pixels, spacing = _read_numpy(path, name, dimensions), None
        elif _is_picture(path, name):
            pixels, spacing = _read_picture(path), None
            _layout(pixels.shape[:0:-1], pixels.shape[0], dimensions)
        else:
            pixels, spacing = _read_simpleitk(path, name, dimensions)
        if pixels.size == 0 or pixels.dtype.kind not in "biuf":
            raise ValueError(f"it holds {pixels.shape} entries of type {pixels.dtype}, no grey values")
    if pixels.dtype.kind == "b":
        pixels = pixels.view(np.uint8)
    return Image(pixels, spacing)


def _suffix(path: Path) -> str:
    lower = path.name.lower()
    return ".nii.gz" if lower.endswith(".nii.gz") else Path(lower).suffix


@contextmanager
def _errors_named(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except MemoryError:
        raise UserError(f"{path}: this {name} image does not fit into memory.") from None
    except Exception as error:  # a damaged file makes the libraries raise anything
        # SimpleITK's text is several lines of C++; the last one says what is wrong.
        lines = str(error).strip().splitlines() or [repr(error)]
        cause = lines[-1].rpartition("): ")[2].rstrip(".")
        raise UserError(
            f"{path}: damaged or unusual {name} image: {cause}. Copy or convert it again."
        ) from None


def _layout(size: tuple[int, ...], channels: int, dimensions: int) -> tuple[tuple[int, ...], int]:
    """Size (x, y[, z]) and channels as D dimensions take them: single slices and a fourth axis folded."""
    while len(size) > dimensions and size[-1] == 1:
        size = size[:-1]
    if len(size) == dimensions + 1 == 4 and channels == 1:
        size, channels = size[:-1], size[-1]
    if len(size) != dimensions:
        shape = "×".join(map(str, size))
        raise UserError(f"a {len(size)}D image ({shape}) where the coordinates are {dimensions}D.")
    return size, channels


# NumPy


def _read_numpy(path: Path, name: str, dimensions: int) -> NDArray[Any]:
    if name == "NumPy":
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    else:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = archive.files
            chosen = names[0] if len(names) == 1 else next((n for n in ("image", "data") if n in names), None)
            if chosen is None:
                raise UserError(f"holds arrays {', '.join(names) or '(none)'}; call the image `image`.")
            array = archive[chosen]
    shape = array.shape
    if len(shape) == dimensions:
        return array[None]
    if len(shape) != dimensions + 1:
        raise UserError(f"an array of shape {shape} where the coordinates are {dimensions}D.")
    channels_last = shape[-1] <= 4 < shape[0]
    return np.moveaxis(array, -1, 0) if channels_last else array


# Pictures


def _is_picture(path: Path, name: str) -> bool:
    """Whether Pillow reads the file as it is; it would cut 16-bit colours down to 8 bits."""
    if name == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24:] != b"\x10"
    if name == "TIFF":
        try:
            with _open_picture(path) as picture:
                bits = max(picture.tag_v2.get(258, (1,)))
                return picture.n_frames == 1 and (bits <= 8 or picture.mode in DEEP_MODES)
        except (OSError, SyntaxError):
            return False
    return name in ("JPEG", "BMP")


def _open_picture(path: Path) -> Any:
    from PIL import Image as pillow

    pillow.MAX_IMAGE_PIXELS = None  # a large scan is no attack
    return pillow.open(path)


def _plain_mode(mode: str) -> str:
    if mode in DEEP_MODES:
        return mode
    return "L" if mode in ("1", "L", "LA", "La") else "RGB"


def _read_picture(path: Path) -> NDArray[Any]:
    with _open_picture(path) as picture:
        array = np.asarray(picture.convert(_plain_mode(picture.mode)))
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


# SimpleITK


def _simpleitk() -> Any:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # type: ignore[no-untyped-call]
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # type: ignore[no-untyped-call]
    return sitk


@contextmanager
def _simpleitk_reader(path: Path, name: str) -> Iterator[Any]:
    """A SimpleITK reader that has read the file's header."""
    sitk = _simpleitk()
    with tempfile.TemporaryDirectory() as folder:
        if name == "NIfTI":
            # Its library goes by the suffix, and takes a compressed file under a plain name for damaged.
            suffix = ".nii.gz" if _is_gzip(path) else ".nii"
            if _suffix(path) != suffix:
                path = Path(shutil.copyfile(path, Path(folder, "image" + suffix)))
        reader = sitk.ImageFileReader()
        reader.SetImageIO(SIMPLEITK[name])
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        yield reader


def _channels(name: str, components: int) -> int:
    return 3 if components == 4 and name in ("PNG", "TIFF") else components  # no alpha


def _read_simpleitk(path: Path, name: str, dimensions: int) -> tuple[NDArray[Any], tuple[float, ...] | None]:
    sitk = _simpleitk()
    if name == "NIfTI":
        _check_nifti(path)
    elif name == "MetaImage":
        _check_metaimage(path)
    with _simpleitk_reader(path, name) as reader:
        image = reader.Execute()
        spacing = _spacing(path, name, reader, dimensions)
    array = sitk.GetArrayFromImage(image)  # (…, z, y, x), and components last
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)[: _channels(name, array.shape[-1])]
    else:
        array = array[None]
    size, channels = _layout(array.shape[:0:-1], array.shape[0], dimensions)
    return array.reshape(channels, *size[::-1]), spacing


def _spacing(path: Path, name: str, reader: Any, dimensions: int) -> tuple[float, ...] | None:
    """SimpleITK says 1 for a file that says nothing; the resolution of a picture is that of its print."""
    spacing = tuple(float(step) for step in reader.GetSpacing()[:dimensions])
    if name == "NIfTI":
        return spacing
    if name == "DICOM":
        # Newer files keep it inside of sequences, which only the library looks into.
        stated = spacing != (1,) * dimensions or any(reader.HasMetaDataKey(key) for key in DICOM_SPACING)
    elif name == "MetaImage":
        stated = not {"ElementSpacing", "ElementSize"}.isdisjoint(_metaimage_header(path)[0])
    elif name == "NRRD":
        with path.open("rb") as file:
            fields = file.read(1 << 16).partition(b"\n\n")[0].lower()
        stated = b"\nspacings:" in fields or b"\nspace directions:" in fields
    else:
        stated = False
    return spacing if stated else None


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _unzipped(head: bytes) -> bytes:
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head, 1024)
    except zlib.error:
        return b""


def _nifti_version(head: bytes) -> int:
    if head[344:348] == b"n+1\0":
        return 1
    return 2 if head[4:8] == b"n+2\0" else 0


def _check_nifti(path: Path) -> None:
    """Raise where pixels are missing or the compressed stream is damaged: SimpleITK would give zeros."""
    with cast(BinaryIO, gzip.open(path) if _is_gzip(path) else path.open("rb")) as file:
        head = file.read(540)
        old = _nifti_version(head) == 1
        order = "<" if head[:4] in (b"\x5c\x01\0\0", b"\x1c\x02\0\0") else ">"

        def numbers(kind: str, offset: int, count: int = 1) -> list[Any]:
            values: list[Any] = np.frombuffer(head, np.dtype(order + kind), count, offset).tolist()
            return values

        rank, *shape = numbers("i2", 40, 8) if old else numbers("i8", 16, 8)
        places = (("i2", 72), ("f4", 108)) if old else (("i2", 14), ("i8", 168))
        bits, start = (numbers(*place)[0] for place in places)
        wanted = int(start) + math.prod(shape[:rank]) * bits // 8
        found = len(head)
        while chunk := file.read(1 << 22):
            found += len(chunk)
    if found < wanted:
        raise ValueError(f"{found} of {wanted} bytes")


def _metaimage_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields of a MetaImage's text header, and how many bytes it takes."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while "ElementDataFile" not in fields and (line := file.readline(1 << 16)):
            key, _, value = line.decode("latin-1").partition("=")
            fields[key.strip()] = value.strip()
        return fields, file.tell()


def _check_metaimage(path: Path) -> None:
    """Raise where pixels are missing or do not decompress: SimpleITK would give noise."""
    fields, start = _metaimage_header(path)
    source = fields.get("ElementDataFile", "")
    if source == "LIST" or "%" in source:
        return  # one file a slice, each with its own size
    if source.upper() != "LOCAL":
        path, start = path.parent / source, max(int(fields.get("HeaderSize", 0)), 0)
        if not path.is_file():
            raise FileNotFoundError(f"its pixels are missing ({path})")
    each = META_BYTES[fields["ElementType"].removeprefix("MET_").removeprefix("U").removesuffix("_ARRAY")]
    pixels = math.prod(int(n) for n in fields["DimSize"].split())
    wanted = pixels * each * int(fields.get("ElementNumberOfChannels", 1))
    with path.open("rb") as file:
        if fields.get("CompressedData", "").lower() == "true":
            file.seek(start)
            found = len(zlib.decompress(file.read(), wbits=47))  # zlib's header or gzip's
        else:
            found = file.seek(0, 2) - start
    if found < wanted:
        raise ValueError(f"{found} of {wanted} bytes")
