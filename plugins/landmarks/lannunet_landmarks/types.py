"""The records that pass between the parts of a run. Importing this needs NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lannunet_core import (
    Floats,
    State as State,  # here too, beside what has it
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
        id: Unique within the dataset.
        image: Path of the image file.
        coordinates: (N, D) in original pixels, (x, y[, z]), pixel centres at integers; NaN where not visible.
        states: (N,) int64 of `State`.
        spacing: mm per pixel (x, y[, z]) as given in the JSON; None: ask the image file.
        extra: Additional keys of the JSON entry; they are copied to the outputs.
        source: How messages name it; "": by its id.
        landmark_names: The N names, for messages; (): they are counted.
        occluded: (N,) whether it was placed although something hides it; None: nobody says so.
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


def unannotated(name: str, image: Path, run: RunInfo) -> Sample:
    """An image of which nothing is known, as a sample of this id."""
    count = len(run.outputs)
    unknown = np.full((count, run.dimensions), np.nan)
    return Sample(name, image, unknown, np.full(count, State.UNLABELLED, np.int64))


@dataclass(frozen=True)
class Calibrated:
    """What held-out errors say of one prediction (see `evaluation.calibration`).

    Attributes:
        unit: Unit of radius and bounds, `mm` or `px`.
        radius: (N,) around the prediction, that holds the true point with the probability that was asked for;
            infinite where there is none.
        bin: (N,) int64, 1 is the most certain; 0 where there is none.
        bounds: (N, 2) between what the error is expected in that bin; NaN where there is none.
    """

    unit: str
    radius: Floats
    bin: NDArray[np.int64]
    bounds: Floats


@dataclass(frozen=True)
class Heat:
    """Where a model's maps are high, for the eye: the strongest of all landmarks, each scaled to its peak.

    Attributes:
        values: (*S') from 0 to 255.
        step: (D,) pixels of the prediction's frame (x, y[, z]) that one of them is wide.
        first: (D,) where the centre of the first one lies.
    """

    values: NDArray[np.uint8]
    step: Floats
    first: Floats

    def box(self, horizontal: int = 0, vertical: int = 1) -> list[float]:
        """(x, y, width, height) that a plane of them covers, where pixel n is from n to n + 1."""
        size = np.array(self.values.shape[::-1]) * self.step
        corner = self.first - self.step / 2 + 0.5
        box = (corner[horizontal], corner[vertical], size[horizontal], size[vertical])
        return [round(float(value), 2) for value in box]

    def index(self, axis: int, place: float) -> int:
        """Which of them lies at a place along an axis (x, y, z)."""
        count = self.values.shape[::-1][axis]
        return int(np.clip(round((place - self.first[axis]) / self.step[axis]), 0, count - 1))


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image, with the annotation where there is one.

    Attributes:
        id: The sample's id (for standalone images: the file's name, its path where two share one).
        image: Path of the image file.
        coordinates: (N, D) in original pixels (in input pixels for `use_input_size`); NaN where the map
            was flat and no point can be named, or the landmark was decided to be absent.
        confidence: (N,) in 0 … 1, higher is more certain; 0 where the map was flat. With `within` it is the
            probability of lying within that radius.
        covariance: (N, D, D) in pixels², or None.
        present: (N,) whether the landmark is in the image at all; None: not decided.
        target: (N, D) annotated coordinates in the same frame, NaN where not visible; None: no annotation.
        states: (N,) int64 of `State`; None without annotation.
        spacing: mm per pixel (x, y[, z]) in the same frame; None where unknown.
        original_spacing: mm per original pixel, where the frame is another; None where unknown.
        extra: Additional keys of the dataset's entry.
        within: The radius that confidence is the probability of, and its unit; None: it is not calibrated.
        presence: (N,) the probability that the landmark is in the image at all; None: not known.
        calibrated: Regions and bins; None without a calibration.
        uncertainty: (N, 2) in pixels and mm as a table told it, which holds no covariance; NaN where it told
            nothing; None: not read from a table, or told nowhere.
        world: Where the coordinates lie in mm; None: in an unknown place, and distances count by `spacing`.
        occluded: (N,) whether the annotation was placed although something hides it; None: nobody says so.
        heat: Its maps for the eye; None: there are none of the whole image.
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
