"""The definition of an annotation format, for reading and writing files of other programs.

A complete format, and in its pyproject.toml an entry point of the group `lannunet.landmark_formats`:

    from lannunet_landmarks import Annotated, Annotations, LandmarkFormat, Mark

    def matches(path):
        return path.suffix == ".pts"

    def read(path):
        lines = [line.split() for line in path.read_text().splitlines()]
        marks = {name: Mark((float(x), float(y))) for name, x, y in lines}
        return Annotations(tuple(marks), (Annotated(path.with_suffix(".png"), marks),))

    PTS = LandmarkFormat("pts", "points in lines", matches, read, file="points.pts")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from lannunet_core import UserError, choose, image_suffixes, registered, terminal_text
from lannunet_landmarks.data.world import System
from lannunet_landmarks.types import Split


@dataclass(frozen=True)
class Mark:
    """One landmark in one image.

    Attributes:
        at: (x, y[, z]); None: the landmark is known to be absent.
        occluded: Whether the landmark is hidden, although its position is given.
        confidence: Confidence of a prediction, 0 … 1; None: it is an annotation.
    """

    at: tuple[float, ...] | None
    occluded: bool = False
    confidence: float | None = None


@dataclass(frozen=True)
class Annotated:
    """One image and its landmarks.

    Attributes:
        image: Path of its file.
        marks: Landmarks by name; those not in it are unlabelled.
        id: Unique id; None: the file's name without its suffix, with folders where two share one.
        split: List that the image belongs to; None: the source has no lists.
        spacing: mm per pixel, if the source states it.
        extra: Additional fields of the source, numbers or texts.
        source: Name of its place in messages.
    """

    image: Path
    marks: Mapping[str, Mark]
    id: str | None = None
    split: Split | None = None
    spacing: tuple[float, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True)
class Annotations:
    """The content of a source.

    Attributes:
        names: Names of the landmarks, in their order.
        images: All images, annotated or not.
        system: Coordinate system: pixels (0 is the centre of the first, y points down), or mm of a world.
        name: Name of the data set.
        group_by: Field of `extra` whose images belong together, such as a patient or a video.
        notes: What was dropped, guessed or converted, in sentences.
    """

    names: tuple[str, ...]
    images: tuple[Annotated, ...]
    system: System = "pixel"
    name: str = ""
    group_by: str | None = None
    notes: tuple[str, ...] = ()


HOLDABLE = {
    "absent": "that {n} landmarks are absent: they are written as those without annotation",
    "occluded": "that {n} landmarks are occluded: they are written as visible",
    "confidence": "the confidence of {n} predictions",
    "splits": "which of {n} images are for training, validation and testing",
    "spacing": "the spacing of {n} images, which their annotations declare",
    "fields": "additional fields of {n} images",
    "unannotated": "{n} images without any landmark: they are left out",
}
"""Properties that a format may hold, and the messages about formats that do not."""
EXACT = 0.01
"""Pixels: smaller rounding errors are not reported."""


@dataclass(frozen=True)
class LandmarkFormat:
    """How an annotation format is recognised, read and written.

    A `UserError` of `read` is shown unchanged; any other exception is reported as a damaged file.

    Attributes:
        name: Name for `dataset.format` and `--format`.
        title: Name in messages.
        matches: Whether a file or folder has this format, judged by its content where possible.
        read: (path) → its annotations. Optional keyword arguments are `images`, a folder, and `y_up`, a bool;
            each is None unless the user gives it.
        write: (annotations, path) → None; None: the format cannot be written.
        dimensions: Values of D that it can hold.
        systems: Coordinate systems that it can be written in, the usual one first.
        holds: The keys of `HOLDABLE` that it can hold.
        file: Example of a file name; "": the format is a folder.
        error: Largest rounding error of a written point, in pixels.
    """

    name: str
    title: str
    matches: Callable[[Path], bool]
    read: Callable[..., Annotations] | None
    write: Callable[[Annotations, Path], None] | None = None
    dimensions: tuple[int, ...] = (2, 3)
    systems: tuple[System, ...] = ("pixel",)
    holds: frozenset[str] = frozenset()
    file: str = ""
    error: float = 1e-6

    def lost(self, annotations: Annotations) -> list[str]:
        """What is lost when annotations are written in this format, in sentences."""
        every = annotations.images
        marks = [mark for one in every for mark in one.marks.values()]
        counts = {
            "absent": sum(mark.at is None for mark in marks),
            "occluded": sum(mark.occluded for mark in marks),
            "confidence": sum(mark.confidence is not None for mark in marks),
            "splits": sum(one.split is not None for one in every),
            "spacing": sum(one.spacing is not None for one in every),
            "fields": sum(bool(one.extra) for one in every),
            "unannotated": sum(all(mark.at is None for mark in one.marks.values()) for one in every),
        }
        moved = [f"{self.title} rounds points by up to {self.error:g} pixels."]
        return [
            f"{self.title} cannot hold {HOLDABLE[what].format(n=n)}."
            for what, n in counts.items()
            if n and what not in self.holds
        ] + (moved if self.error >= EXACT else [])


def formats() -> tuple[LandmarkFormat, ...]:
    """The installed formats."""
    return registered("landmark_formats", LandmarkFormat)


def format_called(name: str, where: str) -> LandmarkFormat:
    """An installed format, by its name in any spelling."""
    return choose(where, name, {one.name: one for one in formats()})


def matching(path: Path) -> LandmarkFormat | None:
    """The format of a file or folder; None: no installed format recognises it.

    Raises:
        UserError: Several formats recognise it.
    """
    found = [one for one in formats() if _matches(one, path)]
    if len(found) > 1:
        names = " or ".join(one.name for one in found)
        raise UserError(f"{path}: may be {names}. Name its format (dataset.format, --format).")
    return found[0] if found else None


def _matches(one: LandmarkFormat, path: Path) -> bool:
    try:
        return path.exists() and one.matches(path)
    except Exception:  # parsers raise any exception on files of other kinds
        return False


def mark_of(numbers: Sequence[Any], where: str, **more: Any) -> Mark:
    """A placed landmark from numbers or their texts; `where` names it in messages."""
    try:
        return Mark(tuple(float(number) for number in numbers), **more)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {terminal_text(repr(numbers)):.60} are not coordinates.") from None


def relative_to(image: Path, folder: Path) -> str:
    """The path of an image relative to `folder`."""
    import os

    try:
        return Path(os.path.relpath(image.absolute(), folder.absolute())).as_posix()
    except ValueError:  # on another drive
        return image.absolute().as_posix()


class ImageFinder:
    """Finds image files by the paths in annotations, which may come from another machine.

    Args:
        images: The folder that the user named; None: no folder was named.
        folders: Folders where the images usually are.
    """

    def __init__(self, images: Path | None, *folders: Path) -> None:
        self.folders = tuple(dict.fromkeys(folders if images is None else (images,))) or (Path(),)
        self._by_stem: dict[str, list[Path]] | None = None
        self._by_name: dict[str, list[Path]] | None = None

    def named(self, name: str, where: str) -> Path:
        """The file with this path or name: the whole path, or as much of its end as exists.

        Raises:
            UserError: There is none.
        """
        parts = PurePosixPath(name.replace("\\", "/")).parts
        for first in range(len(parts)):
            for folder in self.folders:
                if (path := folder.joinpath(*parts[first:])).is_file():
                    return path
        if parts and len(alike := self._alike(parts[-1])) == 1:
            return alike[0]
        raise self._missing(f"image {terminal_text(name):.300}", where)

    def _alike(self, name: str) -> list[Path]:
        """Files whose names differ only in case; on other systems they are the same file."""
        if self._by_name is None:
            self._by_name = {}
            for folder in self.folders:
                for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                    self._by_name.setdefault(path.name.casefold(), []).append(path)
        return self._by_name.get(name.casefold(), [])

    def of_case(self, stem: str, where: str) -> Path:
        """The image with this name, with or without its suffix.

        Raises:
            UserError: There is none, or there are several.
        """
        if without_suffix(stem) != stem:
            return self.named(stem, where)
        if self._by_stem is None:
            self._by_stem = {}
            for folder in self.folders:
                for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                    if (found := without_suffix(path.name)) != path.name and not path.name.startswith("."):
                        self._by_stem.setdefault(found, []).append(path)
        alike = [paths for name, paths in self._by_stem.items() if name.casefold() == stem.casefold()]
        known = self._by_stem.get(stem) or [path for paths in alike for path in paths]
        if len(known) > 1:
            raise UserError(f"{where}: {' and '.join(one.name for one in known)} both have the name {stem}.")
        if not known:
            raise self._missing(f"an image called {terminal_text(stem):.200}", where)
        return known[0]

    def only(self) -> Path | None:
        """The only image in the folders; None: there are none, or several."""
        images = [
            path
            for folder in self.folders
            for path in (folder.iterdir() if folder.is_dir() else ())
            if without_suffix(path.name) != path.name and not path.name.startswith(".")
        ]
        return images[0] if len(images) == 1 else None

    def _missing(self, what: str, where: str) -> UserError:
        looked = ", ".join(str(folder) for folder in self.folders)
        return UserError(
            f"{where}: {what} is not in {looked}. Name the folder of the images (--images, dataset.root)."
        )


def without_suffix(name: str) -> str:
    """A file name without the suffix of an image format."""
    suffixes = [suffix for suffix in image_suffixes() if name.lower().endswith(suffix)]
    return name[: -len(max(suffixes, key=len))] if suffixes else name
