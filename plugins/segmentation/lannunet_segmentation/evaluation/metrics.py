"""How well a label map agrees with the annotation: overlap, and distances between surfaces.

Only annotated voxels count: whatever is predicted, weighted or stored where the annotation says `IGNORE`
changes no figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from lannunet_core import Floats
from lannunet_segmentation.types import IGNORE, Labels, Region

HAUSDORFF_SHARE = 0.95
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ClassMetrics:
    """One class in one case.

    Attributes:
        index: The class's label value, a region's first one.
        dice: 2 |P ∩ T| / (|P| + |T|) over the annotated voxels; NaN where the class is in neither.
        weighted_dice: 2 Σ w·p·t / Σ w·(p + t) over the same voxels, with the given weights w; NaN where the
            class has no weight in either; None without weights.
        hausdorff95: See `surface_distances`; in the unit of the spacing, NaN where either surface is empty.
        mean_surface_distance: The same.
        predicted: How many annotated voxels are predicted to be of this class.
        target: How many annotated voxels are of this class.
        annotated: Whether the case's label was drawn for this class; where not, there are no figures.
    """

    index: int
    dice: float
    weighted_dice: float | None
    hausdorff95: float
    mean_surface_distance: float
    predicted: int
    target: int
    annotated: bool = True

    @classmethod
    def unannotated(cls, index: int) -> ClassMetrics:
        """Of a class that is not annotated in the case."""
        nan = float("nan")
        return cls(index, nan, None, nan, nan, 0, 0, annotated=False)

    @property
    def state(self) -> Literal["both", "missed", "invented", "absent", "unannotated"]:
        """Where the class is: in both, in the annotation only, in the prediction only, or in neither; or
        that the case lacks its annotation.
        """
        if not self.annotated:
            return "unannotated"
        if self.target:
            return "both" if self.predicted else "missed"
        return "invented" if self.predicted else "absent"


def case_metrics(
    predicted: Labels,
    target: Labels,
    spacing: Sequence[float],
    classes: Sequence[int | Sequence[int]],
    weight: NDArray[Any] | None = None,
) -> list[ClassMetrics]:
    """Compare a label map with the annotation, class by class.

    A class that is in neither has no Dice (NaN): averaging it in as 1 or as 0 would be made up. One that is
    in either only has Dice 0 and no distances (NaN), for which no finite number would be honest; anyone who
    averages distances has to say how many are missing.

    Args:
        predicted: (*S).
        target: (*S), `IGNORE` where there is no annotation.
        spacing: mm per voxel (x, y[, z]).
        classes: Label values to compare, each at least 1; of a region all its values.
        weight: (*S), not negative; adds the weighted Dice.
    """
    known = target != IGNORE
    target = np.where(known, target, 0)
    predicted = np.where(known, predicted, 0)
    regions = [Region("", (one,) if isinstance(one, int) else tuple(one)) for one in classes]
    highest = max((value for region in regions for value in region.labels), default=1)
    boxes = [ndimage.find_objects(labels, max_label=highest) for labels in (predicted, target)]
    metrics = []
    for region in regions:
        index = region.labels[0]
        box = _union([found[value - 1] for found in boxes for value in region.labels], target.shape)
        p, t = region.mask(predicted[box]), region.mask(target[box])
        hausdorff, mean = surface_distances(p, t, spacing, known[box])
        metrics.append(
            ClassMetrics(
                index=index,
                dice=dice_of_masks(p, t),
                weighted_dice=None if weight is None else dice_of_masks(p, t, weight[box]),
                hausdorff95=hausdorff,
                mean_surface_distance=mean,
                predicted=int(p.sum()),
                target=int(t.sum()),
            )
        )
    return metrics


def compared_metrics(
    predicted: Labels,
    target: Labels,
    spacing: Sequence[float],
    compared: Sequence[Region],
    annotated: Sequence[str] | None = None,
    weight: NDArray[Any] | None = None,
) -> tuple[ClassMetrics, ...]:
    """The same of each class or region of a data set.

    Args:
        predicted: (*S).
        target: (*S), `IGNORE` without annotation.
        spacing: mm per voxel (x, y[, z]).
        compared: The classes or regions.
        annotated: The names of those that the target was drawn for; the others have no figures. None: all.
        weight: See `case_metrics`.
    """
    drawn = [region.labels for region in compared if annotated is None or region.name in annotated]
    found = dict(zip(drawn, case_metrics(predicted, target, spacing, drawn, weight), strict=True))
    return tuple(
        found.get(region.labels) or ClassMetrics.unannotated(region.labels[0]) for region in compared
    )


def surface_distances(
    predicted: Mask, target: Mask, spacing: Sequence[float], known: Mask | None = None
) -> tuple[float, float]:
    """The 95 % Hausdorff distance and the mean surface distance between two masks.

    The surface of a mask is its voxels with a face neighbour outside of it; beyond the image is outside, what
    there is no annotation for is neither inside nor outside. Distances are those between voxel centres. With
    d(a, B) the distance of a surface voxel to the nearest one of the other surface, and A, B the two
    surfaces:

    - Hausdorff, 95 %: the larger of the 95th percentiles (see `percentile_95`) of d(a, B) and of d(b, A)
      (Huttenlocher et al. 1993; taken as in Maier-Hein et al., Metrics Reloaded, 2024);
    - mean: (Σ d(a, B) + Σ d(b, A)) / (|A| + |B|), the average symmetric surface distance (Heimann et al.
      2009).

    In a partial annotation the true nearest voxel may lie where there is no annotation; distances are then
    upper bounds.

    Args:
        predicted: (*S).
        target: (*S).
        spacing: mm per voxel (x, y[, z]).
        known: (*S), False where there is no annotation; None: everything is known.

    Returns:
        Both in mm; NaN where either surface is empty.
    """
    surfaces = [_surface_points(mask, known, spacing) for mask in (predicted, target)]
    if not all(map(len, surfaces)):
        return float("nan"), float("nan")
    there, back = (_nearest(a, b) for a, b in (surfaces, surfaces[::-1]))
    return max(map(percentile_95, (there, back))), float(np.concatenate([there, back]).mean())


def percentile_95(distances: Floats) -> float:
    """The 95th percentile of (P,) distances, interpolated linearly.

    The rank 0.95 · (P − 1) is rounded to single precision, as `torch.quantile` does for float32 values, so
    that figures equal those that are published with MONAI. With the exact rank a few differ by a relative
    1e-6 and more.
    """
    rank = np.float32(HAUSDORFF_SHARE) * np.float32(len(distances) - 1)
    places = math.floor(rank), math.ceil(rank)
    below, above = np.partition(distances, places)[list(places)]
    return float(below + (rank - places[0]) * (above - below))


def dice_of_masks(predicted: Mask, target: Mask, weight: NDArray[Any] | None = None) -> float:
    """Dice of two masks of one shape, voxels counted as often as `weight` says; NaN where both are empty."""
    if weight is None:
        both, each = int((predicted & target).sum()), int(predicted.sum()) + int(target.sum())
        return 2 * both / each if each else float("nan")
    w = weight.astype(np.float64)
    total = float(w[predicted].sum() + w[target].sum())
    return float(2 * w[predicted & target].sum()) / total if total > 0 else float("nan")


def _surface_points(mask: Mask, known: Mask | None, spacing: Sequence[float]) -> Floats:
    """The surface's voxel centres (P, D) in mm, axes as the array has them."""
    outside = ~mask if known is None else ~mask & known
    faces = ndimage.generate_binary_structure(mask.ndim, 1)
    surface = mask & ndimage.binary_dilation(outside, faces, border_value=1)
    return np.argwhere(surface) * np.asarray(spacing, dtype=np.float64)[::-1]


def _nearest(points: Floats, others: Floats) -> Floats:
    # Splitting at midpoints is quick on a grid, where a median has many equals.
    tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
    distances: Floats = tree.query(points)[0]
    return distances


def _union(found: Sequence[tuple[slice, ...] | None], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The box that holds them all, and one voxel more on each side that is not the image's end."""
    boxes = [box for box in found if box is not None]
    if not boxes:
        return (slice(0, 0),) * len(shape)
    return tuple(
        slice(max(min(part.start for part in parts) - 1, 0), min(max(part.stop for part in parts) + 1, size))
        for parts, size in zip(zip(*boxes, strict=True), shape, strict=True)
    )
