"""The records that the parts of a run exchange. Importing this needs NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lannunet_core import (
    Floats,
    State as State,  # exported here too
)

if TYPE_CHECKING:
    from lannunet_core import RunInfo
    from lannunet_landmarks.data.world import World


Split = Literal["training", "validation", "testing"]
SPLITS: tuple[Split, ...] = ("training", "validation", "testing")


@dataclass(frozen=True)
class Sample:
    """One entry of a landmark dataset.

    Attributes:
        id: Unique id within the dataset.
        image: Path of the image file.
        coordinates: (N, D) in original pixels, (x, y[, z]), pixel centres at integers; NaN where not visible.
        states: (N,) int64 of `State`.
        spacing: mm per pixel (x, y[, z]) as given in the JSON; None: use the image file's.
        extra: Additional keys of the JSON entry; they are copied to the outputs.
        source: Name in messages; "": the id is used.
        landmark_names: The N names, for messages; (): numbers are used.
        occluded: (N,) whether it is hidden, although its position is given; None: unknown.
        pixel: Shape (x, y[, z]) of a pixel if its spacing is unknown; None: all sides are equal.
    """

    id: str
    image: Path
    coordinates: Floats
    states: NDArray[np.int64]
    spacing: tuple[float, ...] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    landmark_names: tuple[str, ...] = ()
    occluded: NDArray[np.bool_] | None = None
    pixel: tuple[float, ...] | None = None


def unannotated(name: str, image: Path, run: RunInfo, pixel: tuple[float, ...] | None = None) -> Sample:
    """An image without any annotation, as a sample with this id."""
    count = len(run.outputs)
    unknown = np.full((count, run.dimensions), np.nan)
    return Sample(name, image, unknown, np.full(count, State.UNLABELLED, np.int64), pixel=pixel)


@dataclass(frozen=True)
class Calibrated:
    """Regions and bins of one prediction, from held-out errors (see `evaluation.calibration`).

    Attributes:
        unit: Unit of radius and bounds, `mm` or `px`.
        radius: (N,) radius around the prediction that contains the true point with the nominal probability;
            infinite if there is none.
        bin: (N,) int64, 1 is the most certain; 0 if there is none.
        bounds: (N, 2) interval of the expected error in that bin; NaN if there is none.
    """

    unit: str
    radius: Floats
    bin: NDArray[np.int64]
    bounds: Floats


@dataclass(frozen=True)
class Heat:
    """A model's maps for display: the maximum over all landmarks, each scaled to its peak.

    Attributes:
        values: (*S') from 0 to 255.
        step: (D,) width of one value in pixels of the prediction's frame (x, y[, z]).
        first: (D,) centre of the first value.
    """

    values: NDArray[np.uint8]
    step: Floats
    first: Floats

    def box(self, horizontal: int = 0, vertical: int = 1) -> list[float]:
        """The rectangle (x, y, width, height) that a plane covers, where pixel n is from n to n + 1."""
        size = np.array(self.values.shape[::-1]) * self.step
        corner = self.first - self.step / 2 + 0.5
        box = (corner[horizontal], corner[vertical], size[horizontal], size[vertical])
        return [round(float(value), 2) for value in box]

    def index(self, axis: int, place: float) -> int:
        """The index of the value at a position along an axis (x, y, z)."""
        count = self.values.shape[::-1][axis]
        return int(np.clip(round((place - self.first[axis]) / self.step[axis]), 0, count - 1))


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one image, with the annotation if there is one.

    Attributes:
        id: The sample's id (for standalone images: the file's name, its path where two share one).
        image: Path of the image file.
        coordinates: (N, D) in original pixels (in input pixels for `use_input_size`); NaN where the map
            was flat and has no point, or the landmark was decided to be absent.
        confidence: (N,) in 0 … 1, higher is more certain; 0 where the map was flat. If `within` is set, it is
            the probability that the point lies within that radius.
        covariance: (N, D, D) in pixels², or None.
        present: (N,) whether the landmark is in the image at all; None: not decided.
        target: (N, D) annotated coordinates in the same frame, NaN where not visible; None: no annotation.
        states: (N,) int64 of `State`; None without annotation.
        spacing: mm per pixel (x, y[, z]) in the same frame; None: unknown.
        original_spacing: mm per original pixel, if the frame is another; None: unknown.
        extra: Additional keys of the dataset's entry.
        within: Radius of the confidence, and its unit; None: the confidence is not calibrated.
        presence: (N,) the probability that the landmark is in the image; None: unknown.
        calibrated: Regions and bins; None without a calibration.
        uncertainty: (N, 2) in pixels and mm, read from a table, which holds no covariance; NaN where it is
            empty; None: not read from a table, or all empty.
        world: World of the coordinates; None: unknown, and distances are computed from `spacing`.
        occluded: (N,) whether the annotated landmark is hidden; None: unknown.
        heat: Its maps for display; None: there are none of the whole image.
    """

    id: str
    image: Path
    coordinates: Floats
    confidence: Floats
    covariance: Floats | None = None
    present: NDArray[np.bool_] | None = None
    target: Floats | None = None
    states: NDArray[np.int64] | None = None
    spacing: tuple[float, ...] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    within: tuple[float, str] | None = None
    presence: Floats | None = None
    calibrated: Calibrated | None = None
    uncertainty: Floats | None = None
    original_spacing: tuple[float, ...] | None = None
    world: World | None = None
    occluded: NDArray[np.bool_] | None = None
    heat: Heat | None = None
