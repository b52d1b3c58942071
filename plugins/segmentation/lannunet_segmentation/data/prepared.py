"""A prepared case: memory-mapped arrays that patches are cut from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lannunet_core import Floats, UserError
from lannunet_segmentation.data.arrays import own_array, read_array
from lannunet_segmentation.data.runs import Runs
from lannunet_segmentation.types import Geometry, Labels


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case that patches can be cut from. Its pickle is small: each access opens its array, memory-mapped.

    Attributes:
        id: The case's id.
        folder: Folder of its arrays.
        stored: File of the image; outside of `folder` if a preprocessed file is used directly.
        channels: C.
        size: Size (x, y[, z]) of the arrays.
        spacing: mm per voxel (x, y[, z]) of the arrays.
        affine: (D + 1, D + 1) from prepared pixels to original pixels.
        geometry: Geometry of the original file.
        classes_present: The labels of annotated voxels, background included.
        annotated_count: Number of annotated voxels.
        labelled: Whether it has a label.
        maps: Names of its extra maps.
        extra_fields: Additional fields of its entry in the data set, from `Case.extra`.
        annotated_classes: Annotated classes, from `Case.annotated`.
        elsewhere: Files of additional maps that are not in `folder`, by name.
    """

    id: str
    folder: Path
    stored: Path
    channels: int
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    affine: Floats
    geometry: Geometry
    classes_present: tuple[int, ...]
    annotated_count: int
    labelled: bool
    maps: tuple[str, ...]
    extra_fields: Mapping[str, Any] = field(default_factory=dict)
    annotated_classes: tuple[str, ...] | None = None
    elsewhere: Mapping[str, Path] = field(default_factory=dict)

    def image(self) -> NDArray[np.float32]:
        """(C, *S) float32."""
        # nnU-Net stores the segmentation as the last channel, and a 2D image as a volume of one slice.
        image: NDArray[np.float32] = read_array(self.stored)[: self.channels]
        image = image[:, 0] if image.ndim > len(self.size) + 1 else image
        if image.shape != (self.channels, *self.size[::-1]) or image.dtype != np.float32:
            raise UserError(f"{self.stored}: has changed since the run began. Start again.")
        return image

    def label(self) -> Labels | None:
        """(*S) int16 with `IGNORE` where there is no annotation; None: without label."""
        return own_array(self.folder / "label.npy", np.int16, self.size[::-1]) if self.labelled else None

    def extra(self, name: str) -> NDArray[np.float16] | None:
        """An extra map (*S) float16 by its name; None: the case has none."""
        if name not in (*self.maps, *self.elsewhere):
            return None
        path = self.elsewhere.get(name, self.folder / f"map_{name}.npy")
        return own_array(path, np.float16, self.size[::-1])

    def annotated(self) -> Runs:
        """All annotated voxels."""
        return self._runs("annotated") if self.annotated_count else Runs.none(self.size)

    def voxels(self, label: int) -> Runs:
        """The annotated voxels of a class."""
        return self._runs(f"class_{label}") if label in self.classes_present else Runs.none(self.size)

    def _runs(self, name: str) -> Runs:
        return Runs.open(self.folder / f"{name}.npy", self.size)
