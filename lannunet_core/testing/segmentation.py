"""Checks of `get_segmentation` and `extra_maps`. Each docstring is the contract."""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from lannunet_segmentation.data.folders import read_dataset
from lannunet_segmentation.types import SegmentationDataset
from torch import Tensor

from lannunet_core.errors import UserError
from lannunet_core.hookspecs import ExtraMap
from lannunet_core.run.session import Session
from lannunet_core.testing.cases import drawn_label, prepared, write_folder
from lannunet_core.testing.running import build, describe, isolated, untouched
from lannunet_core.testing.subject import Broken, NotClaimed, Subject

ROLES = ("weight", "mask", "label")
INTERPOLATIONS = ("linear", "nearest")


def labels_are_classes(subject: Subject) -> None:
    """Of maps (K, *S) the answer is (*S) whole numbers, each the label of one of the K classes."""
    for kind in subject.kinds("segmentation"):
        session = build(subject, kind)
        maps = _maps(session)
        with isolated():
            labels = session.hooks.get_segmentation(maps=maps)
        if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.shape != maps.shape[1:]:
            raise Broken(
                f"in {kind} of maps {tuple(maps.shape)} the labels are {describe(labels)}, should be whole "
                f"numbers of shape {tuple(maps.shape[1:])}"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(maps):
            raise Broken(f"in {kind} of {len(maps)} classes the labels are {low} … {high}, not 0 … K - 1")


def slabs_are_labelled_alone(subject: Subject) -> None:
    """Slab after slab is labelled as all at once, twice the same, and no global generator is drawn from."""
    for kind in subject.kinds("segmentation"):
        session = build(subject, kind)
        maps = _maps(session)
        half = maps.shape[1] // 2
        with isolated(), untouched("get_segmentation"):
            whole, again, first, second = (
                session.hooks.get_segmentation(maps=part.clone())
                for part in (maps, maps, maps[:, :half], maps[:, half:])
            )
        if not torch.equal(whole, again):
            raise Broken(f"in {kind} the same maps give other labels the second time")
        if not torch.equal(whole, torch.cat([first, second])):
            wrong = float((whole != torch.cat([first, second])).float().mean())
            raise Broken(
                f"in {kind} {wrong:.1%} of the labels differ where the maps are given in two slabs; a case "
                "is labelled slab after slab, so a voxel's label follows from its own K values"
            )


def maps_fit_every_case(subject: Subject) -> None:
    """Each training case has each map, of its image's grid and finite; a weight or mask is not below 0."""
    for session, dataset, folder in _datasets(subject):
        maps = _extra_maps(session, dataset, folder)
        for one in maps:
            if missing := [case.id for case in dataset.training if case.id not in one.paths]:
                raise Broken(f"the map '{one.name}' has no file for the case {missing[0]}")
        try:
            prepared(dataset, folder / "prepared", maps)
        except UserError as error:
            raise Broken(f"the core refuses its maps: {error}") from None


def maps_are_described(subject: Subject) -> None:
    """A map's name is one word; role, interpolation and fill are among those that there are; it pickles."""
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


def maps_are_the_same_again(subject: Subject) -> None:
    """Asked again, as when a run goes on, the maps are the same, in the same files with the same content."""
    for session, dataset, folder in _datasets(subject):
        found = []
        for seed in (1, 2):  # of the global generators
            with isolated(seed), untouched("extra_maps"):
                maps = _extra_maps(session, dataset, folder)
            found.append((maps, [path.read_bytes() for one in maps for path in _files(one)]))
        if found[0][0] != found[1][0]:
            raise Broken(f"asked again, the maps are {found[1][0]!r:.200}, before {found[0][0]!r:.200}")
        if found[0][1] != found[1][1]:
            raise Broken("asked again, the maps' files have another content")


def _files(one: ExtraMap) -> list[Path]:
    return [path for path in one.paths.values() if path.is_file()]


def _extra_maps(session: Session, dataset: SegmentationDataset, folder: Path) -> list[ExtraMap]:
    try:
        return session.hooks.extra_maps(dataset=dataset, folder=folder / "preprocessed")
    except UserError as error:
        raise NotClaimed(
            f"it refuses a folder of images and labels alone; override `add_files`: {error}"
        ) from None


@contextmanager
def _written(subject: Subject, dimensions: int) -> Iterator[tuple[SegmentationDataset, Path]]:
    size = (24, 20, 16)[:dimensions]
    with TemporaryDirectory(prefix="lannunet-") as temporary:
        folder = Path(temporary) / "Dataset001_Conformance"
        sparse = drawn_label(size)
        sparse[: len(sparse) // 2] = -1
        write_folder(folder, {"whole": drawn_label(size), "sparse": sparse})
        subject.add_files(folder)
        yield read_dataset(folder), Path(temporary)


def _datasets(subject: Subject) -> Iterator[tuple[Session, SegmentationDataset, Path]]:
    for kind in subject.kinds("segmentation"):
        session = build(subject, kind)
        with _written(subject, kind.dimensions) as (dataset, folder):
            yield session, dataset, folder


def _maps(session: Session) -> Tensor:
    """Random ones (K, *S) that sum to 1."""
    shape = (len(session.run.outputs), *reversed(session.run.input_size))
    noise = np.random.default_rng(0).normal(size=shape)
    return torch.from_numpy(3 * noise).float().softmax(0)
