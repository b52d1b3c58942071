"""Headers of image and label files: the position of voxels, and whether files belong together.

Sizes and spacings are (x, y[, z]).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_images import IMAGE_FILES, ImageFiles

from lannunet_core import Header, UserError, echo, progress_bar
from lannunet_segmentation.data import preprocessed
from lannunet_segmentation.types import Case, Geometry, SegmentationDataset

SPACING_TOLERANCE = 1e-3  # relative, for rounding in files
TURNED = 0.5  # voxels: axes are parallel if they move no voxel by more
LOSSY = (".jpg", ".jpeg")
ORIENTATION = 274  # the tag of EXIF and TIFF
SHIFTED = 0.1  # voxels: larger distances are reported


@dataclass(frozen=True)
class Shift:
    """A file of a case with another world position than the case's first file.

    Attributes:
        path: The file.
        first: The case's first image.
        distance: Distance in mm.
    """

    path: Path
    first: Path
    distance: float


def case_geometry(case: Case, dataset: SegmentationDataset) -> Geometry:
    """The position of a case's voxels, from the header of its first file."""
    if dataset.layout == "preprocessed":
        return preprocessed.geometry(case.images[0], dataset.dimensions)
    return file_geometry(case.images[0], dataset.dimensions, dataset.files)


def check_cases(cases: Sequence[Case], dataset: SegmentationDataset, title: str = "checking cases") -> None:
    """Check by the headers that cases are complete; report files that are shifted or state no spacing.

    Raises:
        UserError: See `check_case`.
    """
    shifts: list[Shift] = []
    unmeasured, turned = [], []
    with progress_bar(title, len(cases)) as bar:
        for case in cases:
            found, measured = _checked(case, dataset)
            shifts += found
            unmeasured += [] if measured else [case]
            turned += [case] if case.label and is_turned(case.images[0]) and not is_turned(case.label) else []
            bar.advance()
    if shifts:
        most = max(shifts, key=lambda shift: shift.distance)
        others = f" So do {len(shifts) - 1} other files, less far." if len(shifts) > 1 else ""
        echo(
            f"warning: {most.path}: by the origins in their headers it lies {most.distance:.3g} mm away from "
            f"{most.first}.{others} Their voxels are treated as the same places: check that they are.",
            err=True,
        )
    if 0 < len(unmeasured) < len(cases):
        echo(
            f"warning: {len(unmeasured)} of {len(cases)} images, such as {unmeasured[0].images[0]}, do not "
            "state their spacing: it counts as 1 mm.",
            err=True,
        )
    if lossy := [case.label for case in cases if case.label and case.label.name.lower().endswith(LOSSY)]:
        echo(
            f"warning: {len(lossy)} labels, such as {lossy[0]}, are JPEG, which changes values: a class may "
            "have become another one. Store labels as PNG.",
            err=True,
        )
    if turned:
        echo(
            f"warning: {len(turned)} images, such as {turned[0].images[0]}, state an orientation (EXIF) and "
            "are read upright; their labels state none, and are treated as upright.",
            err=True,
        )


def check_case(case: Case, dataset: SegmentationDataset) -> list[Shift]:
    """Check by the files' headers that they belong together.

    Returns:
        The files whose origin differs from that of the first one, though they overlap.

    Raises:
        UserError: A file or a channel is missing; an image, another channel or the label differs in
            size, spacing or direction, or does not overlap the first; a preprocessed case is of another plan.
    """
    return _checked(case, dataset)[0]


def _checked(case: Case, dataset: SegmentationDataset) -> tuple[list[Shift], bool]:
    """See `check_case`; also whether the case states its spacing."""
    if dataset.layout == "preprocessed":
        preprocessed.check(case.images[0], dataset)
        return [], True
    files = dataset.files
    headers = image_headers(case, dataset.dimensions, len(dataset.channel_names), files)
    first, *others = headers
    shifts = [_shift(case, path, other, first) for path, other in zip(case.images[1:], others, strict=True)]
    if case.label is not None:
        other = files.header(case.label, dataset.dimensions)
        _check_same(case, case.label, other, first)
        shifts.append(_shift(case, case.label, other, first))
    return [shift for shift in shifts if shift is not None], headers[0].spacing is not None


def file_geometry(path: Path, dimensions: int, files: ImageFiles = IMAGE_FILES) -> Geometry:
    header, placement = files.header(path, dimensions), files.placement(path)
    if placement is None:
        ones, zeros = (1.0,) * dimensions, (0.0,) * dimensions
        identity = tuple(np.eye(dimensions).ravel().tolist())
        return Geometry(header.size, header.spacing or ones, zeros, identity, dimensions)
    axes = min(len(placement.origin), 3)  # a fourth axis has channels
    return Geometry(
        size=header.size,
        spacing=placement.spacing[:dimensions],
        origin=placement.origin[:axes],
        direction=tuple(placement.direction[:axes, :axes].ravel().tolist()),
        axes=axes,
        thickness=placement.spacing[2] if dimensions < axes else 1.0,
    )


def dimensions_of(cases: Sequence[Case], channels: int, files: ImageFiles = IMAGE_FILES) -> int:
    """2 if images are 2D or volumes of one slice, by the first case and, for volumes, by all cases.

    An array of three axes may be a volume, or a 2D image with channels: the expected number of channels
    decides.
    """
    first = cases[0]
    placement = files.placement(first.images[0])
    if placement is None or len(placement.spacing) == 2:
        return 2 if _is_flat(first, channels, files) else 3
    return 2 if all(_is_flat(case, channels, files) for case in cases) else 3


def _is_flat(case: Case, channels: int, files: ImageFiles) -> bool:
    path = case.images[0]
    try:
        found = files.header(path, 2).channels
    except UserError:
        return False
    if found * len(case.images) == channels:
        return True
    try:
        return files.header(path, 3).channels * len(case.images) != channels
    except UserError:
        return True  # with the wrong number of channels, which is reported later


def image_headers(
    case: Case, dimensions: int, channels: int, files: ImageFiles = IMAGE_FILES
) -> list[Header]:
    headers = [files.header(path, dimensions) for path in case.images]
    check_channels(case, sum(header.channels for header in headers), channels)
    for path, header in zip(case.images[1:], headers[1:], strict=True):
        _check_same(case, path, header, headers[0])
    return headers


def check_channels(case: Case, found: int, wanted: int) -> None:
    if found == wanted:
        return
    what = f"{case.images[0]}: {found} channel{'s' * (found != 1)} where the data set has {wanted}."
    if found > wanted:
        raise UserError(f"{what} Convert it, or leave the others out.")
    raise UserError(f"{what} Additional channels need their own files (_0001, …).")


def _check_same(case: Case, path: Path, header: Header, first: Header) -> None:
    if header.size != first.size:
        raise differ(case, path, "size", header.size, first.size)
    found, wanted = header.spacing, first.spacing
    if found and wanted and not np.allclose(found, wanted, rtol=SPACING_TOLERANCE, atol=0):
        raise differ(case, path, "spacing", found, wanted)


def _shift(case: Case, path: Path, other: Header, first: Header) -> Shift | None:
    """The distance of a file from its case's first file; None: there is none, or it is unknown.

    Raises:
        UserError: Its axes have another direction, or the two do not overlap.
    """
    if first.placement is None or other.placement is None:
        return None
    there, here = first.placement, other.placement
    axes = min(len(there.origin), len(here.origin))
    sides = np.array((*first.size, 1)[:axes])
    steps = [each.direction[:axes, :axes] * there.spacing[:axes] for each in (there, here)]
    voxel = min(there.spacing[:axes])
    corners = np.array(list(product(*((0, side - 1) for side in sides))))
    turned = float(np.linalg.norm(corners @ (steps[1] - steps[0]).T, axis=1).max())
    if turned > TURNED * voxel:
        found, wanted = (_rows(each.direction[:axes, :axes]) for each in (here, there))
        raise UserError(
            f"{path}: its direction is {found}, that of {case.images[0]} is {wanted}: voxels of one number "
            f"lie up to {turned:.3g} mm apart. Both must lie on one grid: resample it, or export it again."
        )
    shift = np.array(here.origin[:axes]) - there.origin[:axes]
    distance = float(np.linalg.norm(shift))
    if (np.abs(np.linalg.pinv(steps[0]) @ shift) >= sides).any():
        raise UserError(
            f"{path}: by the origins in their headers it lies {distance:.4g} mm away from {case.images[0]}, "
            "and does not overlap it. Both must be on one grid: export it again, or correct the origin."
        )
    return Shift(path, case.images[0], distance) if distance > SHIFTED * voxel else None


def _rows(matrix: Any) -> str:
    rows = (" ".join(f"{number:.3g}" for number in row) for row in matrix.round(4) + 0.0)  # no -0
    return f"({', '.join(rows)})"


def states_spacing(case: Case, dataset: SegmentationDataset) -> bool:
    """Whether the case's image states its spacing."""
    if dataset.layout == "preprocessed":
        return True
    return dataset.files.header(case.images[0], dataset.dimensions).spacing is not None


def is_turned(path: Path) -> bool:
    """Whether a 2D image has an orientation tag; it is read upright."""
    if not path.name.lower().endswith((".jpg", ".jpeg", ".png", ".tif", ".tiff")):
        return False
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                return int(picture.getexif().get(ORIENTATION, 1)) not in (0, 1)
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
        return False  # damaged: reported when it is read


def differ(case: Case, path: Path, what: str, found: Sequence[float], wanted: Sequence[float]) -> UserError:
    left, right = ("×".join(f"{number:g}" for number in numbers) for numbers in (found, wanted))
    upright = " That image is read upright, as its EXIF says." if is_turned(case.images[0]) else ""
    return UserError(
        f"{path}: its {what} is {left}, that of {case.images[0]} is {right}. Both must lie on one grid: "
        f"resample it, or export it again.{upright}"
    )
