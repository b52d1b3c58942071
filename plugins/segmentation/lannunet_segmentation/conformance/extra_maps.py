"""Checks of `extra_maps`. Each docstring states the contract."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from lannunet_core import ExtraMap, UserError
from lannunet_core.testing import Broken, Conformance, NotClaimed, isolated, untouched
from lannunet_segmentation.conformance.batches import start
from lannunet_segmentation.conformance.cases import drawn_label, prepared, write_folder
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.session import SegmentationSession
from lannunet_segmentation.types import SegmentationDataset

ROLES = ("weight", "mask", "label")
INTERPOLATIONS = ("linear", "nearest")


class WithFiles(Conformance):
    """The contract of every plugin, and a data set for it."""

    def add_files(self, dataset: Path) -> None:
        """Write the files that the plugin's `extra_maps` needs in an nnU-Net folder, beside images and
        labels.

        Args:
            dataset: A folder of version 2 with imagesTr, labelsTr and dataset.json.
        """


def maps_fit_every_case(subject: WithFiles) -> None:
    """Each training case has each map, on its image's grid and finite; a weight or mask is not below 0."""
    for session, dataset, folder in _datasets(subject):
        maps = _extra_maps(session, dataset, folder)
        for one in maps:
            if missing := [case.id for case in dataset.training if case.id not in one.paths]:
                raise Broken(f"the map '{one.name}' has no file for the case {missing[0]}")
        try:
            prepared(dataset, folder / "prepared", maps)
        except UserError as error:
            raise Broken(f"the task refuses its maps: {error}") from None


def maps_are_described(subject: WithFiles) -> None:
    """A map's name is one word; role, interpolation and fill have allowed values; it pickles."""
    for session, dataset, folder in _datasets(subject):
        for one in _extra_maps(session, dataset, folder):
            if not re.fullmatch(r"\w[\w.-]*", one.name):
                raise Broken(f"the name {one.name!r} is no word; files are named by it")
            if one.role not in ROLES:
                raise Broken(f"the role of '{one.name}' is {one.role!r}, should be one of {', '.join(ROLES)}")
            if one.interpolation not in INTERPOLATIONS:
                raise Broken(
                    f"the interpolation of '{one.name}' is {one.interpolation!r}, should be one of "
                    f"{', '.join(INTERPOLATIONS)}"
                )
            if not math.isfinite(one.fill) or (one.role != "label" and one.fill < 0):
                raise Broken(
                    f"the fill of '{one.name}' is {one.fill!r}, should be finite, of a weight not below 0"
                )
            try:
                travelled = pickle.loads(pickle.dumps(one))
            except Exception as error:
                raise Broken(f"the map '{one.name}' does not pickle: {error}") from None
            if travelled != one:
                raise Broken(
                    f"the map '{one.name}' is {travelled!r:.200} after pickling, before {one!r:.200}"
                )


def maps_are_the_same_again(subject: WithFiles) -> None:
    """When called again, as in a resumed run, the hook returns the same maps, in files with the same
    content."""
    for session, dataset, folder in _datasets(subject):
        found = []
        for seed in (1, 2):  # seeds of the global generators
            with isolated(seed), untouched("extra_maps"):
                maps = _extra_maps(session, dataset, folder)
            found.append((maps, [path.read_bytes() for one in maps for path in _files(one)]))
        if found[0][0] != found[1][0]:
            raise Broken(f"asked again, the maps are {found[1][0]!r:.200}, before {found[0][0]!r:.200}")
        if found[0][1] != found[1][1]:
            raise Broken("asked again, the maps' files have another content")


def _files(one: ExtraMap) -> list[Path]:
    return [path for path in one.paths.values() if path.is_file()]


def _extra_maps(
    session: SegmentationSession, dataset: SegmentationDataset, folder: Path
) -> Sequence[ExtraMap]:
    try:
        return session.hooks.extra_maps(dataset=dataset, folder=folder / "preprocessed")
    except UserError as error:
        raise NotClaimed(
            f"it refuses a folder of images and labels alone; override `add_files`: {error}"
        ) from None


@contextmanager
def _written(subject: WithFiles, dimensions: int) -> Iterator[tuple[SegmentationDataset, Path]]:
    size = (24, 20, 16)[:dimensions]
    with TemporaryDirectory(prefix="lannunet-") as temporary:
        folder = Path(temporary) / "Dataset001_Conformance"
        sparse = drawn_label(size)
        sparse[: len(sparse) // 2] = -1
        write_folder(folder, {"whole": drawn_label(size), "sparse": sparse})
        subject.add_files(folder)
        yield read_dataset(folder), Path(temporary)


def _datasets(subject: WithFiles) -> Iterator[tuple[SegmentationSession, SegmentationDataset, Path]]:
    for kind in subject.kinds():
        session = start(subject, kind)
        with _written(subject, kind.dimensions) as (dataset, folder):
            yield session, dataset, folder
