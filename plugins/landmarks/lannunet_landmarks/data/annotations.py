"""The JSON of a landmark dataset, checked and read.

What can be wrong with it is found here, before anything is trained; what needs an image's size
(`check_inside`) when the image is first read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lannunet_core import (
    IMAGE_FILES,
    Floats,
    ImageFiles,
    LoadedConfig,
    State,
    UserError,
    image_format,
    is_inside,
    open_in_format,
)
from lannunet_landmarks.schema import DatasetConfig
from lannunet_landmarks.types import Sample

Split = Literal["training", "validation", "testing"]
SPLITS: tuple[Split, ...] = ("training", "validation", "testing")
KNOWN_KEYS = {"id", "image", "coordinates", "has_annotation", "spacing"}


@dataclass(frozen=True)
class LandmarkDataset:
    """A landmark dataset, reduced to the selected landmarks.

    Attributes:
        name: As given in the JSON, else the file's name.
        description: As given in the JSON.
        fold: Which fold this is.
        landmark_names: N names, from `landmark_names` in the JSON, else the landmarks' indices there.
        dimensions: D, 2 or 3.
        samples: The samples of each split.
        flip_pairs: Pairs of landmarks that a mirror swaps, as positions among the N selected.
        path: The JSON file.
        files: What reads its images.
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


def open_dataset(loaded: LoadedConfig) -> LandmarkDataset:
    """The data set of a run, in our format or in that of one of its plugins."""
    files = ImageFiles.of(loaded)

    def own(config: DatasetConfig, fold: int) -> LandmarkDataset:
        return load_dataset(config, fold, files)

    dataset = open_in_format(loaded, own)
    if not isinstance(dataset, LandmarkDataset):
        raise UserError(
            f"dataset.format: {loaded.run.dataset.format} gives a {type(dataset).__name__}, should give a "
            "LandmarkDataset. Tell its author."
        )
    return replace(dataset, files=files)


def load_dataset(dataset: DatasetConfig, fold: int, files: ImageFiles = IMAGE_FILES) -> LandmarkDataset:
    """Read and check the annotations of one fold.

    Args:
        dataset: The `dataset` section.
        fold: Which foldK.json of a folder of them; -1 takes the folder's plain JSON. A file needs none.
        files: What reads images.

    Raises:
        UserError: The annotations are wrong, or images are missing.
    """
    path = _annotation_file(dataset.src_targets, fold)
    content = _read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: must be an object with the lists {', '.join(SPLITS)}.")
    for split in SPLITS:
        if not isinstance(content.get(split), list):
            raise UserError(f'{path}: the list "{split}" is missing (write "{split}": [] for none).')
    if not content["training"]:
        raise UserError(f'{path}: "training" is empty. Put annotated samples there.')

    root = path.parent if dataset.root is None else Path(dataset.root)
    count, dimensions = _shape(path, content)
    selected = _selection(path, dataset.landmarks, count)
    samples: dict[Split, tuple[Sample, ...]] = {}
    seen: set[str] = set()
    for split in SPLITS:
        entries = []
        for position, entry in enumerate(content[split]):
            where = _where(path, split, position, entry)
            sample = _sample(where, entry, split, root, (count, dimensions), content.get("spacing"), selected)
            if sample.id in seen:
                raise UserError(f'{path}: id "{sample.id}" occurs twice. Give every sample its own.')
            seen.add(sample.id)
            entries.append(sample)
        samples[split] = tuple(entries)
    if not any((sample.states == State.VISIBLE).any() for sample in samples["training"]):
        raise UserError(f'{path}: no sample of "training" has a coordinate of a selected landmark.')
    _check_images(path, [sample for split in SPLITS for sample in samples[split]], files)
    names = _names(path, content.get("landmark_names"), count)
    return LandmarkDataset(
        name=str(content.get("name", path.stem)),
        description=str(content.get("description", "")),
        fold=fold if dataset.src_targets.is_dir() else content.get("fold", fold),
        landmark_names=tuple(names[index] for index in selected),
        dimensions=dimensions,
        samples=samples,
        flip_pairs=_flip_pairs(path, dataset.flip_pairs, count, selected),
        path=path,
        files=files,
    )


def check_inside(sample: Sample, size: Sequence[int]) -> None:
    """Raise a UserError where a coordinate lies outside of an image of `size` (x, y[, z])."""
    visible = sample.states == State.VISIBLE
    for landmark in np.flatnonzero(visible & ~is_inside(sample.coordinates, size)):
        point = ", ".join(f"{value:g}" for value in sample.coordinates[landmark])
        raise UserError(
            f'sample "{sample.id}": landmark {landmark} at ({point}) lies outside of its image of '
            f"{'×'.join(map(str, size))} pixels ({sample.image}). Coordinates are (x, y[, z]) in pixels from "
            'the top left; write "absent" for a landmark that the image does not show.'
        )


def _annotation_file(target: Path, fold: int) -> Path:
    if target.is_file():
        return target
    if not target.is_dir():
        raise UserError(f"{target}: dataset.src_targets names no file or folder that exists.")
    found = sorted(path.name for path in target.glob("*.json"))
    listing = ", ".join(found) or "no JSON file"
    if fold >= 0:
        if f"fold{fold}.json" in found:
            return target / f"fold{fold}.json"
        raise UserError(f"{target}: has no fold{fold}.json (trainer.fold: {fold}); it holds {listing}.")
    plain = [name for name in found if not re.fullmatch(r"fold\d+\.json", name)]
    if len(plain) != 1:
        raise UserError(
            f"{target}: trainer.fold: -1 takes the one JSON that is not named foldK.json; it holds {listing}."
        )
    return target / plain[0]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: malformed JSON ({error.msg})."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error}).") from None


def _where(path: Path, split: Split, position: int, entry: Any) -> str:
    """How messages name a sample."""
    if isinstance(entry, dict) and isinstance(entry.get("id"), (str, int)):
        return f'{path}, sample "{entry["id"]}" of {split}'
    return f"{path}, sample {position + 1} of {split}"


def _shape(path: Path, content: Mapping[str, Any]) -> tuple[int, int]:
    """How many landmarks a sample has, and how many dimensions, from the first that tells."""
    for split in SPLITS:
        for entry in content[split]:
            coordinates = entry.get("coordinates") if isinstance(entry, dict) else None
            points = coordinates if isinstance(coordinates, list) else []
            for point in points:
                if isinstance(point, list):
                    if len(point) not in (2, 3):
                        where = _where(path, split, content[split].index(entry), entry)
                        raise UserError(f"{where}: {point} is neither (x, y) nor (x, y, z).")
                    return len(points), len(point)
    raise UserError(f'{path}: no sample has a coordinate. Give each of "training" its list of [x, y].')


def _selection(path: Path, landmarks: Sequence[int] | None, count: int) -> list[int]:
    selected = list(range(count)) if landmarks is None else list(landmarks)
    for index in selected:
        if not 0 <= index < count:
            raise UserError(
                f"dataset.landmarks: {index} is none of the {count} landmarks (0 to {count - 1}) of {path}."
            )
    return selected


def _sample(
    where: str,
    entry: Any,
    split: Split,
    root: Path,
    shape: tuple[int, int],
    default_spacing: Any,
    selected: Sequence[int],
) -> Sample:
    if not isinstance(entry, dict):
        raise UserError(f'{where}: must be an object with "id", "image" and "coordinates".')
    if isinstance(entry.get("id"), bool) or not isinstance(entry.get("id"), (str, int)):
        raise UserError(f'{where}: "id" is missing.')
    if not isinstance(entry.get("image"), str):
        raise UserError(f'{where}: "image" is missing (the path of its file).')
    coordinates, states = _landmarks(where, entry, split, shape)
    return Sample(
        id=str(entry["id"]),
        image=root / entry["image"],
        coordinates=coordinates[selected],
        states=states[selected],
        spacing=_spacing(where, entry.get("spacing", default_spacing), shape[1]),
        extra={key: value for key, value in entry.items() if key not in KNOWN_KEYS},
    )


def _landmarks(
    where: str, entry: Mapping[str, Any], split: Split, shape: tuple[int, int]
) -> tuple[Floats, NDArray[np.int64]]:
    """All N landmarks of one entry: coordinates (N, D), NaN where there is none, and states (N,)."""
    count, dimensions = shape
    coordinates = np.full((count, dimensions), np.nan)
    states = np.full(count, State.UNLABELLED, np.int64)
    points = entry.get("coordinates")
    if points is None or entry.get("has_annotation") is False:
        if split == "training":
            raise UserError(f"{where}: has no coordinates. Annotate it, or move it to another list.")
        if entry.get("has_annotation") is not False:
            raise UserError(f'{where}: has no coordinates. Say "has_annotation": false if that is meant.')
        return coordinates, states
    if not isinstance(points, list) or len(points) != count:
        found = f"{len(points)} landmarks" if isinstance(points, list) else f"{points!r}"
        raise UserError(
            f"{where}: has {found} where the others have {count}. Write null for one that nobody labelled."
        )
    for landmark, point in enumerate(points):
        if point is None:
            continue
        if point == "absent":
            states[landmark] = State.ABSENT
            continue
        if not isinstance(point, list) or not all(_is_number(value) for value in point):
            raise UserError(
                f"{where}: landmark {landmark} is {json.dumps(point)}; "
                'it must be a list of numbers, null or "absent".'
            )
        if len(point) != dimensions:
            raise UserError(
                f"{where}: landmark {landmark} is {point} where the others have {dimensions} dimensions."
            )
        if not all(math.isfinite(value) for value in point):
            raise UserError(
                f"{where}: landmark {landmark} is {point}, which is not finite. Write null instead."
            )
        coordinates[landmark] = point
        states[landmark] = State.VISIBLE
    return coordinates, states


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _spacing(where: str, value: Any, dimensions: int) -> tuple[float, ...] | None:
    if value is None:
        return None
    steps = value if isinstance(value, list) else [value] * dimensions
    if len(steps) != dimensions or not all(_is_number(s) and math.isfinite(s) and s > 0 for s in steps):
        raise UserError(
            f'{where}: "spacing" is {value}; it must be mm per pixel, one number or {dimensions}.'
        )
    return tuple(float(step) for step in steps)


def _names(path: Path, names: Any, count: int) -> list[str]:
    if names is None:
        return [str(index) for index in range(count)]
    if not isinstance(names, list) or len(names) != count or len(set(map(str, names))) != count:
        raise UserError(f'{path}: "landmark_names" must be {count} different names, one a landmark.')
    return [str(name) for name in names]


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


def _check_images(path: Path, samples: Sequence[Sample], files: ImageFiles) -> None:
    missing = [sample for sample in samples if not sample.image.is_file()]
    if missing:
        first = missing[0]
        raise UserError(
            f'{path}, sample "{first.id}": image {first.image} does not exist ({len(missing)} of '
            f"{len(samples)} images are missing). Paths are relative to dataset.root."
        )
    for sample in samples:
        if not files.knows(sample.image):
            image_format(sample.image)  # a known content under a strange name is fine
