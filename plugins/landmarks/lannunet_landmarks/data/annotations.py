"""Read and check the JSON of a landmark dataset.

Errors in it are found here, before the training starts; those that need an image's size (`check_inside`) when
the image is first read.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath
from typing import Any, cast

import numpy as np
from lannunet_images import IMAGE_FILES, ImageFiles, is_inside, is_series
from pydantic import ValidationError

from lannunet_core import LoadedConfig, State, UserError, image_format, open_in_format, terminal_text
from lannunet_landmarks.data.exchange import Content, format_names, read_content
from lannunet_landmarks.data.groups import field_of, groups_by, patient_field
from lannunet_landmarks.data.json_file import fold_numbers
from lannunet_landmarks.data.points import is_number, place_of, read_points, shown
from lannunet_landmarks.data.world import SYSTEMS, System, dimensions_of, to_pixels
from lannunet_landmarks.schema import DatasetConfig
from lannunet_landmarks.types import SPLITS as SPLITS, Sample, Split as Split

KNOWN_KEYS = {"id", "image", "coordinates", "has_annotation", "spacing"}
LARGEST_SPACING = 1e6  # mm


@dataclass(frozen=True)
class LandmarkDataset:
    """A landmark dataset, reduced to the selected landmarks.

    Attributes:
        name: Name in the JSON, else the file's name.
        description: Description in the JSON.
        fold: Number of the fold.
        landmark_names: N names, from `landmark_names` in the JSON, else the landmarks' indices there.
        dimensions: D, 2 or 3.
        samples: The samples of each split.
        flip_pairs: Pairs of landmarks that a mirror swaps, as positions among the N selected.
        path: The JSON file.
        files: Reader of its images.
        groups: The patient of each sample, by id, as far as known.
        notes: Messages about the JSON, printed before a run.
    """

    name: str
    description: str
    fold: int
    landmark_names: tuple[str, ...]
    dimensions: int
    samples: Mapping[Split, tuple[Sample, ...]]
    flip_pairs: tuple[tuple[int, int], ...]
    path: Path
    files: ImageFiles = IMAGE_FILES
    groups: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What a trained model knows of a data set in which no landmark is annotated."""

    landmark_names: tuple[str, ...]
    dimensions: int


def open_dataset(loaded: LoadedConfig, known: Known | None = None) -> LandmarkDataset:
    """Open the data set of a run, in our format or in that of one of its plugins."""
    files = ImageFiles.of(loaded)

    def own(config: DatasetConfig, fold: int) -> LandmarkDataset:
        return load_dataset(config, fold, files, known)

    dataset = open_in_format(loaded, own, format_names())
    if not isinstance(dataset, LandmarkDataset):
        raise UserError(
            f"dataset.format: {loaded.run.dataset.format} returns a {type(dataset).__name__}, should return "
            "a LandmarkDataset. Report it to its author."
        )
    return replace(dataset, files=files)


def dataset_section(
    annotations: Path, root: Path | None = None, landmarks: Sequence[int] | None = None
) -> DatasetConfig:
    """The `dataset` section that corresponds to a command's arguments.

    Raises:
        UserError: An argument is wrong.
    """
    section = {"src_targets": annotations, "landmarks": landmarks} | ({} if root is None else {"root": root})
    try:
        return DatasetConfig.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        name = annotations if key == "src_targets" else f"--{key}"
        raise UserError(f"{name}: {terminal_text(first['msg'])}.") from None


def load_dataset(
    dataset: DatasetConfig, fold: int, files: ImageFiles = IMAGE_FILES, known: Known | None = None
) -> LandmarkDataset:
    """Read and check the annotations of one fold. A missing list is treated as empty.

    Args:
        dataset: The `dataset` section.
        fold: K of the foldK.json in a folder; -1 takes the folder's plain JSON. Ignored for a file.
        files: Reader of the images.
        known: Names and dimensions, for a data set without a coordinate; None: such a data set is an error.

    Raises:
        UserError: The annotations are wrong, or images are missing.
    """
    content = read_content(dataset.src_targets, fold, dataset.format, dataset.root)
    return dataset_of(content, dataset, fold, files, known)


def open_first(path: Path) -> LandmarkDataset:
    """Open the data set of a JSON, or of the first fold or only JSON of a folder."""
    folds = fold_numbers(path) if path.is_dir() else []
    return load_dataset(dataset_section(path), folds[0] if folds else -1)


def dataset_of(
    read: Content,
    dataset: DatasetConfig,
    fold: int = -1,
    files: ImageFiles = IMAGE_FILES,
    known: Known | None = None,
) -> LandmarkDataset:
    """The data set of this content; see `load_dataset`."""
    path, content = read.path, read.json
    notes = [*_check_lists(path, content), *read.notes]
    root = path.parent if dataset.root is None else Path(dataset.root)
    shape = _shape(path, content)
    system = _system(path, content)
    pairs: tuple[tuple[int, int], ...] = ()
    if shape is not None:
        selected = _selection(path, dataset.landmarks, shape[0])
        names = _names(path, content.get("landmark_names"), shape[0])
        pairs = _flip_pairs(path, dataset.flip_pairs, shape[0], selected)
        chosen = tuple(names[index] for index in selected)
    elif known is not None:
        chosen, shape = known.landmark_names, (len(known.landmark_names), known.dimensions)
        selected = list(range(len(chosen)))
    else:
        raise UserError(f"{path}: no sample has a coordinate. Give samples their lists of [x, y].")
    samples: dict[Split, tuple[Sample, ...]] = {}
    seen: set[str] = set()
    dimensions = shape[1]
    for split in SPLITS:
        entries = []
        for position, entry in enumerate(content.get(split, [])):
            where = read.where(entry) or _where(path, split, position, entry)
            image = _image(where, entry, root)
            if system != "pixel" and not seen:  # the image's geometry states its dimensions
                dimensions = dimensions_of(image, files, where)
            found = read_points(where, entry, split == "training", shape)
            pixels = to_pixels(found.coordinates, system, image, dimensions, files, where)
            sample = Sample(
                id=terminal_text(entry["id"]),
                image=image,
                coordinates=pixels[selected],
                states=found.states[selected],
                spacing=_spacing(where, entry.get("spacing", content.get("spacing")), dimensions),
                extra={key: value for key, value in entry.items() if key not in KNOWN_KEYS},
                source=where,
                landmark_names=chosen,
                occluded=found.occluded[selected],
            )
            if sample.id in seen:
                raise UserError(f'{path}: id "{sample.id}" occurs twice. Give every sample its own.')
            seen.add(sample.id)
            entries.append(sample)
        samples[split] = tuple(entries)
    if samples["training"] and not any((one.states == State.VISIBLE).any() for one in samples["training"]):
        raise UserError(f'{path}: no sample of "training" has a coordinate of a selected landmark.')
    _check_images([sample for split in SPLITS for sample in samples[split]], files)
    number = content.get("fold", fold)
    if isinstance(number, bool) or not isinstance(number, int):
        raise UserError(f'{path}: "fold" is {shown(number)}; it must be a whole number.')
    return LandmarkDataset(
        name=terminal_text(content.get("name", path.stem)),
        description=terminal_text(content.get("description", "")),
        fold=fold if dataset.src_targets.is_dir() else number,
        landmark_names=chosen,
        dimensions=dimensions,
        samples=samples,
        flip_pairs=pairs,
        path=path,
        files=files,
        groups=_groups(path, content),
        notes=tuple(notes),
    )


def check_inside(sample: Sample, size: Sequence[int]) -> None:
    """Raise a UserError if a coordinate lies outside of an image of `size` (x, y[, z])."""
    visible = sample.states == State.VISIBLE
    for landmark in np.flatnonzero(visible & ~is_inside(sample.coordinates, size)):
        point = ", ".join(f"{value:g}" for value in sample.coordinates[landmark])
        source = sample.source or f'sample "{sample.id}"'
        name = sample.landmark_names[landmark] if sample.landmark_names else landmark
        raise UserError(
            f"{source}: landmark {name} at ({point}) lies outside of its image of "
            f"{'×'.join(map(str, size))} pixels ({sample.image}). Coordinates are (x, y[, z]) in pixels from "
            'the top left; write "absent" for a landmark that the image does not show.'
        )


def outside(dataset: LandmarkDataset, ids: Collection[str] | None = None) -> list[str]:
    """The message of `check_inside` for each sample that has one, among those with these ids (None: all)."""
    messages = []
    for sample in (one for samples in dataset.samples.values() for one in samples):
        if ids is None or sample.id in ids:
            try:
                check_inside(sample, dataset.files.header(sample.image, dataset.dimensions).size)
            except UserError as error:
                messages.append(str(error))
    return messages


def image_path(root: Path, image: str) -> Path:
    """The file that a sample names; paths written on Windows are found on other systems too."""
    path = root / image
    return path if "\\" not in image or os.path.lexists(path) else root / PureWindowsPath(image).as_posix()


def entries_of(path: Path, content: Mapping[str, Any], root: Path) -> list[tuple[dict[str, Any], Path]]:
    """The samples of all lists of a JSON, each with its image.

    Raises:
        UserError: One has no id or image.
    """
    _check_lists(path, content)
    return [
        (entry, _image(_where(path, split, position, entry), entry, root))
        for split in SPLITS
        for position, entry in enumerate(content.get(split, []))
    ]


def landmarks_of(path: Path, content: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """What is written of each landmark of an entry, by name; empty where it is not annotated.

    Raises:
        UserError: It has more or fewer than the JSON has names.
    """
    if not is_annotated(entry):
        return {}
    points, where = entry["coordinates"], f'{path}, sample "{terminal_text(entry["id"])}"'
    if not isinstance(points, list):
        raise UserError(f'{where}: "coordinates" is {shown(points)}; it must be a list, a landmark each.')
    names = content.get("landmark_names")
    names = [str(index) for index in range(len(points))] if names is None else names
    if not isinstance(names, list) or len(names) != len(points):
        raise UserError(
            f'{where}: has {len(points)} landmarks, and "landmark_names" is {shown(names)}. Write null for '
            "one without annotation."
        )
    return {str(name): point for name, point in zip(names, points, strict=True)}


def is_annotated(entry: Mapping[str, Any]) -> bool:
    return entry.get("coordinates") is not None and entry.get("has_annotation", True)


def _check_lists(path: Path, content: Any) -> list[str]:
    """Refuse content that is not a data set; return notes on lists that are not read."""
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be an object with the lists {', '.join(SPLITS)}.")
    others = [
        terminal_text(key)
        for key, value in content.items()
        if key not in SPLITS and isinstance(value, list) and value and isinstance(value[0], dict)
    ]
    if not any(split in content for split in SPLITS):
        found = f"; it has {', '.join(others)}" if others else ""
        raise UserError(f"{path}: has none of the lists {', '.join(SPLITS)}{found}.")
    for split in SPLITS:
        if not isinstance(content.get(split, []), list):
            raise UserError(f'{path}: "{split}" must be a list of samples.')
    notes = [f'{path}: the list "{name}" is not read; call it {", ".join(SPLITS)}.' for name in others]
    if "training" in content and "validation" not in content:
        notes.append(f'{path}: has no list "validation", so nothing is held out to choose the best epoch.')
    entries = [entry for split in SPLITS for entry in content.get(split, []) if isinstance(entry, dict)]
    if idle := sum(one.get("has_annotation") is False and bool(one.get("coordinates")) for one in entries):
        notes.append(f'{path}: the coordinates of {idle} samples are not read, as "has_annotation" is false.')
    return notes


def _where(path: Path, split: Split, position: int, entry: Any) -> str:
    """The name of a sample in messages."""
    if isinstance(entry, dict) and isinstance(entry.get("id"), (str, int)):
        return f'{path}, sample "{terminal_text(entry["id"])}" of {split}'
    return f"{path}, sample {position + 1} of {split}"


def _shape(path: Path, content: Mapping[str, Any]) -> tuple[int, int] | None:
    """The number of landmarks and of dimensions, from the first sample that shows them; None: no sample
    does."""
    for split in SPLITS:
        for position, entry in enumerate(content.get(split, [])):
            coordinates = entry.get("coordinates") if isinstance(entry, dict) else None
            points = coordinates if isinstance(coordinates, list) else []
            for point in map(place_of, points):
                if isinstance(point, list):
                    if len(point) not in (2, 3):
                        where = _where(path, split, position, entry)
                        raise UserError(f"{where}: {point!r:.60} is neither (x, y) nor (x, y, z).")
                    return len(points), len(point)
    return None


def _selection(path: Path, landmarks: Sequence[int] | None, count: int) -> list[int]:
    selected = list(range(count)) if landmarks is None else list(landmarks)
    for index in selected:
        if not 0 <= index < count:
            raise UserError(
                f"dataset.landmarks: {index} is none of the {count} landmarks (0 to {count - 1}) of {path}."
            )
    return selected


def _system(path: Path, content: Mapping[str, Any]) -> System:
    """The coordinate system of the coordinates."""
    found = content.get("coordinate_system", "pixel")
    if found not in SYSTEMS:
        raise UserError(
            f'{path}: "coordinate_system" is {shown(found)}; it must be one of {", ".join(SYSTEMS)}.'
        )
    return cast(System, found)


def _image(where: str, entry: Any, root: Path) -> Path:
    """The image of an entry that has an id and an image."""
    if not isinstance(entry, dict):
        raise UserError(f'{where}: must be an object with "id", "image" and "coordinates".')
    if entry.get("id") is None:
        raise UserError(f'{where}: "id" is missing.')
    if isinstance(entry["id"], bool) or not isinstance(entry["id"], (str, int)) or entry["id"] == "":
        raise UserError(f'{where}: "id" is {shown(entry["id"])}; it must be a text or a whole number.')
    if not isinstance(entry.get("image"), str):
        raise UserError(f'{where}: "image" is missing, or is not a text (the path of its file).')
    return image_path(root, entry["image"])


def _spacing(where: str, value: Any, dimensions: int) -> tuple[float, ...] | None:
    if value is None:
        return None
    steps = value if isinstance(value, list) else [value] * dimensions
    if len(steps) != dimensions or not all(is_number(s) and 0 < s < LARGEST_SPACING for s in steps):
        raise UserError(
            f'{where}: "spacing" is {shown(value)}; it must be mm per pixel, one number or {dimensions}.'
        )
    return tuple(float(step) for step in steps)


def _names(path: Path, names: Any, count: int) -> list[str]:
    if names is None:
        return [str(index) for index in range(count)]
    known = names if isinstance(names, list) else []
    read = [terminal_text(name) for name in known if isinstance(name, str) or is_number(name)]
    if len(read) != len(known) or len(read) != count or len(set(read)) != count or "" in read:
        raise UserError(f'{path}: "landmark_names" must be {count} different names, one per landmark.')
    return read


def _flip_pairs(
    path: Path, pairs: Sequence[tuple[int, int]], count: int, selected: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    members = [index for pair in pairs for index in pair]
    for index in members:
        if not 0 <= index < count:
            raise UserError(
                f"dataset.flip_pairs: {index} is none of the {count} landmarks (0 to {count - 1}) of {path}."
            )
    if len(set(members)) < len(members):
        raise UserError("dataset.flip_pairs: a landmark stands in two places. Name each pair once.")
    kept = []
    for left, right in pairs:
        if (left in selected) != (right in selected):
            raise UserError(
                f"dataset.flip_pairs: of [{left}, {right}] only one is in dataset.landmarks. Select both, or "
                "remove the pair if a mirror image of one may pass for it."
            )
        if left in selected:
            kept.append((selected.index(left), selected.index(right)))
    return tuple(kept)


def _check_images(samples: Sequence[Sample], files: ImageFiles) -> None:
    missing = [sample for sample in samples if not _is_image(sample.image)]
    if missing:
        first = missing[0]
        image = f"{terminal_text(first.image):.300}"
        if os.path.isdir(first.image):  # noqa: PTH112
            raise UserError(
                f"{first.source}: image {image} is a folder without DICOM slices, should be a file or the "
                "folder of a series."
            )
        raise UserError(
            f"{first.source}: image {image} does not exist ({len(missing)} of {len(samples)} images are "
            "missing). Paths are relative to dataset.root."
        )
    for sample in samples:
        if not files.knows(sample.image):
            image_format(sample.image)  # known content with an unknown suffix is accepted


def _is_image(path: Path) -> bool:
    """Whether the path is a file, or DICOM slices."""
    return os.path.isfile(path) or is_series(path)  # noqa: PTH113  (never raises)


def _groups(path: Path, content: Mapping[str, Any]) -> dict[str, str]:
    """The patient of each sample: by `group_by` of the JSON, else by a field that seems to name the
    patient."""
    entries = [entry for split in SPLITS for entry in content.get(split, [])]
    rule = content.get("group_by")
    if rule is None:
        named = patient_field(entries)
        entries = [entry for entry in entries if isinstance(entry.get(named), (str, int, float))]
        groups = [] if named is None else field_of(named, entries, str(path))
    elif isinstance(rule, str) and rule:
        groups, _ = groups_by(rule, entries, f'{path}: "group_by"')
    else:
        raise UserError(
            f'{path}: "group_by" is {shown(rule)}; it must be a field of the samples, or a pattern.'
        )
    return {terminal_text(entry["id"]): name for entry, name in zip(entries, groups, strict=True)}
