"""Properties of a data set: sizes and spacings of its images, intensities, and the amount of annotation.

Sizes and spacings are (x, y[, z]). This needs NumPy and image readers, not torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lannunet_core import UserError, progress_bar
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.headers import case_geometry, check_cases, states_spacing
from lannunet_segmentation.types import Case, SegmentationDataset

CASES_LOOKED_INTO = 32
VOXELS_A_CASE = 10_000


@dataclass(frozen=True)
class Fingerprint:
    """The input of a plan.

    Attributes:
        dataset: The data set.
        sizes: Sizes of each training case, from its header.
        spacings: Spacings of each training case, in mm.
        looked_into: Number of cases that the following values come from.
        intensities: For each channel the 0.5 and 99.5 percentile, mean and standard deviation of annotated
            foreground; of all voxels if no foreground is annotated.
        class_shares: Class shares of the annotated voxels, by class.
        annotated: Share of annotated voxels.
        states_spacing: Whether the files state their spacing; otherwise `spacings` are 1.
        nonzero_share: Share of the median image inside the box around its nonzero voxels.
    """

    dataset: SegmentationDataset
    sizes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    looked_into: int
    intensities: tuple[tuple[float, float, float, float], ...]
    class_shares: tuple[float, ...]
    annotated: float
    states_spacing: bool = True
    nonzero_share: float = 1.0


def fingerprint(dataset: SegmentationDataset) -> Fingerprint:
    """Inspect the headers of all training cases, and the voxels of some, spread evenly.

    Raises:
        UserError: Files do not belong together, a label is not one of the classes, nothing is annotated.
    """
    cases = dataset.training
    check_cases(cases, dataset, "reading headers")
    geometries = [case_geometry(case, dataset) for case in cases]
    chosen = np.unique(np.linspace(0, len(cases) - 1, CASES_LOOKED_INTO).round().astype(int)).tolist()
    others = [index for index in range(len(cases)) if index not in set(chosen)]
    counts = np.zeros(len(dataset.class_names), np.int64)
    voxels = looked_into = 0
    samples, shares = [], []
    with progress_bar("reading voxels", len(chosen)) as progress:
        for index in [*chosen, *others]:
            if looked_into >= len(chosen) and counts.any():
                break  # more cases are read only if nothing annotated was found
            found, sample, share = _look(cases[index], dataset, index)
            shares.append(share)
            counts += found
            voxels += math.prod(geometries[index].size)
            samples.append(sample)
            looked_into += 1
            progress.advance()
    if not counts.any():
        raise UserError(
            f"{dataset.path}: no voxel of any training case is annotated. Annotate some voxels of at least "
            "one case (all others may stay -1)."
        )
    return Fingerprint(
        dataset,
        tuple(geometry.size for geometry in geometries),
        tuple(geometry.spacing for geometry in geometries),
        looked_into,
        tuple(
            _summary([sample[channel] for sample in samples]) for channel in range(len(dataset.channel_names))
        ),
        tuple((counts / counts.sum()).tolist()),
        float(counts.sum() / voxels),
        any(states_spacing(case, dataset) for case in cases),
        float(np.median(shares)),
    )


def _look(
    case: Case, dataset: SegmentationDataset, index: int
) -> tuple[NDArray[np.int64], list[tuple[bool, NDArray[np.float32]]], float]:
    """A case's voxels by class; for each channel whether there is foreground, and a sample of it; and the
    share of the image inside the box around nonzero voxels.
    """
    image = read_case(case, dataset)
    assert image.label is not None
    counts = np.array([np.count_nonzero(image.label == value) for value in range(len(dataset.class_names))])
    is_foreground = bool(counts[1:].any())
    # The same number from each case, so that a large one does not dominate.
    rng = np.random.default_rng(index)
    if is_foreground:
        where = np.flatnonzero(image.label > 0)
        where = rng.choice(where, min(VOXELS_A_CASE, len(where)), replace=False)
    else:
        where = rng.integers(image.label.size, size=VOXELS_A_CASE)
    values = [channel.reshape(-1)[where] for channel in image.pixels]
    boxes = ndimage.find_objects((image.pixels != 0).any(0).view(np.uint8))
    box = boxes[0] if boxes else ()
    share = math.prod(side.stop - side.start for side in box or ()) / image.label.size
    return counts, [(is_foreground, channel[np.isfinite(channel)]) for channel in values], share


def _summary(samples: Sequence[tuple[bool, NDArray[np.float32]]]) -> tuple[float, float, float, float]:
    foreground = [values for is_foreground, values in samples if is_foreground]
    values = np.concatenate(foreground or [values for _, values in samples]).astype(np.float64)
    if not len(values):
        return (0.0, 0.0, 0.0, 0.0)  # the preparation reports the case with nothing but NaN
    low, high = np.percentile(values, [0.5, 99.5])
    return float(low), float(high), float(values.mean()), float(values.std())
