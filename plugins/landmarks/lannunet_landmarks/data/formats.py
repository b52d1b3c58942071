"""What a format of landmark annotations is, so that other programs' files can be read and written.

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
        at: (x, y[, z]); None: it was looked for and is not there.
        occluded: It is placed although something hides it.
        confidence: Confidence of a prediction, 0 … 1; None: it is an annotation.
    """

    at: tuple[float, ...] | None
    occluded: bool = False
    confidence: float | None = None


@dataclass(frozen=True)
class Annotated:
    """One image and its landmarks.

    Attributes:
        image: Its file.
        marks: By the landmark's name; one that is not here was not labelled.
        id: Unique; None: the file's name without its suffix, with folders where two share one.
        split: The list that it belongs to; None: the source does not say.
        spacing: mm per pixel, where the source says so.
        extra: Additional fields of the source, numbers or texts.
        source: How messages name its place.
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
    """What a source says.

    Attributes:
        names: Names of the landmarks, in their order.
        images: Whether annotated or not.
        system: What the numbers count: pixels (0 the centre of the first, y down), or mm of a world.
        name: Name of the data set.
        group_by: The field of `extra` whose images belong together, such as a patient or a video.
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
"""What a format may hold, and what is said of one that does not."""
EXACT = 0.01
"""Pixels: below, nobody needs to know that points are rounded."""


@dataclass(frozen=True)
class LandmarkFormat:
    """How annotations of a format are recognised, read and written.

    What `read` raises becomes one sentence with the source's name: a `UserError` as it is, anything else as a
    damaged file.

    Attributes:
        name: For `dataset.format` and `--format`.
        title: For people.
        matches: Whether a file or folder is of this format, by its content where that tells.
        read: path → what it says; by name it may also take `images`, a folder, and `y_up`, a bool, each None
            where the user says nothing.
        write: (annotations, path) → writes them; None: it cannot.
        dimensions: D that it can hold.
        systems: That it can be written in, the usual one first.
        holds: The keys of `HOLDABLE` that it can.
        file: What a file of it may be called; "": it is a folder.
        error: Pixels by which a point may lie elsewhere once it is written.
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
        """What writing them in this format drops, in sentences."""
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
        moved = [f"In {self.title} points lie up to {self.error:g} pixels beside their place."]
        return [
            f"{self.title} cannot hold {HOLDABLE[what].format(n=n)}."
            for what, n in counts.items()
            if n and what not in self.holds
        ] + (moved if self.error >= EXACT else [])


def formats() -> tuple[LandmarkFormat, ...]:
    """The installed ones."""
    return registered("landmark_formats", LandmarkFormat)


def format_called(name: str, where: str) -> LandmarkFormat:
    """An installed format, by its name in any spelling."""
    return choose(where, name, {one.name: one for one in formats()})


def matching(path: Path) -> LandmarkFormat | None:
    """The format of a file or folder, None where no installed one knows it.

    Raises:
        UserError: Several do.
    """
    found = [one for one in formats() if _matches(one, path)]
    if len(found) > 1:
        names = " or ".join(one.name for one in found)
        raise UserError(f"{path}: may be {names}. Name its format (dataset.format, --format).")
    return found[0] if found else None


def _matches(one: LandmarkFormat, path: Path) -> bool:
    try:
        return path.exists() and one.matches(path)
    except Exception:  # a file of another kind makes a parser raise anything
        return False


def mark_of(numbers: Sequence[Any], where: str, **more: Any) -> Mark:
    """A placed landmark of numbers, or of their texts; `where` names it in messages."""
    try:
        return Mark(tuple(float(number) for number in numbers), **more)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {terminal_text(repr(numbers)):.60} are no coordinates.") from None


def relative_to(image: Path, folder: Path) -> str:
    """An image's path as a file in `folder` names it."""
    import os

    try:
        return Path(os.path.relpath(image.absolute(), folder.absolute())).as_posix()
    except ValueError:  # on another drive
        return image.absolute().as_posix()


class ImageFinder:
    """Finds image files by what annotations call them, which may have been written on another machine.

    Args:
        images: The folder that the user named; None: none.
        folders: Where they usually lie.
    """

    def __init__(self, images: Path | None, *folders: Path) -> None:
        self.folders = tuple(dict.fromkeys(folders if images is None else (images,))) or (Path(),)
        self._by_stem: dict[str, list[Path]] | None = None
        self._by_name: dict[str, list[Path]] | None = None

    def named(self, name: str, where: str) -> Path:
        """The file that a path or a name stands for: as it is, or as much of its end as is found.

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
        """Files whose names differ in upper and lower case alone, which elsewhere are one."""
        if self._by_name is None:
            self._by_name = {}
            for folder in self.folders:
                for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                    self._by_name.setdefault(path.name.casefold(), []).append(path)
        return self._by_name.get(name.casefold(), [])

    def of_case(self, stem: str, where: str) -> Path:
        """The image of this name without its suffix, or with it.

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
            raise UserError(f"{where}: {' and '.join(one.name for one in known)} are both called {stem}.")
        if not known:
            raise self._missing(f"an image called {terminal_text(stem):.200}", where)
        return known[0]

    def only(self) -> Path | None:
        """The one image there is; None: there are none or several."""
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
    """A file's name without the suffix of an image; as it is where it has none."""
    suffixes = [suffix for suffix in image_suffixes() if name.lower().endswith(suffix)]
    return name[: -len(max(suffixes, key=len))] if suffixes else name
