"""DICOM slices as a volume: sorted by position, each position once, without gaps.

A folder of slices is given like an image file. If it has several series, FOLDER/SeriesInstanceUID names one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lannunet_core import (
    Floats,
    Header,
    Image,
    Placement,
    UserError,
    echo,
    image_format,
    read_image,
    terminal_text,
)
from lannunet_images import dicom

UID = re.compile(r"(?=.{3,64}$)[0-9]+(\.[0-9]+)+")
POSITION, ORIENTATION = "0020|0032", "0020|0037"
TITLE = "0008|103e"
TURNED = 1e-3
"""Maximum difference of a direction cosine between slices of one series."""
SAME_PLACE = 0.01
"""Slices closer than this share of a step have the same position."""
UNEVEN = 0.1
"""Maximum deviation of a distance between slices, as a share of a step: scanners round."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One file of a series.

    Attributes:
        path: The file.
        series: Its SeriesInstanceUID.
        title: Its SeriesDescription; empty if there is none.
        size: (x, y) in pixels.
        spacing: mm per pixel (x, y); None for an unknown one.
        position: World coordinates of its first pixel's centre, (3,) in mm.
        axes: (2, 3) the directions of its rows (x) and columns (y).
    """

    path: Path
    series: str
    title: str
    size: tuple[int, int]
    spacing: tuple[float | None, float | None]
    position: Floats
    axes: Floats


@dataclass(frozen=True)
class Series:
    """A volume of slices.

    Attributes:
        files: One per slice, in order along the normal of the slices.
        header: Size (x, y, z), spacing and placement.
    """

    files: tuple[Path, ...]
    header: Header

    def read(self) -> Image:
        """Read the pixels (C, z, y, x)."""
        slices = [read_image(path, 3).pixels for path in self.files]
        channels = {len(pixels) for pixels in slices}
        if len(channels) > 1:
            raise UserError(
                f"{self.files[0].parent}: its slices have {sorted(channels)} channels; all slices of a "
                "volume have the same number. Remove slices that are not part of it."
            )
        return Image(np.concatenate(slices, 1), self.header.spacing)


def folder_of(path: Path) -> Path | None:
    """The folder of the DICOM slices that a path may name; None: it is a file, or does not exist."""
    if path.is_dir():
        return path
    named = UID.fullmatch(path.name) and not path.exists() and path.parent.is_dir()
    return path.parent if named else None


def is_series(path: Path) -> bool:
    """Whether a path names DICOM slices: a folder of them, or one of the series in a folder."""
    try:
        return folder_of(path) is not None and bool(slices_in(path))
    except (OSError, ValueError):  # it is too long, or not a path
        return False


def image_name(path: Path) -> str:
    """The name of an image: that of its file or folder, or FOLDER_UID for a series in a folder."""
    if path.exists() or folder_of(path) is None:
        return path.name
    return f"{path.parent.resolve().name}_{path.name}"


def slices_in(path: Path) -> list[Path]:
    """The DICOM files of a folder, or of the series FOLDER/SeriesInstanceUID."""
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and _is_dicom(file))
    return list(series_in(path.parent).get(path.name, ()))


def series_in(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """The DICOM files of a folder by SeriesInstanceUID; "" for files that state none, or are damaged."""
    return _series_in(_dated(slices_in(folder)))


def read_series(path: Path) -> Series:
    """The volume of DICOM slices.

    A duplicate slice, identical in all pixels, is left out with a warning.

    Args:
        path: The folder of the slices, or FOLDER/SeriesInstanceUID if it has several series.

    Raises:
        UserError: The files are not the slices of one series, or a slice is missing.
    """
    return _read_series(path, _dated(slices_in(path)))


def title_of(path: Path) -> str:
    """The SeriesDescription of a slice; empty if there is none."""
    return _slice(path).title


Dated = tuple[tuple[Path, int], ...]


def _dated(files: Sequence[Path]) -> Dated:
    """Files with their modification times: cached results are valid until these change."""
    return tuple((path, path.stat().st_mtime_ns) for path in files)


@lru_cache(maxsize=64)
def _series_in(dated: Dated) -> Mapping[str, tuple[Path, ...]]:
    found: dict[str, list[Path]] = {}
    for path, _ in dated:
        found.setdefault(dicom.series_of(path), []).append(path)
    return {series: tuple(files) for series, files in found.items()}


@lru_cache(maxsize=64)
def _read_series(path: Path, dated: Dated) -> Series:
    where = terminal_text(path)
    if len(dated) < 2:
        count, kind = len(dated) or "no", "folder" if path.is_dir() else "series"
        raise UserError(
            f"{where}: is a {kind} with {count} DICOM file{'s' * (not dated)}, not a series of slices. Name "
            "an image file, or the folder of a series."
        )
    slices = [_slice(path) for path, _ in dated]
    _check_one_series(where, slices)
    _check_alike(where, slices)
    axes = slices[0].axes
    normal = np.cross(*axes)
    ordered = sorted(slices, key=lambda one: float(one.position @ normal))
    places = np.array([one.position @ normal for one in ordered])
    step = float(np.median(np.diff(places)[np.diff(places) > 0])) if np.ptp(places) else 0.0
    if not step:
        raise UserError(
            f"{where}: its {len(slices)} DICOM files have the same Image Position, so they are not a volume. "
            "Name the files one by one."
        )
    kept = _each_place_once(where, ordered, places, step)
    _check_gaps(where, kept, normal)
    between = (kept[-1].position - kept[0].position) / (len(kept) - 1)  # slanted under a tilted gantry
    thick = float(np.linalg.norm(between))
    x, y = kept[0].spacing
    spacing = None if x is None or y is None else (x, y, thick)
    direction = np.column_stack([*axes, between / thick])
    placement = Placement((x or 1.0, y or 1.0, thick), tuple(kept[0].position.tolist()), direction)
    channels = len(read_image(kept[0].path, 3).pixels)
    size = (*kept[0].size, len(kept))
    return Series(tuple(one.path for one in kept), Header(size, channels, spacing, placement))


def _is_dicom(path: Path) -> bool:
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR":
        return False
    try:
        return image_format(path) == "DICOM"
    except UserError:
        return False


def _slice(path: Path) -> Slice:
    """The slice described by a file's header.

    Raises:
        UserError: The file is damaged, or is not a slice with a position.
    """
    import SimpleITK as sitk

    reader: Any = sitk.ImageFileReader()  # type: ignore[no-untyped-call]
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        dicom.check_lengths(path)
        reader.ReadImageInformation()
    except (RuntimeError, ValueError, OSError):
        raise UserError(f"{path}: damaged or unusual DICOM image. Copy it again.") from None
    size = tuple(reader.GetSize())
    if len(size) > 2 and size[2] > 1:
        raise UserError(
            f"{path}: is a volume of {size[2]} frames, not a slice. Move it to another folder, or name the "
            "file."
        )
    position, axes = (_numbers(reader, tag) for tag in (POSITION, ORIENTATION))
    if len(position) != 3 or len(axes) != 6:
        raise UserError(
            f"{path}: has no Image Position and Image Orientation, so its folder is not a volume. Move it to "
            "another folder, or export the series again."
        )
    x, y = dicom.spacing(reader)[:2]
    series, title = (_text(reader, tag) for tag in (dicom.SERIES, TITLE))
    return Slice(
        path, series, title, (size[0], size[1]), (x, y), np.array(position), np.array(axes).reshape(2, 3)
    )


def _text(reader: Any, tag: str) -> str:
    return str(reader.GetMetaData(tag)).strip(" \0") if reader.HasMetaDataKey(tag) else ""


def _numbers(reader: Any, tag: str) -> list[float]:
    try:
        numbers = [float(part) for part in _text(reader, tag).split("\\")]
    except ValueError:
        return []
    return numbers if np.isfinite(numbers).all() else []


def _check_one_series(where: str, slices: Sequence[Slice]) -> None:
    found: dict[str, list[Slice]] = {}
    for one in slices:
        found.setdefault(one.series, []).append(one)
    if len(found) > 1:
        named = [
            f"{terminal_text(members[0].title or 'without a title')[:60]} ({len(members)} files, "
            f"such as {terminal_text(members[0].path.name)}, UID {terminal_text(series) or 'missing'})"
            for series, members in list(found.items())[:4]
        ]
        raise UserError(
            f"{where}: has {len(found)} DICOM series, but one volume is needed: {', '.join(named)}. Name one "
            f"by its UID ({where}/{terminal_text(next(filter(None, found), 'UID'))}), or move each to a "
            "separate folder."
        )


def _check_alike(where: str, slices: Sequence[Slice]) -> None:
    first = slices[0]
    for one in slices[1:]:
        for what, found, wanted in (("size", one.size, first.size), ("spacing", one.spacing, first.spacing)):
            if found != wanted:
                raise UserError(
                    f"{where}: the {what} of {one.path.name} is {_times(found)}, that of {first.path.name} "
                    f"{_times(wanted)}; it must be equal for all slices of a volume. Remove slices that are "
                    "not part of it."
                )
        if not np.allclose(one.axes, first.axes, rtol=0, atol=TURNED):
            raise UserError(
                f"{where}: {one.path.name} is rotated relative to {first.path.name} (Image Orientation), but "
                "the slices of a volume are parallel. Remove slices that are not part of it."
            )


def _each_place_once(where: str, ordered: Sequence[Slice], places: Floats, step: float) -> list[Slice]:
    """The slices without duplicates, which a warning names."""
    kept = [ordered[0]]
    left = []
    for one, place, before in zip(ordered[1:], places[1:], places[:-1], strict=True):
        if place - before > SAME_PLACE * step:
            kept.append(one)
            continue
        if not np.array_equal(read_image(one.path, 3).pixels, read_image(kept[-1].path, 3).pixels):
            raise UserError(
                f"{where}: {kept[-1].path.name} and {one.path.name} have the same position and different "
                "pixels. Remove the one that is not part of the volume."
            )
        left.append(one.path.name)
    if left:
        named = ", ".join(terminal_text(name) for name in left[:5])
        echo(f"warning: {where}: duplicate slices are left out: {named}", err=True)
    return kept


def _check_gaps(where: str, kept: Sequence[Slice], normal: Floats) -> None:
    places = np.array([one.position @ normal for one in kept])
    steps = np.diff(places)
    step = float(np.median(steps))
    uneven = np.flatnonzero(np.abs(steps - step) > UNEVEN * step)
    if not uneven.size:
        return
    at = int(uneven[np.abs(steps[uneven] - step).argmax()])
    before, after = (terminal_text(one.path.name) for one in kept[at : at + 2])
    missing = round(steps[at] / step) - 1
    if missing >= 1 and abs(steps[at] / step - 1 - missing) < UNEVEN:
        count = "a slice is" if missing == 1 else f"{missing} slices are"
        raise UserError(
            f"{where}: {count} missing between {before} and {after}, which are {steps[at]:.4g} mm apart, "
            f"others {step:.4g} mm. Export the series again."
        )
    raise UserError(
        f"{where}: {before} and {after} are {steps[at]:.4g} mm apart, other slices {step:.4g} mm; the slices "
        "of a volume are equidistant. Resample it to one file (.nii.gz, .mha)."
    )


def _times(numbers: Sequence[float | None]) -> str:
    return "×".join("unknown" if number is None else f"{number:g}" for number in numbers)
