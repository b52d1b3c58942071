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

from lannunet_core import Floats, UserError, progress_bar
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.headers import case_geometry, check_cases, states_spacing
from lannunet_segmentation.types import Case, Geometry, Labels, SegmentationDataset

CASES_LOOKED_INTO = 32
VOXELS_A_CASE = 10_000
VOXELS_FOR_CENTRES = 1e5
FEWEST_FOR_ALIGNMENT = 5  # of random orientations, fewer may agree by chance
SAME_AXIS = math.cos(math.radians(45))


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
        same_axes: Whether the files state axes, and these are the same in all cases, up to 45 degrees.
        alignment: Agreement of orientations: 1 if the centres of the classes and of the image have the same
            directions from each other in all cases, near 0 if the directions are random or not comparable.
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
    same_axes: bool = False
    alignment: float = 0.0


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
    samples, shares, centres = [], [], []
    with progress_bar("reading voxels", len(chosen)) as progress:
        for index in [*chosen, *others]:
            if looked_into >= len(chosen) and counts.any():
                break  # more cases are read only if nothing annotated was found
            found, sample, share, centre = _look(cases[index], dataset, index)
            shares.append(share)
            centres.append(centre)
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
    stated = any(states_spacing(case, dataset) for case in cases)
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
        stated,
        float(np.median(shares)),
        stated and dataset.dimensions == 3 and have_same_axes(geometries),
        alignment_of(np.stack(centres)),
    )


def have_same_axes(geometries: Sequence[Geometry]) -> bool:
    """Whether each axis has the same direction in all cases; images are used as stored."""
    directions = [np.reshape(one.direction, (one.axes, one.axes)) for one in geometries]  # columns: the axes
    return all((directions[0] * one).sum(0).min() > SAME_AXIS for one in directions)


def alignment_of(centres: Floats) -> float:
    """The agreement of the directions between centres (cases, K, D), NaN where a class is absent.

    It is the sum of the lengths of the mean vectors between two centres, relative to the sum of the mean
    lengths: for vectors of equal length that are rotated by up to 45 degrees, 0.9.
    """
    between = np.nan_to_num(centres[:, :, None] - centres[:, None])  # 0: one of the two is absent
    compared = (between != 0).any(-1).sum(0) >= FEWEST_FOR_ALIGNMENT
    lengths = np.linalg.norm(between, axis=-1).sum(0)[compared].sum()
    return float(np.linalg.norm(between.sum(0), axis=-1)[compared].sum() / lengths) if lengths else 0.0


def _look(
    case: Case, dataset: SegmentationDataset, index: int
) -> tuple[NDArray[np.int64], list[tuple[bool, NDArray[np.float32]]], float, Floats]:
    """A case's voxels by class; for each channel whether there is foreground, and a sample of it; the share
    of the image inside the box around nonzero voxels; and the centres of the image and of each class.
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
    sample = [(is_foreground, channel[np.isfinite(channel)]) for channel in values]
    return counts, sample, share, _centres(image.label, image.geometry.spacing, len(counts))


def _centres(label: Labels, spacing: Sequence[float], classes: int) -> Floats:
    """The centre of the image, then of each class but the background, (K, D) in array order; NaN: absent."""
    step = math.ceil((label.size / VOXELS_FOR_CENTRES) ** (1 / label.ndim))
    few = label[(slice(None, None, step),) * label.ndim]
    centres = np.full((classes, label.ndim), np.nan)
    centres[0] = (np.array(few.shape) - 1) / 2
    if present := [value for value in np.unique(few).tolist() if value > 0]:
        centres[present] = ndimage.center_of_mass(np.ones(few.shape), few, present)
    return centres * spacing[::-1]


def _summary(samples: Sequence[tuple[bool, NDArray[np.float32]]]) -> tuple[float, float, float, float]:
    foreground = [values for is_foreground, values in samples if is_foreground]
    values = np.concatenate(foreground or [values for _, values in samples]).astype(np.float64)
    if not len(values):
        return (0.0, 0.0, 0.0, 0.0)  # the preparation reports the case with nothing but NaN
    low, high = np.percentile(values, [0.5, 99.5])
    return float(low), float(high), float(values.mean()), float(values.std())
