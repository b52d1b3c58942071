"""Annotations of any format as the content of our JSON, which is then checked like our own files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from lannunet_core import AUTO, UserError, call_accepting, terminal_text
from lannunet_landmarks.data.formats import (
    Annotated,
    Annotations,
    LandmarkFormat,
    Mark,
    format_called,
    formats,
    matching,
    relative_to,
    without_suffix,
)
from lannunet_landmarks.data.groups import patient_field
from lannunet_landmarks.data.json_file import annotation_file, read_json
from lannunet_landmarks.types import SPLITS, Split

OURS = "lannunet"
"""The name of our own JSON among the formats."""
RESERVED = {"id", "image", "coordinates", "has_annotation", "spacing"}


@dataclass(frozen=True)
class Content:
    """Annotations in the form of our JSON.

    Attributes:
        path: Path of the source.
        json: The content of our JSON.
        notes: What was dropped, guessed or converted, in sentences.
        sources: Names of samples in messages, by id.
    """

    path: Path
    json: Any
    notes: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def where(self, entry: Any) -> str:
        """The name of a sample in messages; "": its position in the JSON is named instead."""
        name = entry.get("id") if isinstance(entry, dict) else None
        return self.sources.get(name, "") if isinstance(name, str) else ""


@dataclass(frozen=True)
class Draw:
    """How images are split into lists if a source has none.

    Attributes:
        validation: Share of images for validation.
        testing: Share of images for testing.
        seed: Seed of the random split.
        group: The field of `Annotated.extra` whose images stay together; None: the source's own field, else
            one that seems to name patients.
    """

    validation: float = 0.15
    testing: float = 0.15
    seed: int = 0
    group: str | None = None


USUAL = Draw()


def format_names() -> tuple[str, ...]:
    """For `dataset.format`."""
    return tuple(one.name for one in formats())


def read_content(source: Path, fold: int, name: str = AUTO, images: Path | None = None) -> Content:
    """Read annotations of any format.

    Args:
        source: A file or folder.
        fold: K of the foldK.json in a folder of our own format.
        name: Name of the format; auto: recognised by the content.
        images: The folder of the images; None: beside the source.

    Raises:
        UserError: They cannot be read, or are of no installed format.
    """
    if name.casefold() == AUTO and (own := own_content(source, fold)) is not None:
        return own
    of = format_of(source, fold, name)
    if of is None:
        path = annotation_file(source, fold)
        return Content(path, read_json(path))
    return as_content(read_source(source, of, images), source)


def format_of(
    source: Path, fold: int, name: str = AUTO, where: str = "dataset.format"
) -> LandmarkFormat | None:
    """The format of a source; None: our own JSON, or a format that is not installed."""
    if name.casefold() != AUTO:
        return None if name.casefold() == OURS else format_called(name, where)
    found = None if is_ours(source, fold) else matching(source)
    return None if found is None or found.name == OURS else found  # another fold in the folder may be ours


def is_ours(source: Path, fold: int = -1) -> bool:
    """Whether a file, or a folder of foldK.json, is our own JSON."""
    return own_content(source, fold) is not None


def own_content(source: Path, fold: int) -> Content | None:
    """The content of our own JSON; None: the file, or folder of foldK.json, has another format."""
    if not source.is_dir() and source.suffix.lower() != ".json":
        return None
    try:
        path = annotation_file(source, fold)
        content = read_json(path)
    except UserError:
        return None
    lists = [content.get(split) for split in SPLITS] if isinstance(content, dict) else []
    samples = (one for of in lists if isinstance(of, list) for one in of)
    ours = any(isinstance(one, dict) and "coordinates" in one for one in samples)
    return Content(path, content) if ours else None


def read_source(
    source: Path, of: LandmarkFormat, images: Path | None = None, y_up: bool | None = None
) -> Annotations:
    """Read a source of a format.

    Raises:
        UserError: It is damaged, or has no annotations.
    """
    if of.read is None:
        raise UserError(f"{source}: {of.title} can be written, but not read.")
    if not source.exists():
        raise UserError(f"{source}: there is no such file or folder.")
    try:
        found = call_accepting(of.read, path=source, images=images, y_up=y_up)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # parsers raise any exception on damaged files
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{source}: damaged or unusual file of {of.title} ({terminal_text(cause):.200}). Export it again."
        ) from error
    if not found.images:
        raise UserError(f"{source}: holds no image.")
    if not any(one.marks or one.split for one in found.images):  # every image would be left out
        raise UserError(" ".join((f"{source}: annotates no landmark of any image.", *found.notes)))
    return found


def as_content(found: Annotations, source: Path, draw: Draw = USUAL) -> Content:
    """Convert annotations to our JSON; images that belong to no list are split."""
    notes = list(found.notes)
    images = list(named(found).images)
    if all(one.split is None for one in images):
        idle = [one for one in images if not one.marks]
        if idle:
            notes.append(f"{source}: {len(idle)} images without any landmark are left out.")
        images, note = drawn([one for one in images if one.marks], draw, found.group_by)
        notes.append(f"{source}: {note}")
    elif idle := [one for one in images if not one.marks and one.split in (None, "training")]:
        notes.append(f"{source}: {len(idle)} training images without any landmark are left out.")
        images = [one for one in images if one not in idle]
    content: dict[str, Any] = {
        "name": found.name or source.stem,
        "landmark_names": list(found.names),
        **({} if found.system == "pixel" else {"coordinate_system": found.system}),
    }
    group = draw.group or found.group_by
    if group and images and all(group in one.extra for one in images):
        content["group_by"] = group
    content |= {split: [] for split in SPLITS}
    for one in images:
        content[one.split or "training"].append(_entry(one, found.names))
    sources = {str(one.id): one.source for one in images if one.source}
    return Content(source, content, tuple(notes), sources)


def _entry(one: Annotated, names: Sequence[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": one.id, "image": str(one.image.absolute())}
    if unknown := [name for name in one.marks if name not in names]:
        raise UserError(f"{one.source or one.image}: {unknown[0]} is not one of the landmarks.")
    if one.marks:
        entry["coordinates"] = [written(one.marks[name]) if name in one.marks else None for name in names]
    else:
        entry |= {"coordinates": None, "has_annotation": False}
    if one.spacing is not None:
        entry["spacing"] = list(one.spacing)
    reserved = {key: f"source_{key}" for key in RESERVED}
    return entry | {reserved.get(key, key): value for key, value in one.extra.items()}


def written(mark: Mark) -> Any:
    """A landmark as our JSON writes it."""
    if mark.at is None:
        return "absent"
    return {"at": list(mark.at), "occluded": True} if mark.occluded else list(mark.at)


def named(found: Annotations) -> Annotations:
    """The annotations, with an id for every image.

    Raises:
        UserError: Two images have no id, and the same file.
    """
    first: dict[Path, Annotated] = {}
    for one in found.images:
        other = first.setdefault(one.image.absolute(), one)
        if other is not one and one.id is None:
            raise UserError(
                f"{one.source or one.image}: has the same image {terminal_text(one.image)} as "
                f"{other.source or 'another entry'}. Remove one, or name the folder of both images "
                "(--images, dataset.root)."
            )
    ids = zip(found.images, _ids(found.images), strict=True)
    return replace(found, images=tuple(replace(one, id=name) for one, name in ids))


def _ids(images: Sequence[Annotated]) -> list[str]:
    """The id of each image: the source's, else the file's name, with folders where two share a name."""
    paths = [one.image.absolute() for one in images]
    names = [without_suffix(path.name) for path in paths]
    for depth in range(2, max((len(path.parts) for path in paths), default=0)):
        often = Counter(name for name, _ in set(zip(names, paths, strict=True)))
        if max(often.values()) == 1:
            break
        names = [
            name if often[name] == 1 else "/".join((*path.parts[-depth:-1], without_suffix(path.name)))
            for name, path in zip(names, paths, strict=True)
        ]
    return [one.id or name for one, name in zip(images, names, strict=True)]


def drawn(images: Sequence[Annotated], draw: Draw, group_by: str | None) -> tuple[list[Annotated], str]:
    """Assign each image to a list; also return a sentence that describes the split.

    The split is a function of the ids, or groups, and the seed; paths and order do not matter.
    """
    wanted = draw.group or group_by or patient_field([one.extra for one in images]) or ""
    if draw.group and not all(draw.group in one.extra for one in images):
        raise UserError(f"--group: not every image has a field {draw.group}.")
    grouped = bool(wanted) and len({str(one.extra.get(wanted)) for one in images}) > 2
    units: dict[str, list[Annotated]] = {}
    for one in images:
        key = str(one.extra.get(wanted)) if grouped else str(one.id)
        units.setdefault(key, []).append(one)
    order = sorted(units, key=lambda key: sha256(f"{draw.seed}/{key}".encode()).hexdigest())
    shares: dict[Split, float] = {"testing": draw.testing, "validation": draw.validation}
    if len(order) < 3:
        shares["testing"] = 0  # with two groups, the other one chooses the best epoch
    by_key: dict[str, Split] = {}
    for split, share in shares.items():
        taken = 0
        while share > 0 and len(order) > 1 and taken < max(round(share * len(images)), 1):
            by_key[order[-1]] = split
            taken += len(units[order.pop()])
    assigned = [
        replace(one, split=by_key.get(key, "training")) for key, of_key in units.items() for one in of_key
    ]
    counts = ", ".join(f"{sum(one.split == split for one in assigned)} {split}" for split in SPLITS)
    by = f"by {wanted}" if grouped else "by their ids"
    return assigned, f"has no lists, so its images are split {by}, with seed {draw.seed}: {counts}."


def relative(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Content with image paths relative to `folder`."""
    return {
        key: [{**one, "image": relative_to(Path(one["image"]), folder)} for one in value]
        if key in SPLITS
        else value
        for key, value in content.items()
    }


def as_absent(found: Annotations) -> Annotations:
    """Mark every landmark that an annotated image does not place as absent."""
    images = tuple(
        replace(one, marks={name: one.marks.get(name, Mark(None)) for name in found.names})
        if one.marks
        else one
        for one in found.images
    )
    return replace(found, images=images)
