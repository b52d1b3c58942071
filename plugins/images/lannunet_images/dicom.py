"""DICOM: the spacing in its tags, and a check that its elements fit into the file."""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lannunet_core import UserError
from lannunet_images.claims import RATIO, check_claim

# mm per pixel, first of rows and then of columns. The first tag that is present is used: in the patient
# (calibrated), on the detector (larger by the magnification), on the scanned film.
PIXEL_SPACING, IMAGER_SPACING, SCANNED_SPACING = "0028|0030", "0018|1164", "0018|2010"
MAGNIFICATION, ASPECT, BETWEEN_SLICES = "0018|1114", "0028|0034", "0018|0088"
SERIES, BITS, SAMPLES = "0020|000e", "0028|0100", "0028|0002"
TRANSFER_SYNTAX = b"\x02\x00\x10\x00UI"
RATIOS = {  # maximum compression ratio by prefix of the transfer syntax: JPEG 2000 and similar, then others
    b"1.2.840.10008.1.2.4.8": 20 * RATIO,
    b"1.2.840.10008.1.2.4.9": 20 * RATIO,
    b"1.2.840.10008.1.2.4.2": 20 * RATIO,
    b"1.2.840.10008.1.2.4": RATIO,
    b"1.2.840.10008.1.2.5": RATIO,
    b"1.2.840.10008.1.2.1.99": RATIO,
}
IMPLICIT, DEFLATED, BIG_ENDIAN = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2"
LONG_KINDS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
UNDEFINED = 0xFFFFFFFF
META, ITEM, PIXELS = 0x0002, 0xFFFE, 0x7FE0


def matches(head: bytes) -> bool:
    """Whether a file is DICOM, regardless of its preamble."""
    return head[128:132] == b"DICM"


def spacing(reader: Any) -> list[float | None]:
    """mm per pixel (x, y[, z]). SimpleITK chooses the tag by the kind of image, and returns 1 for none."""
    between: list[float | None] = list(reader.GetSpacing()[2:])
    if between == [1] and not reader.HasMetaDataKey(BETWEEN_SLICES):
        between = [None]
    return [*_in_plane(reader), *between]


def _in_plane(reader: Any) -> list[float | None]:
    pixel, imager, scanned = (_tag(reader, tag) for tag in (PIXEL_SPACING, IMAGER_SPACING, SCANNED_SPACING))
    if imager and len(magnified := _tag(reader, MAGNIFICATION)) == 1:
        imager = [step / magnified[0] for step in imager]
    for rows_columns in (pixel, imager, scanned):
        if len(rows_columns) == 2:
            return [rows_columns[1], rows_columns[0]]
    spacing = list(reader.GetSpacing()[:2])  # newer files have it inside sequences
    elsewhere = not any(map(reader.HasMetaDataKey, (PIXEL_SPACING, IMAGER_SPACING, SCANNED_SPACING, ASPECT)))
    return spacing if elsewhere and spacing != [1, 1] else [None, None]


def _tag(reader: Any, tag: str) -> list[float]:
    """The absolute values of a DICOM tag's numbers; empty if it is absent or one is 0."""
    if not reader.HasMetaDataKey(tag) or not (text := reader.GetMetaData(tag).strip(" \0")):
        return []
    try:
        numbers = [abs(float(number)) for number in text.split("\\")]
    except ValueError:  # SimpleITK would return arbitrary numbers
        raise UserError(
            f"its DICOM tag ({tag.replace('|', ',')}) is {text!r}, not numbers. Correct the tag."
        ) from None
    return numbers if all(0 < number < np.inf for number in numbers) else []


def check_size(path: Path, reader: Any, size: tuple[int, ...], channels: int) -> None:
    syntax = _syntax(path)
    ratio = next((ratio for start, ratio in RATIOS.items() if syntax.startswith(start)), 1)
    check_claim(size, channels)
    bits, samples = ((_tag(reader, tag) or [least])[0] for tag, least in ((BITS, 8), (SAMPLES, 1)))
    shared = 2 if samples > 1 else 1  # pixels may share their colours
    check_claim(size, 1, path.stat().st_size * ratio, bits * samples / shared)


def _syntax(path: Path) -> bytes:
    """The transfer syntax; if none is stated, that of old files without a preamble."""
    with path.open("rb") as file:
        _, found, after = file.read(4096).partition(TRANSFER_SYNTAX)
    return after[2 : 2 + int.from_bytes(after[:2], "little")].strip(b" \0") if found else IMPLICIT


def check_lengths(path: Path) -> None:
    """Refuse a file with an invalid element, or one longer than the file: GDCM allocates memory unchecked.

    Raises:
        ValueError: There is such an element.
    """
    size, syntax = path.stat().st_size, _syntax(path)
    begun = nested = fragments = False  # fragments: compressed pixels, items without elements
    with path.open("rb") as file:
        file.seek(128)
        if file.read(4) != b"DICM":
            file.seek(4)
            syntax = b"" if file.read(2).isalpha() else IMPLICIT
            file.seek(0)
        while file.tell() + 8 <= size:
            (group,) = struct.unpack("<H", file.read(2))
            file.seek(-2, 1)
            if group != META and syntax == DEFLATED:
                return
            length = _length(file, group == META, syntax)
            if length is None:
                if nested:
                    return  # some scanners write sequences in another syntax
                if group == META or begun:
                    raise ValueError(f"no DICOM element follows its first {file.tell()} bytes")
                file.seek(-8, 1)
                syntax, begun = IMPLICIT, True  # as GDCM reads it in that case
                continue
            begun = begun or group != META
            fragments = fragments or (group == PIXELS and length == UNDEFINED)
            if length == UNDEFINED or (group == ITEM and not fragments):
                nested = True  # its content follows
                continue
            if length > size - file.tell():
                raise ValueError(f"an element claims {length} of {size - file.tell()} bytes")
            file.seek(length, 1)


def _length(file: BinaryIO, is_meta: bool, syntax: bytes) -> int | None:
    """The length of the element that starts here; None: there is none. Its value is the next to be read."""
    order = ">" if syntax == BIG_ENDIAN and not is_meta else "<"
    head = file.read(8)
    kind = head[4:6]
    if struct.unpack(order + "H", head[:2])[0] == ITEM or (syntax == IMPLICIT and not is_meta):
        return int(struct.unpack(order + "I", head[4:])[0])
    if not (kind.isalpha() and kind.isupper()):
        return None
    if kind not in LONG_KINDS:
        return int(struct.unpack(order + "H", head[6:])[0])
    more = file.read(4)
    if kind == b"SQ":
        return UNDEFINED
    return int(struct.unpack(order + "I", more)[0]) if len(more) == 4 else None


def series_of(path: Path) -> str:
    """The series of a DICOM file; "" if it states none, or is damaged, which is reported when it is read."""
    import SimpleITK as sitk

    reader: Any = sitk.ImageFileReader()  # type: ignore[no-untyped-call]
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        check_lengths(path)
        reader.ReadImageInformation()
    except (RuntimeError, ValueError, OSError, UserError):
        return ""
    return str(reader.GetMetaData(SERIES)).strip(" \0") if reader.HasMetaDataKey(SERIES) else ""
