"""The images of a session, and the annotation file for corrections."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lannunet_landmarks import (
    Annotated,
    Annotations,
    Mark,
    annotated_in,
    merge,
    read_content,
    without_suffix,
)

from lannunet_core import UserError, names_a_file


class Conflict(Exception):
    """The JSON changed while the points were corrected."""


@dataclass(frozen=True)
class Served:
    """One image.

    Attributes:
        key: Its identifier in requests.
        name: The displayed name.
        path: Its file.
    """

    key: str
    name: str
    path: Path


class Store:
    """Images by key: those of a queue, and uploaded ones. No request names a path.

    Args:
        into: The annotation file.
        uploads: The folder for uploaded images.
        queue: The images to annotate, in order.
        by: The annotator.
        names: Landmark names of the model; empty with another task.

    Raises:
        UserError: The JSON is not an annotation file, or its coordinates are not in pixels.
    """

    def __init__(
        self, into: Path, uploads: Path, queue: Sequence[tuple[str, Path]], by: str, names: Sequence[str]
    ) -> None:
        self.into, self.uploads, self.by, self.names = into, uploads, by, tuple(names)
        self._turn = threading.Lock()
        self._kept = False
        self._made: set[str] = set()  # keys of the files that this session wrote
        if into.exists():
            system = read_content(into, -1).json.get("coordinate_system", "pixel")
            if system != "pixel":
                raise UserError(
                    f"{into}: has coordinates in mm ({system}), but the page needs pixels. Convert it first: "
                    f"lannunet import {into} -o pixels.json --coordinate-system pixel"
                )
        self.images: dict[str, Served] = {}
        for name, path in queue:
            self.add(name, path)

    def add(self, name: str, path: Path) -> Served:
        key = key_of(path)
        return self.images.setdefault(key, Served(key, name, path))

    async def upload(self, name: str, body: AsyncIterator[bytes]) -> Served:
        """Keep an image in the folder of uploads; the same bytes under the same name are one image.

        Raises:
            UserError: The name is not a valid file name.
        """
        if not names_a_file(name) or name.startswith("."):
            raise UserError(f"{name[:80]!r} is not a valid file name. Rename the image.")
        if without_suffix(name) == name and not name.lower().endswith((".npy", ".npz", ".dcm")):
            raise UserError(f"{name[:80]!r} does not end in an image suffix, such as .png or .nii.gz.")
        self.uploads.mkdir(parents=True, exist_ok=True)
        partial = self.uploads / f".{os.getpid()}-{threading.get_ident()}-{id(body)}.part"
        digest = hashlib.sha256()
        try:
            with partial.open("wb") as file:
                async for part in body:
                    digest.update(part)
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            stem = without_suffix(name)
            for number in range(1, 10_000):
                path = self.uploads / (name if number == 1 else f"{stem}-{number}{name[len(stem) :]}")
                if not path.exists():
                    partial.replace(path)
                    self._made.add(key_of(path))
                    break
                if hashlib.sha256(path.read_bytes()).digest() == digest.digest():
                    break
        finally:
            partial.unlink(missing_ok=True)
        return self.add(path.name, path)

    def remove(self, image: Served) -> None:
        """Remove an uploaded image that the model does not accept; an earlier file is kept."""
        self.images.pop(image.key, None)
        if image.key in self._made:
            image.path.unlink(missing_ok=True)

    def saved(self, images: Iterable[Served]) -> dict[str, list[Any]]:
        """The landmarks of the annotated images, in the order of `names`, by key."""
        keys = {one.path: one.key for one in images}
        found = annotated_in(self.into, list(keys))
        return {keys[path]: self._ordered(known) for path, known in found.items()}

    def _ordered(self, known: Mapping[str, Any]) -> list[Any]:
        return [known.get(name) for name in self.names]

    def points_of(self, image: Served) -> list[Any] | None:
        """The saved landmarks of an image in the order of `names`; None: it is not annotated."""
        return self.saved([image]).get(image.key)

    def save(self, image: Served, points: Sequence[Any], before: Any) -> list[Any] | None:
        """Merge the landmarks of an image into the JSON.

        Args:
            image: The image.
            points: In the format of the JSON: `[x, y]`, `{"at": [x, y], "occluded": true}`, `"absent"`, or
                None for unlabelled ones, which stay as they are.
            before: The points when the image was opened, from `points_of`.

        Returns:
            The saved points.

        Raises:
            Conflict: The JSON has changed in the meantime.
            UserError: The points are invalid.
        """
        marks = {name: _mark(point) for name, point in zip(self.names, points, strict=True) if point}
        if not marks:
            raise UserError("Nothing is annotated; place a landmark, or mark it absent.")
        one = Annotated(image.path, marks, id=without_suffix(image.name))

        def check(known: Mapping[str, Any]) -> None:
            # Browsers write 10.0 as 10, so values are compared, not strings.
            if (self._ordered(known) if known else None) != before:
                raise Conflict

        with self._turn:
            done = merge(
                self.into, Annotations(self.names, (one,)), by=self.by, check=check, keep=not self._kept
            )
            self._kept = self._kept or done.backup is not None
        return self.points_of(image)

    def state(self) -> Mapping[str, Any]:
        """The entries of the page's list."""
        saved = self.saved(self.images.values())
        return {
            "into": self.into.name,
            "names": self.names,
            "images": [
                {"key": one.key, "name": one.name, "saved": one.key in saved} for one in self.images.values()
            ],
        }


def _mark(point: Any) -> Mark:
    """Parse a landmark of a request.

    Raises:
        UserError: It is not a landmark.
    """
    if point == "absent":
        return Mark(None)
    place = point.get("at") if isinstance(point, dict) else point
    occluded = isinstance(point, dict) and point.get("occluded") is True
    numbers = place if isinstance(place, list) else []
    if len(numbers) not in (2, 3) or not all(type(number) in (int, float) for number in numbers):
        raise UserError(f"{json.dumps(point)[:80]} is not a landmark.")
    try:
        return Mark(tuple(float(number) for number in numbers), occluded=occluded)
    except OverflowError:
        raise UserError(f"{json.dumps(point)[:80]} is not a landmark.") from None


def key_of(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
