"""Corrected annotations into our JSON: nothing is lost, and what changed is said."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from lannunet_images import IMAGE_FILES, ImageFiles

from lannunet_core import UserError, atomic_path, terminal_text, write_text
from lannunet_landmarks.data.annotations import (
    dataset_of,
    dataset_section,
    entries_of,
    landmarks_of,
    outside,
)
from lannunet_landmarks.data.exchange import Content, named, own_content, written
from lannunet_landmarks.data.exported import in_system
from lannunet_landmarks.data.formats import Annotated, Annotations, relative_to
from lannunet_landmarks.data.groups import contents
from lannunet_landmarks.data.points import place_of
from lannunet_landmarks.data.world import World, world_of
from lannunet_landmarks.types import Split

HISTORY = "annotated"
"""The key of a sample that says when it was annotated, and by whom: a list of texts."""
SAME = 0.01  # pixels or mm: what formats round off is no correction
_turn = threading.Lock()  # a lock of a file is the process's


@dataclass(frozen=True)
class Change:
    """One landmark that is another one now.

    Attributes:
        landmark: Its name.
        before: What the JSON had: `[x, y]`, `{"at": [x, y], "occluded": true}`, `"absent"` or None.
        after: What it has now.
        pixels: By how much it moved; None: it was not placed, or is not any more.
        millimetres: The same in mm; None where the spacing is not known.
    """

    landmark: str
    before: Any
    after: Any
    pixels: float | None
    millimetres: float | None

    def __str__(self) -> str:
        if self.pixels is None:
            return f"{self.landmark} {in_words(self.before)} → {in_words(self.after)}"
        moved = f"{self.pixels:.1f} px" if self.millimetres is None else f"{self.millimetres:.2f} mm"
        hidden = isinstance(self.after, dict) != isinstance(self.before, dict)
        state = f", now {in_words(self.after)}" if hidden else ""
        return f"{self.landmark} moved by {moved}{state}"


@dataclass
class Merged:
    """What a merge did.

    Attributes:
        added: Ids of samples that the JSON did not have.
        changed: The changes of the others, by id.
        same: Ids of those that are as they were.
        backup: The copy of the JSON as it was; None: it is as it was, or was not there.
    """

    added: list[str] = field(default_factory=list)
    changed: dict[str, list[Change]] = field(default_factory=dict)
    same: list[str] = field(default_factory=list)
    backup: Path | None = None


def in_words(written_mark: Any) -> str:
    if written_mark is None:
        return "unlabelled"
    if isinstance(written_mark, dict):
        return "occluded" if written_mark.get("occluded") else "visible"
    return str(written_mark) if isinstance(written_mark, str) else "visible"


def merge(
    path: Path,
    corrected: Annotations,
    by: str,
    split: Split = "training",
    files: ImageFiles = IMAGE_FILES,
    check: Callable[[Mapping[str, Any]], None] = lambda before: None,
    keep: bool = True,
) -> Merged:
    """Merge corrected annotations into an annotation file, which is created if it does not exist.

    A sample is known by its image, also under another path. Landmarks that `corrected` does not label stay.
    Each sample that is new or changed gets the time and `by` in its `annotated`. The file is replaced as a
    whole, and processes that merge at the same time wait for each other.

    Args:
        path: The JSON.
        corrected: Its images are merged as far as they have marks.
        by: Who annotated.
        split: The list for images that the JSON does not have.
        files: Reader of the images.
        check: Called with what the JSON has of each image, by landmark, before it is changed; may raise.
        keep: Whether the JSON as it was is copied beside it, as `NAME.TIME.bak`.

    Raises:
        UserError: The JSON is not ours, or the landmarks are others.
    """
    with _turn, FileLock(path.with_name(f".{path.name}.lock")):
        content = _read(path, corrected.names)
        entries = entries_of(path, content, path.parent)
        known = (landmarks_of(path, content, entry) for entry, _ in entries)
        names = next((list(marks) for marks in known if marks), content.get("landmark_names") or [])
        moved = in_system(named(corrected), content.get("coordinate_system", "pixel"), files)
        if not names:  # a list of images, none of which is annotated yet
            names = content["landmark_names"] = list(moved.names)
        if unknown := [name for name in moved.names if name not in names]:
            raise UserError(
                f"{path}: has no landmark '{terminal_text(unknown[0])}'; it has "
                f"{', '.join(map(terminal_text, names))}. Name them alike."
            )
        done = Merged()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        marked = [one for one in moved.images if one.marks]
        by_image = by_images(entries, [one.image for one in marked])
        taken = {str(entry["id"]) for entry, _ in entries}
        for one in marked:
            entry, _ = by_image.get(one.image, (None, None))
            before = {} if entry is None else landmarks_of(path, content, entry)
            check(before)
            if entry is None:
                if one.id in taken:
                    raise UserError(
                        f'{path}: has another image with the id "{terminal_text(one.id)}", '
                        f"{terminal_text(one.image)} would be the second. Rename one of the files."
                    )
                entry = {"id": one.id, "image": relative_to(one.image, path.parent), "coordinates": None}
                content.setdefault(split, []).append(entry)
                _annotate(entry, one, names, before)
                if one.spacing is not None:
                    entry["spacing"] = list(one.spacing)
                done.added.append(str(one.id))
            else:
                metric = _metric(entry, content, one.image, files)
                changes = _annotate(entry, one, names, before, metric)
                if not changes:
                    done.same.append(str(entry["id"]))
                    continue
                done.changed[str(entry["id"])] = changes
            entry[HISTORY] = [*entry.get(HISTORY, []), f"{now} {by}"]
        if not (done.added or done.changed):
            return done
        section = dataset_section(path, path.parent)
        dataset = dataset_of(Content(path, content), section, files=files)  # refuses what is wrong with it
        if wrong := outside(dataset, {*done.added, *done.changed}):
            raise UserError(wrong[0])
        if path.exists() and keep:
            done.backup = back_up(path)
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_text(path, text.encode("utf-8", "backslashreplace").decode())
        return done


def by_images(
    entries: Sequence[tuple[dict[str, Any], Path]], images: Sequence[Path]
) -> dict[Path, tuple[dict[str, Any], Path]]:
    """The entry, and its own image, of each of `images` that a JSON has: by path, else by the same bytes.

    Args:
        entries: Of the JSON, each with its image.
        images: May be copies. Files are compared only where a path is not known.
    """
    by_path = {image.resolve(): (entry, image) for entry, image in entries}
    found = {image: by_path[image.resolve()] for image in images if image.resolve() in by_path}
    if left := [image for image in images if image not in found]:
        keys = contents([*(image for _, image in entries), *left])
        by_key = {keys[image]: (entry, image) for entry, image in entries}
        found |= {image: by_key[keys[image]] for image in left if keys[image] in by_key}
    return found


def annotated_in(path: Path, images: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """The landmarks, as written, of those of `images` that an annotation file contains: by image, then name.

    Images are known as `merge` knows them: also under another path.

    Raises:
        UserError: The file is not an annotation file, or damaged.
    """
    if not path.exists():
        return {}
    content = _read(path, ())
    found = by_images(entries_of(path, content, path.parent), images)
    known = {image: landmarks_of(path, content, entry) for image, (entry, _) in found.items()}
    return {image: marks for image, marks in known.items() if marks}


def back_up(path: Path) -> Path:
    """Copy a file to its folder, under a name with the time that does not end in .json."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    number, target = 1, path.with_name(f"{path.name}.{stamp}.bak")
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{stamp}-{number}.bak")
    with atomic_path(target) as temporary:
        temporary.write_bytes(path.read_bytes())
    return target


def _read(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    if not path.exists():
        return {"name": path.stem, "landmark_names": list(names), "training": []}
    found = own_content(path, -1)
    if found is None:
        raise UserError(
            f"{path}: is not an annotation file with annotated samples. Convert it first: "
            f"lannunet import {path} -o annotations.json"
        )
    return dict(found.json)


def _annotate(
    entry: dict[str, Any],
    one: Annotated,
    names: list[str],
    known: Mapping[str, Any],
    metric: Callable[[Any, Any], float | None] = lambda before, after: None,
) -> list[Change]:
    """Write the marks of an image into its entry; what changed."""
    points = [known.get(name) for name in names]
    changes = []
    for index, name in enumerate(names):
        if name not in one.marks:
            continue
        before, after = points[index], written(one.marks[name])
        if _alike(before, after):
            continue
        points[index] = after
        places = [place_of(mark) for mark in (before, after)]
        moved = all(isinstance(place, list) for place in places)
        pixels = float(np.linalg.norm(np.subtract(*places))) if moved else None
        changes.append(Change(name, before, after, pixels, metric(*places) if moved else None))
    if changes:
        entry["coordinates"] = points
        entry.pop("has_annotation", None)
    return changes


def _alike(before: Any, after: Any) -> bool:
    places = place_of(before), place_of(after)
    if not all(isinstance(place, list) for place in places):
        return bool(before == after)
    hidden = [isinstance(mark, dict) and mark.get("occluded", False) for mark in (before, after)]
    near = all(isclose(a, b, rel_tol=0, abs_tol=SAME) for a, b in zip(*places, strict=True))
    return hidden[0] == hidden[1] and near


def _metric(
    entry: Mapping[str, Any], content: Mapping[str, Any], image: Path, files: ImageFiles
) -> Callable[[Any, Any], float | None]:
    """The distance in mm of two points of an entry; None where it is not known."""

    def distance(before: Any, after: Any) -> float | None:
        offset = np.subtract(after, before)
        if content.get("coordinate_system", "pixel") != "pixel":
            return float(np.linalg.norm(offset))
        declared = entry.get("spacing", content.get("spacing"))
        if declared is not None:
            return float(np.linalg.norm(offset * np.asarray(declared)))
        header = files.header(image, len(offset))
        world: World | None = world_of(header)
        if world is not None:
            return float(np.linalg.norm(world.steps(offset[None])))
        return None if header.spacing is None else float(np.linalg.norm(offset * header.spacing))

    return distance
