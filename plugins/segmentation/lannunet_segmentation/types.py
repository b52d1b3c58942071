"""The records that pass between the parts of a segmentation run. Importing this needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lannunet_images import IMAGE_FILES, ImageFiles
from numpy.typing import NDArray

from lannunet_core import Normalisation

IGNORE = -1
"""The label of a voxel without annotation, whatever the files call it."""

Labels = NDArray[np.int16]
Scheme = Literal["zscore", "ct", "ct2", "none"]
Interpolation = Literal["cubic", "linear"]


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
class Region:
    """A set of labels that is compared as one, and where regions are learned one output of the network.

    Attributes:
        name: As dataset.json says.
        labels: Its label values, at least 1; the first is what a predicted voxel of it is written as.
    """

    name: str
    labels: tuple[int, ...]

    def mask(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Where a label map (*S) has one of them."""
        return np.isin(labels, self.labels) if len(self.labels) > 1 else labels == self.labels[0]


@dataclass(frozen=True)
class Case:
    """One image of a segmentation data set, with its label where there is one.

    Attributes:
        id: Unique within the data set.
        images: One file per channel; in a preprocessed folder the one `.npz` or `.npy`.
        label: The label file; None: without label, or within the preprocessed file.
        extra: Additional fields of its entry in dataset.json; they reach batches, and the outputs.
        annotated: Which classes or regions its label was drawn for, by name: what is background there may be
            any other; None: all of them.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    annotated: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SegmentationDataset:
    """An nnU-Net folder.

    Attributes:
        path: The folder.
        name: As its dataset.json says, else the folder's name.
        layout: Which kind of folder it is.
        dimensions: D, 2 or 3.
        channel_names: The C channels, such as `CT`.
        class_names: The K classes, background first; a class's index is its label value. With regions, the
            labels that these are made of.
        ignore: The label value that stands for "not annotated", beside −1; None: there is none.
        file_ending: Of images and labels, such as `.nii.gz`.
        training: The cases of imagesTr.
        testing: The cases of imagesTs, with labels where labelsTs has them.
        files: What reads its images and labels.
        regions: What is learned instead of classes, in the order in which they are written, so that a later
            one covers an earlier one; empty: classes are learned.
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
    files: ImageFiles = IMAGE_FILES
    regions: tuple[Region, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the network's output channels."""
        return tuple(region.name for region in self.regions) or self.class_names

    @property
    def compared(self) -> tuple[Region, ...]:
        """What predictions are compared in: the regions, or each class but the background."""
        return self.regions or classes_as_regions(self.class_names)


def classes_as_regions(class_names: Sequence[str]) -> tuple[Region, ...]:
    """Each class but the background."""
    return tuple(Region(name, (index,)) for index, name in enumerate(class_names) if index)


@dataclass(frozen=True)
class CaseImage:
    """A case as it is stored.

    Attributes:
        pixels: (C, *S) float32.
        label: (*S) with `IGNORE` where there is no annotation; None: without label.
        geometry: Where its voxels lie.
    """

    pixels: NDArray[np.float32]
    label: Labels | None
    geometry: Geometry


@dataclass(frozen=True)
class NnunetChannel:
    """How nnU-Net normalised a channel.

    Attributes:
        scheme: `zscore` of each image; `ct`, clipped and z-scored with `clip`; `ct2`, clipped, and z-scored
            with what of the image lies within the bounds; `none`.
        inside: Whether only the nonzero region counts, and all else becomes 0.
        clip: Lower and upper bound, mean and standard deviation.
    """

    scheme: Scheme
    inside: bool
    clip: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class NnunetRecipe:
    """How nnU-Net made the arrays of a preprocessed folder from raw images.

    Attributes:
        plan: The name of the file that says so.
        spacing: mm along the array's axes, the first one first; None: as the image has it.
        transposed: Which axis (z, y, x) of the image each of the array's axes is.
        channels: C.
        normalised_first: Whether an image is normalised before it is resampled, as version 2 does.
    """

    plan: str
    spacing: tuple[float | None, float | None, float | None]
    transposed: tuple[int, int, int]
    channels: tuple[NnunetChannel, ...]
    normalised_first: bool = False


@dataclass(frozen=True)
class Preparation:
    """How raw images become what the network sees; a model's file keeps it.

    Attributes:
        spacing: mm per voxel (x, y[, z]) that cases are resampled to; None: their own.
        normalisation: One per channel: `zscore` of the image, `percentile` or `nonzero` (see `ZSCORES`),
            `ct`,
            which clips to `clip` and z-scores with the training set's foreground, `none`, or the name of one
            that a plugin provides.
        clip: Per channel the 0.5 and 99.5 percentile, mean and standard deviation of the training set's
            foreground voxels; only read where the normalisation is `ct`.
        nnunet: How nnU-Net did it, instead of all this.
        interpolation: `cubic` splines, along a thick axis the nearest slice, as nnU-Net; or `linear` along
            all axes, averaged where shrunk, as earlier models were trained.
        unknown: Why nobody knows, a sentence; empty: it is known.
    """

    spacing: tuple[float, ...] | None
    normalisation: tuple[str, ...]
    clip: tuple[tuple[float, float, float, float] | None, ...]
    nnunet: NnunetRecipe | None = None
    unknown: str = ""
    interpolation: Interpolation = "linear"

    def recipe(self) -> dict[str, Any]:
        """All that prepared images depend on, for JSON."""
        recipe: dict[str, Any] = {
            "spacing": self.spacing,
            "normalisation": self.normalisation,
            "clip": self.clip,
        }
        recipe |= {"nnunet": asdict(self.nnunet)} if self.nnunet else {}
        recipe |= {} if self.interpolation == "linear" else {"interpolation": self.interpolation}
        return recipe


@dataclass(frozen=True)
class Settings(Preparation):
    """The same in a run, with what its plugins provide.

    Attributes:
        brought: One per channel, instead of what is named, where a plugin provides it; empty: nowhere.
        brought_by: What those depend on: plugins, versions and settings.
    """

    brought: tuple[Normalisation | None, ...] = ()
    brought_by: tuple[str, ...] = ()

    def recipe(self) -> dict[str, Any]:
        return super().recipe() | ({"brought_by": self.brought_by} if self.brought_by else {})


@dataclass(frozen=True, eq=False)
class SegmentedImage:
    """The label map that was predicted for one case, with the annotation where there is one.

    Attributes:
        id: The case's id.
        labels: (*S) integers, in the grid of its image file; at a validation in that of the prepared image.
        target: (*S) in the same grid, with `IGNORE` where there is no annotation; None: no annotation.
        spacing: mm per voxel (x, y[, z]) of that grid.
        class_names: The K classes, background first; a class's index is its label value.
        extra: Additional fields of the case.
        regions: What was learned instead of classes; empty: classes.
        annotated: See `Case`.
    """

    id: str
    labels: NDArray[np.integer[Any]]
    target: Labels | None
    spacing: tuple[float, ...]
    class_names: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    annotated: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SegmentedCase:
    """A prediction on disk, with the label it is compared with.

    Attributes:
        id: The case's id.
        images: The case's image files.
        predicted: The predicted label file, in the geometry of the image.
        target: The label file; None: there is none.
        extra: Additional fields of the case.
        geometry: Of the image; None: not known.
        annotated: See `Case`.
    """

    id: str
    images: tuple[Path, ...]
    predicted: Path
    target: Path | None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    geometry: Geometry | None = None
    annotated: tuple[str, ...] | None = None
