"""Prepare the files of cases as arrays that patches are cut from: resampled, normalised, indexed,
memory-mapped.

Every case has its own folder; it is complete when its `case.json` exists, which is written last and records
the sources of the arrays: settings, and the content of files. See `case_record`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from lannunet_images import IMAGE_FILES, ImageFiles
from numpy.typing import NDArray

from lannunet_core import ExtraMap, UserError, available_cores, echo, inside, progress_bar
from lannunet_segmentation.data import preprocessed
from lannunet_segmentation.data.arrays import layout, read_array, save_array
from lannunet_segmentation.data.case_record import CaseRecord, FileState, read_record, write_record
from lannunet_segmentation.data.cases import read_case
from lannunet_segmentation.data.normalise import prepare_image, prepared_size, thick_axis
from lannunet_segmentation.data.prepared import PreparedCase
from lannunet_segmentation.data.regrid import resample, resample_label, resample_nearest
from lannunet_segmentation.data.runs import Runs
from lannunet_segmentation.processes import in_processes
from lannunet_segmentation.types import (
    IGNORE,
    Case,
    SegmentationDataset,
    Settings,
)

RECORD = "case.json"
OWN = re.compile(r"case\.json|(image|label|annotated|class_\d+|map_.+)\.npy|\.lannunet-\d+-.+")
"""Names of the files in a case's folder, and of those that a killed writer leaves."""
VERSION = 2
"""Version of the format; a cache of another version is made again."""
SMALL = 1 << 30
"""Bytes that one process prepares in the time that it takes to start others."""


def cache_folder(
    dataset: SegmentationDataset, settings: Settings, extra_maps: Sequence[ExtraMap], beside: Path
) -> Path:
    """The folder of cases with this preparation.

    Args:
        dataset: Data set of the cases.
        settings: Settings of the preparation.
        extra_maps: Maps that are prepared too.
        beside: Parent of the folders of runs.
    """
    maps = [(_recipe(extra), sorted(map(str, extra.paths.values()))) for extra in extra_maps]
    everything = _hash_of([str(dataset.path.resolve()), settings.recipe(), maps])
    name = re.sub(r"[^\w.-]+", "_", dataset.name)[:40]
    return beside / "preprocessed" / f"{name}-{everything[:12]}"


def prepare_cases(
    cases: Sequence[Case],
    dataset: SegmentationDataset,
    settings: Settings,
    folder: Path,
    extra_maps: Sequence[ExtraMap] = (),
    jobs: int = 0,
) -> list[PreparedCase]:
    """Prepare cases that are not prepared yet, several at a time.

    Results of an earlier call are used if files and settings are unchanged; a file whose time changed is
    compared by its content.

    Args:
        cases: The cases.
        dataset: Data set of the cases.
        settings: Settings of the preparation; a preprocessed folder is used directly.
        folder: Gets a folder for each case; see `cache_folder`.
        extra_maps: Maps that are prepared too.
        jobs: Processes; 0: one per core, as far as memory allows.

    Raises:
        UserError: A file is damaged or does not fit its case.
    """
    _check_settings(dataset, settings)
    where = str(dataset.path)
    work = [_Job.of(case, dataset, settings, inside(folder, case.id, where), extra_maps) for case in cases]
    prepared = _kept(work)
    if len(prepared) < len(work):
        with _alone(folder):
            prepared = _kept(work)
            todo = [job for job in work if job.case.id not in prepared]
            with progress_bar("preparing cases", len(todo)) as progress:
                for case in in_processes(_Job.run, todo, jobs or _fitting_jobs(todo)):
                    prepared[case.id] = case
                    progress.advance()
    return [prepared[case.id] for case in cases]


def _check_settings(dataset: SegmentationDataset, settings: Settings) -> None:
    channels = len(dataset.channel_names)
    if dataset.layout == "preprocessed":
        return
    for key, values in (("normalisation", settings.normalisation), ("clip", settings.clip)):
        if len(values) != channels:
            raise UserError(
                f"preprocess.{key}: {len(values)} value(s) for {channels} channel(s) "
                f"({', '.join(dataset.channel_names)}). Give one per channel."
            )
    for channel, (kind, clip) in enumerate(zip(settings.normalisation, settings.clip, strict=True)):
        if kind == "ct" and clip is None:
            raise UserError(
                f"preprocess.clip: channel {channel} is normalised as `ct`, which needs "
                "[0.5 percentile, 99.5 percentile, mean, standard deviation]; `lannunet plan` measures them."
            )
    if settings.spacing is not None and len(settings.spacing) != dataset.dimensions:
        raise UserError(
            f"preprocess.spacing: {len(settings.spacing)} numbers for images of {dataset.dimensions} "
            "dimensions. Give one for each of x, y and z."
        )


# One case


@dataclass(frozen=True)
class _Job:
    """Everything that a process needs to prepare a case."""

    case: Case
    dataset: SegmentationDataset
    settings: Settings
    folder: Path
    extra_maps: tuple[ExtraMap, ...]

    @classmethod
    def of(
        cls,
        case: Case,
        dataset: SegmentationDataset,
        settings: Settings,
        folder: Path,
        extra_maps: Sequence[ExtraMap],
    ) -> _Job:
        for extra in extra_maps:
            if case.id not in extra.paths:
                raise UserError(
                    f'case "{case.id}": has no map "{extra.name}". Add its file, or leave the case out.'
                )
        maps = tuple(replace(extra, paths={case.id: extra.paths[case.id]}) for extra in extra_maps)
        # One training case stays: preprocessed ones are compared with it.
        return cls(case, replace(dataset, training=dataset.training[:1], testing=()), settings, folder, maps)

    @property
    def files(self) -> list[Path]:
        if self.dataset.layout == "preprocessed":
            beside = preprocessed.files_of(self.case.images[0])
        else:
            beside = [self.case.label] if self.case.label else []
        return [
            *(part for path in self.case.images for part in self.dataset.files.parts(path)),
            *beside,
            *(extra.paths[self.case.id] for extra in self.extra_maps),
        ]

    @property
    def recipe(self) -> str:
        """A hash of everything that the arrays depend on, except the files."""
        dataset = self.dataset
        shape = [dataset.layout, dataset.dimensions, len(dataset.channel_names), len(dataset.class_names)]
        settings = None if dataset.layout == "preprocessed" else self.settings.recipe()
        maps = [_recipe(extra) for extra in self.extra_maps]
        return _hash_of([VERSION, shape, dataset.ignore, settings, self.case.label is None, maps])

    @property
    def peak_bytes(self) -> int:
        """Approximate memory of the preparation, from the headers."""
        path, dimensions = self.case.images[0], self.dataset.dimensions
        if self.dataset.layout == "preprocessed":
            voxels = prepared = math.prod(preprocessed.preprocessed_shape(path)[1:])
        else:
            header = self.dataset.files.header(path, dimensions)
            spacing = header.spacing or (1.0,) * dimensions
            voxels = math.prod(header.size)
            prepared = math.prod(prepared_size(header.size, spacing, self.settings))
        channels = len(self.dataset.channel_names)
        splines = 16 * voxels + 8 * prepared if self.settings.interpolation == "cubic" else 0
        return 8 * channels * voxels + 4 * channels * prepared + 12 * max(voxels, prepared) + splines

    def kept(self) -> PreparedCase | None:
        """The result of an earlier call, if nothing has changed, not even a file's time."""
        record = self.record()
        if record is None or not all(state.same_time(path) for path, state in self.states(record)):
            return None
        return _prepared(self, record)

    def record(self) -> CaseRecord | None:
        """The record of an earlier call with the same recipe, whatever the current content of the files."""
        record = read_record(self.folder / RECORD)
        if record is None or record.recipe != self.recipe or len(record.files) != len(self.files):
            return None
        return record

    def states(self, record: CaseRecord) -> list[tuple[Path, FileState]]:
        """The files in a record: the sources of the case, and its arrays."""
        return [
            *zip(self.files, record.files, strict=True),
            *((self.own(n), s) for n, s in record.arrays.items()),
        ]

    def run(self) -> PreparedCase:
        files = [FileState.of(path) for path in self.files]
        known = self.record()
        if known is None or not all(state.same_content(path) for path, state in self.states(known)):
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.iterdir():
                if OWN.fullmatch(path.name):
                    path.unlink()
            known = self.make()
        arrays = {name: FileState.of(self.own(name)) for name in known.arrays}
        record = known.model_copy(update={"files": files, "arrays": arrays})
        write_record(self.folder / RECORD, record)
        return _prepared(self, record)

    def own(self, name: str) -> Path:
        """The path of one of its arrays."""
        return inside(self.folder, name, f"{self.dataset.path}: case {self.case.id}")

    def make(self) -> CaseRecord:
        """Write the arrays, and return their record; the states of files are still empty."""
        image = read_case(self.case, self.dataset)
        geometry, label = image.geometry, image.label
        try:
            pixels, affine = prepare_image(image, self.settings, self.dataset)
        except UserError as error:
            raise UserError(f"{' or '.join(map(str, self.case.images))}: {error}") from None
        del image
        size, arrays = pixels.shape[:0:-1], []

        def save(name: str, array: NDArray[Any]) -> None:
            save_array(self.own(name), array)
            arrays.append(name)

        in_place = self.dataset.layout == "preprocessed" and _is_float_array(self.case.images[0])
        if not in_place:
            save("image.npy", pixels)
        del pixels
        classes: list[int] = []
        annotated = Runs.none(size)
        if label is not None:
            label = resample_label(label, size, thick_axis(geometry.spacing, self.settings))
            save("label.npy", label)
            runs = Runs.of_each(label)
            classes = sorted(value for value in runs if value != IGNORE)
            for value in classes:
                save(f"class_{value}.npy", runs[value].array)
            annotated = Runs.of(label != IGNORE)
            save("annotated.npy", annotated.array)
        for extra in self.extra_maps:
            values = read_map(extra, self.case.id, geometry.size, self.dataset.files)
            resampled = (resample if extra.interpolation == "linear" else resample_nearest)(values, size)
            save(f"map_{extra.name}.npy", resampled.astype(np.float16))
        return CaseRecord(
            recipe=self.recipe,
            in_place=in_place,
            size=size,
            affine=affine.tolist(),
            geometry=geometry,
            classes_present=classes,
            annotated_count=len(annotated),
            labelled=label is not None,
            files=[],
            arrays=dict.fromkeys(arrays, FileState.none()),
        )


def _prepared(job: _Job, record: CaseRecord) -> PreparedCase:
    geometry, size = record.geometry, record.size
    sides = zip(geometry.spacing, geometry.size, size, strict=True)
    return PreparedCase(
        id=job.case.id,
        folder=job.folder,
        stored=job.case.images[0] if record.in_place else job.folder / "image.npy",
        channels=len(job.dataset.channel_names),
        size=size,
        spacing=tuple(spacing * old / new for spacing, old, new in sides),
        affine=np.array(record.affine, np.float64),
        geometry=geometry,
        classes_present=record.classes_present,
        annotated_count=record.annotated_count,
        labelled=record.labelled,
        maps=tuple(extra.name for extra in job.extra_maps),
        extra_fields=job.case.extra,
        annotated_classes=job.case.annotated,
    )


def _is_float_array(path: Path) -> bool:
    return path.suffix == ".npy" and layout(path).dtype == np.float32


def read_map(
    extra: ExtraMap, case_id: str, size: tuple[int, ...], files: ImageFiles = IMAGE_FILES
) -> NDArray[np.float32]:
    """A case's map (*S), checked, on the grid of its image, whose size is `size` (x, y[, z]).

    Raises:
        UserError: It is damaged, on another grid, or not a weight.
    """
    path = extra.paths[case_id]
    if files.reader(path) is None and path.suffix in (".npy", ".npz"):
        found = read_array(path, "")
    else:
        found = files.read(path, len(size)).pixels
    while found.ndim > len(size) and len(found) == 1:
        found = found[0]
    if found.shape != size[::-1]:
        raise UserError(
            f'{path}: the map "{extra.name}" has shape {found.shape} where the image of case "{case_id}" has '
            f"{size[::-1]}. Make it in the grid of the image."
        )
    values = found.astype(np.float32)
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float16)).all()
    if not finite:
        raise UserError(f'{path}: the map "{extra.name}" holds values that are not finite, or over 65504.')
    if extra.role != "label" and (values.min() < 0 or values.max() == 0):
        what = "negative values" if values.min() < 0 else "nothing but zeros"
        raise UserError(f'{path}: the map "{extra.name}" holds {what}, and weighs the loss. Make it again.')
    return values


def _recipe(extra: ExtraMap) -> list[str]:
    return [extra.name, extra.role, extra.interpolation]


def _hash_of(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


# Many cases


def _kept(work: Sequence[_Job]) -> dict[str, PreparedCase]:
    return {job.case.id: case for job in work if (case := job.kept())}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make runs that share a folder prepare its cases one after the other; later ones use the results."""
    folder.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with (folder / ".lock").open("w") as lock:  # released when the process ends for any reason
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            echo(f"Another run prepares the cases in {folder}; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a network share without locks: both prepare, and write the same arrays
        yield


def _fitting_jobs(todo: Sequence[_Job]) -> int:
    """One process per core, as many as fit into memory; one if there is little to do."""
    sizes = [job.peak_bytes for job in todo]
    if sum(sizes) < SMALL:
        return 1
    from lannunet_images import available_memory

    return max(1, min(available_cores(), available_memory() // max(sizes)))
