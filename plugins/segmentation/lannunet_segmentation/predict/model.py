"""A trained model in memory, or an ensemble: `lannunet predict` and Python programs predict with it."""

from __future__ import annotations

import tempfile
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lannunet_images import Graph, ImageFiles, given_images
from numpy.typing import NDArray

from lannunet_core import UserError, progress_bar
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.headers import check_cases
from lannunet_segmentation.data.label_files import write_label
from lannunet_segmentation.predict.members import given_dataset, open_members
from lannunet_segmentation.predict.predictor import segment, segment_case
from lannunet_segmentation.regions import label_names, regions_of
from lannunet_segmentation.types import (
    Case,
    Geometry,
    Labels,
    Region,
    SegmentationDataset,
    SegmentedCase,
)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The label map of an image.

    Attributes:
        labels: (*S), each voxel the index of its class.
        names: Names of the K classes, background first.
        geometry: Geometry of the image.
        probabilities: (K, *S) from the network, before any post-processing; None: not requested.
            For regions (R, *S), in their order.
        regions: Regions that the model predicts instead of classes; empty: classes.
    """

    task: ClassVar[str] = "segmentation"

    labels: Labels
    names: tuple[str, ...]
    geometry: Geometry
    probabilities: NDArray[np.float32] | None = None
    regions: tuple[Region, ...] = ()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the label map with the image's geometry; the suffix is the format."""
        write_label(Path(path), self.labels, self.geometry)


class SegmentationModel:
    """A `Predictor`; several models predict by the mean of their class maps.

    Args:
        model: A model file, the folder of a run, or the folder of a cross-validated run.
        also: Additional models of an ensemble.
        tta: Whether to predict mirrored images too; None: as configured in each model.
        plugins: Trusted plugin files.
        device: As `trainer.device`.

    Raises:
        UserError: A path is not a model, or the models cannot form an ensemble (see `open_members`).
    """

    def __init__(
        self,
        model: Path,
        also: Sequence[Path] = (),
        tta: bool | None = None,
        plugins: Sequence[Path] = (),
        device: str = "auto",
    ) -> None:
        self.model = model
        self.members, (_, *self.others), self.session = open_members(model, also, tta, plugins, device)
        self._turn = threading.Lock()  # plugins may have a state

    def dataset(self, cases: Sequence[Case], files: ImageFiles, ending: str) -> SegmentationDataset:
        """Cases as a data set for this model, whose images `files` reads; see `given_dataset`."""
        return replace(given_dataset(self.model, self.session, cases, ending), files=files)

    def write(
        self,
        dataset: SegmentationDataset,
        folder: Path,
        largest: Sequence[int] = (),
        probabilities: bool = False,
        damaged: list[UserError] | None = None,
    ) -> list[SegmentedCase]:
        """Segment the cases of a data set, and write their label maps into a folder; see `segment`."""
        with self._turn:
            return segment(
                self.members, dataset.testing, dataset, folder, "given", largest, probabilities, damaged
            )

    def graph(self, size: Sequence[int] | None = None) -> Graph:
        """The model as one graph of tensors, for export; see `graph.graph_of`."""
        from lannunet_segmentation.predict.graph import graph_of

        if self.others or self.session.loaded.refine is not None:
            what = "predicts in two stages"
            if self.others:
                what = f"holds {len(self.members)} models that predict together (name one, such as its fold0)"
            raise UserError(f"{self.model}: {what}, so it cannot be exported as a graph.")
        return graph_of(self.session, self.members[0].settings, self.model, size)

    def predict(
        self,
        images: Sequence[Any],
        spacing: float | Sequence[float] | None = None,
        *,
        probabilities: bool = False,
    ) -> list[Segmentation]:
        """See `lannunet_core.Predictor`.

        Args:
            images: As in `Predictor`; several channels are one array.
            spacing: As in `Predictor`.
            probabilities: Also return those of all classes, which need K times the memory of the image.
        """
        session, run = self.session, self.session.run
        plugins = self.members[0].session.loaded.plugins
        if any(hasattr(plugin.plugin_class, "postprocess_all") for plugin in plugins):
            warnings.warn("post-processing of all cases together needs files, and is left out", stacklevel=3)
        paths, files = given_images(images, session.files, run.dimensions, spacing)
        cases = [Case(str(number), (path,), None) for number, path in enumerate(paths)]
        dataset = self.dataset(cases, files, "")
        check_cases(cases, dataset)
        found, scratch = [], Path(tempfile.gettempdir())
        with self._turn, progress_bar("segmenting given cases", len(cases)) as bar:
            for case in cases:
                stored = read_case(case, dataset)
                kept, keep = None, None
                if probabilities:
                    kept = np.empty((len(run.outputs), *stored.pixels.shape[1:]), np.float32)
                    keep = partial(_store, kept)
                labels = segment_case(self.members, case, stored, dataset, keep, scratch=scratch)
                found.append(Segmentation(labels, label_names(run), stored.geometry, kept, regions_of(run)))
                bar.advance()
        return found


def _store(kept: NDArray[np.float32], rows: slice, values: NDArray[np.float32]) -> None:
    kept[:, rows] = values
