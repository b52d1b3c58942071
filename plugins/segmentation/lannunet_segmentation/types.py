"""The records that the parts of a segmentation run exchange. Importing this needs no torch."""

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
"""The label of a voxel without annotation, whatever its value in the files."""

Labels = NDArray[np.int16]
Scheme = Literal["zscore", "ct", "ct2", "none"]
Interpolation = Literal["cubic", "linear"]


@dataclass(frozen=True)
class Geometry:
    """The position of an image file's voxels.

    Attributes:
        size: Size, (x, y[, z]).
        spacing: mm per voxel (x, y[, z]).
        origin: World position of the first voxel, as many numbers as the file has axes.
        direction: The file's direction matrix, row by row.
        axes: Number of axes of the file: 3 for a 2D image that is stored as a volume of one slice.
        thickness: Thickness of that one slice in mm.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]
    axes: int
    thickness: float = 1.0


@dataclass(frozen=True)
class Region:
    """A set of labels that is compared as one; for regions, one output of the network.

    Attributes:
        name: Name in dataset.json.
        labels: Its label values, at least 1; the first is written for a predicted voxel.
    """

    name: str
    labels: tuple[int, ...]

    def mask(self, labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Mask of the voxels of a label map (*S) with one of them."""
        return np.isin(labels, self.labels) if len(self.labels) > 1 else labels == self.labels[0]


@dataclass(frozen=True)
class Case:
    """One image of a segmentation data set, with its label if there is one.

    Attributes:
        id: Unique id within the data set.
        images: One file per channel; in a preprocessed folder the one `.npz` or `.npy`.
        label: The label file; None: without label, or within the preprocessed file.
        extra: Additional fields of its entry in dataset.json; they reach batches, and the outputs.
        annotated: Names of the classes or regions that its label covers: its background may be
            any other one; None: all of them.
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
        name: Name in its dataset.json, else the folder's name.
        layout: Kind of folder.
        dimensions: D, 2 or 3.
        channel_names: The C channels, such as `CT`.
        class_names: The K classes, background first; a class's index is its label value. With regions, the
            labels that these are made of.
        ignore: Label value of voxels without annotation, in addition to −1; None: there is none.
        file_ending: Suffix of images and labels, such as `.nii.gz`.
        training: The cases of imagesTr.
        testing: The cases of imagesTs, with labels if labelsTs has them.
        files: Reader of its images and labels.
        regions: Regions to learn instead of classes, in the order in which they are written, so that a later
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
        """The regions that predictions are compared in, or each class except the background."""
        return self.regions or classes_as_regions(self.class_names)


def classes_as_regions(class_names: Sequence[str]) -> tuple[Region, ...]:
    """Each class except the background, as a region."""
    return tuple(Region(name, (index,)) for index, name in enumerate(class_names) if index)


@dataclass(frozen=True)
class CaseImage:
    """A stored case.

    Attributes:
        pixels: (C, *S) float32.
        label: (*S) with `IGNORE` where there is no annotation; None: without label.
        geometry: Geometry of its voxels.
    """

    pixels: NDArray[np.float32]
    label: Labels | None
    geometry: Geometry


@dataclass(frozen=True)
class NnunetChannel:
    """nnU-Net's normalisation of a channel.

    Attributes:
        scheme: `zscore` of each image; `ct`, clipped and z-scored with `clip`; `ct2`, clipped, and z-scored
            with the image's values within the bounds; `none`.
        inside: Whether only the nonzero region is used, and everything else becomes 0.
        clip: Lower and upper bound, mean and standard deviation.
    """

    scheme: Scheme
    inside: bool
    clip: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class NnunetRecipe:
    """nnU-Net's recipe of a preprocessed folder's arrays from raw images.

    Attributes:
        plan: Name of the file with the recipe.
        spacing: mm along the array's axes, the first one first; None: the image's own.
        transposed: The axis (z, y, x) of the image for each of the array's axes.
        channels: Normalisation of the C channels.
        normalised_first: Whether an image is normalised before it is resampled, as in version 2.
    """

    plan: str
    spacing: tuple[float | None, float | None, float | None]
    transposed: tuple[int, int, int]
    channels: tuple[NnunetChannel, ...]
    normalised_first: bool = False


@dataclass(frozen=True)
class Preparation:
    """The preparation of raw images for the network; a model file stores it.

    Attributes:
        spacing: mm per voxel (x, y[, z]) that cases are resampled to; None: their own.
        normalisation: One per channel: `zscore` of the image, `percentile` or `nonzero` (see `ZSCORES`),
            `ct`, which clips to `clip` and z-scores with the training set's foreground, `none`, or the name
            of one that a plugin provides.
        clip: Per channel the 0.5 and 99.5 percentile, mean and standard deviation of the training set's
            foreground voxels; only used if the normalisation is `ct`.
        nnunet: nnU-Net's recipe, instead of the other fields.
        interpolation: `cubic` splines, with the nearest slice along a thick axis, as in nnU-Net; or `linear`
            along all axes, averaged if shrunk, as for earlier models.
        unknown: The reason why the preparation is unknown, a sentence; empty: it is known.
    """

    spacing: tuple[float, ...] | None
    normalisation: tuple[str, ...]
    clip: tuple[tuple[float, float, float, float] | None, ...]
    nnunet: NnunetRecipe | None = None
    unknown: str = ""
    interpolation: Interpolation = "linear"

    def recipe(self) -> dict[str, Any]:
        """Everything that prepared images depend on, for JSON."""
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
    """The preparation in a run, with normalisations of its plugins.

    Attributes:
        brought: Normalisations of plugins, one per channel or None; empty: there are none.
        brought_by: Dependencies of those: plugins, versions and settings.
    """

    brought: tuple[Normalisation | None, ...] = ()
    brought_by: tuple[str, ...] = ()

    def recipe(self) -> dict[str, Any]:
        return super().recipe() | ({"brought_by": self.brought_by} if self.brought_by else {})


@dataclass(frozen=True, eq=False)
class SegmentedImage:
    """The predicted label map of one case, with the annotation if there is one.

    Attributes:
        id: The case's id.
        labels: (*S) integers, on the grid of its image file; in a validation on that of the prepared image.
        target: (*S) on the same grid, with `IGNORE` where there is no annotation; None: no annotation.
        spacing: mm per voxel (x, y[, z]) of that grid.
        class_names: The K classes, background first; a class's index is its label value.
        extra: Additional fields of the case.
        regions: Regions that were learned instead of classes; empty: classes.
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
    """A prediction on disk, with its annotation.

    Attributes:
        id: The case's id.
        images: The case's image files.
        predicted: The predicted label file, with the geometry of the image.
        target: The label file; None: there is none.
        extra: Additional fields of the case.
        geometry: Geometry of the image; None: unknown.
        annotated: See `Case`.
    """

    id: str
    images: tuple[Path, ...]
    predicted: Path
    target: Path | None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    geometry: Geometry | None = None
    annotated: tuple[str, ...] | None = None
