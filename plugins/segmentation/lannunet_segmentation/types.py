"""The records that pass between the parts of a segmentation run. Importing this needs numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

IGNORE = -1
"""The label of a voxel that nobody annotated, whatever the files call it."""

Labels = NDArray[np.int16]


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of an image file lie.

    Attributes:
        size: (x, y[, z]).
        spacing: mm per voxel (x, y[, z]).
        origin: World position of the first voxel, as many numbers as the file has axes.
        direction: The file's direction matrix, row by row.
        axes: How many axes the file has: 3 for a 2D image that is stored as a volume of one slice.
        thickness: mm, of that one slice.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    axes: int
    thickness: float = 1.0


@dataclass(frozen=True)
class Case:
    """One image of a segmentation data set, with its label where there is one.

    Attributes:
        id: Unique within the data set.
        images: One file a channel; in a preprocessed folder the one `.npz` or `.npy`.
        label: The label file; None: without label, or within the preprocessed file.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None


@dataclass(frozen=True)
class SegmentationDataset:
    """An nnU-Net folder.

    Attributes:
        path: The folder.
        name: As its dataset.json says, else the folder's name.
        layout: Which kind of folder it is.
        dimensions: D, 2 or 3.
        channel_names: The C channels, such as `CT`.
        class_names: The K classes, background first; a class's index is its label value.
        ignore: The label value that stands for "not annotated", beside −1; None: there is none.
        file_ending: Of images and labels, such as `.nii.gz`.
        training: The cases of imagesTr.
        testing: The cases of imagesTs, with labels where labelsTs has them.
    """

    path: Path
    name: str
    layout: Literal["raw1", "raw2", "preprocessed"]
    dimensions: int
    channel_names: tuple[str, ...]
    class_names: tuple[str, ...]
    ignore: int | None
    file_ending: str
    training: tuple[Case, ...]
    testing: tuple[Case, ...]


@dataclass(frozen=True)
class CaseImage:
    """A case as it is stored.

    Attributes:
        pixels: (C, *S) float32.
        label: (*S) with `IGNORE` where nobody annotated; None: without label.
        geometry: Where its voxels lie.
    """

    pixels: NDArray[np.float32]
    label: Labels | None
    geometry: Geometry


@dataclass(frozen=True)
class ExtraMap:
    """A further spatial array of each case, from a plugin's `extra_maps` hook. Pickles.

    Attributes:
        name: Unique within the run.
        role: What the core does with it: `weight` and `mask` are multiplied into `labels["weight"]`, `label`
            is only brought along.
        interpolation: How it is resampled and augmented.
        fill: Its value outside of the image.
        paths: The file of each training case, by its id: one number a voxel, (*S) or (1, *S), in the grid of
            the case's image file (of a preprocessed folder: in that of the preprocessed image). Other cases
            may have a weight or mask too, for their weighted Dice.
    """

    name: str
    role: Literal["weight", "mask", "label"]
    interpolation: Literal["linear", "nearest"]
    fill: float
    paths: Mapping[str, Path] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Under which a batch has it."""
        return f"map.{self.name}"


@dataclass(frozen=True)
class Settings:
    """How images become the network's input.

    Attributes:
        spacing: mm per voxel (x, y[, z]) that cases are resampled to; None: their own.
        normalisation: One a channel: `zscore` of the image, `ct`, which clips to `clip` and z-scores with
            the training set's foreground, or `none`.
        clip: Per channel the 0.5 and 99.5 percentile, mean and standard deviation of the training set's
            foreground voxels; only read where the normalisation is `ct`.
    """

    spacing: tuple[float, ...] | None
    normalisation: tuple[Literal["zscore", "ct", "none"], ...]
    clip: tuple[tuple[float, float, float, float] | None, ...]


@dataclass(frozen=True)
class SegmentedCase:
    """A prediction on disk, with the label it is compared with.

    Attributes:
        id: The case's id.
        images: The case's image files.
        predicted: The predicted label file, in the geometry of the image.
        target: The label file; None: there is none.
    """

    id: str
    images: tuple[Path, ...]
    predicted: Path
    target: Path | None
