"""What the headers of image and label files say: where voxels lie, and whether files belong together.

Sizes and spacings are (x, y[, z]).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lannunet_core import IMAGE_FILES, Header, ImageFiles, UserError
from lannunet_segmentation.data import nnunet_v1
from lannunet_segmentation.types import Case, Geometry, SegmentationDataset

SPACING_TOLERANCE = 1e-3  # relative: files round


def case_geometry(case: Case, dataset: SegmentationDataset) -> Geometry:
    """Where a case's voxels lie, from the header of its first file."""
    if dataset.layout == "preprocessed":
        return nnunet_v1.geometry(case.images[0], dataset.dimensions)
    return file_geometry(case.images[0], dataset.dimensions, dataset.files)


def check_case(case: Case, dataset: SegmentationDataset) -> None:
    """Check by the files' headers that they belong together.

    Raises:
        UserError: A file is absent; channels are missing; an image, another channel or the label differs in
            size or spacing; a preprocessed case is of another plan.
    """
    if dataset.layout == "preprocessed":
        nnunet_v1.check(case.images[0], dataset)
        return
    headers = image_headers(case, dataset.dimensions, len(dataset.channel_names), dataset.files)
    if case.label is not None:
        _check_same(case, case.label, dataset.files.header(case.label, dataset.dimensions), headers[0])


def file_geometry(path: Path, dimensions: int, files: ImageFiles = IMAGE_FILES) -> Geometry:
    header, placement = files.header(path, dimensions), files.placement(path)
    if placement is None:
        ones, zeros = (1.0,) * dimensions, (0.0,) * dimensions
        identity = tuple(np.eye(dimensions).ravel().tolist())
        return Geometry(header.size, header.spacing or ones, zeros, identity, dimensions)
    axes = min(len(placement.origin), 3)  # a fourth one holds channels
    return Geometry(
        size=header.size,
        spacing=placement.spacing[:dimensions],
        origin=placement.origin[:axes],
        direction=tuple(placement.direction[:axes, :axes].ravel().tolist()),
        axes=axes,
        thickness=placement.spacing[2] if dimensions < axes else 1.0,
    )


def dimensions_of(cases: Sequence[Case], files: ImageFiles = IMAGE_FILES) -> int:
    """2 where images are pictures or volumes of one slice, by the first file and, of volumes, by all."""
    first = cases[0].images[0]
    placement = files.placement(first)
    if placement is None or len(placement.spacing) == 2:
        return 2 if _is_flat(first, files) else 3
    return 2 if all(_is_flat(case.images[0], files) for case in cases) else 3


def _is_flat(path: Path, files: ImageFiles) -> bool:
    try:
        files.header(path, 2)
    except UserError:
        return False
    return True


def image_headers(
    case: Case, dimensions: int, channels: int, files: ImageFiles = IMAGE_FILES
) -> list[Header]:
    headers = [files.header(path, dimensions) for path in case.images]
    check_channels(case, sum(header.channels for header in headers), channels)
    for path, header in zip(case.images[1:], headers[1:], strict=True):
        _check_same(case, path, header, headers[0])
    return headers


def check_channels(case: Case, found: int, wanted: int) -> None:
    if found != wanted:
        raise UserError(
            f"{case.images[0]}: {found} channel{'s' * (found != 1)} where the data set has {wanted}. Further "
            "ones are files of their own (_0001, …)."
        )


def _check_same(case: Case, path: Path, header: Header, first: Header) -> None:
    if header.size != first.size:
        raise differ(case, path, "size", header.size, first.size)
    found, wanted = header.spacing, first.spacing
    if found and wanted and not np.allclose(found, wanted, rtol=SPACING_TOLERANCE, atol=0):
        raise differ(case, path, "spacing", found, wanted)


def differ(case: Case, path: Path, what: str, found: Sequence[float], wanted: Sequence[float]) -> UserError:
    left, right = ("×".join(f"{number:g}" for number in numbers) for numbers in (found, wanted))
    return UserError(
        f"{path}: its {what} is {left}, that of {case.images[0]} is {right}. Both must lie on one grid: "
        "resample it, or export it again."
    )
