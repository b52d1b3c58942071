"""The record of a prepared case: its arrays, their sources, and checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from lannunet_core import UserError, write_text
from lannunet_segmentation.types import Geometry

CHECKSUM = "sha256"
Side = Annotated[int, Field(gt=0)]


class FileState(BaseModel):
    """The state of a file.

    Attributes:
        bytes: Length of the file.
        changed: Time of its last change, in ns.
        sha256: Hash of its content.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    bytes: int
    changed: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileState:
        """The current state of a file.

        Raises:
            UserError: It cannot be read.
        """
        length, changed = _length_and_time(path)
        return cls(bytes=length, changed=changed, sha256=_content(path))

    @classmethod
    def none(cls) -> FileState:
        return cls(bytes=0, changed=0, sha256="")

    def same_time(self, path: Path) -> bool:
        """Whether the file has the same length and time; its content is not read."""
        return path.exists() and _length_and_time(path) == (self.bytes, self.changed)

    def same_content(self, path: Path) -> bool:
        return path.exists() and _length_and_time(path)[0] == self.bytes and _content(path) == self.sha256


class CaseRecord(BaseModel):
    """See `PreparedCase`.

    Attributes:
        recipe: Hash of everything that the arrays depend on, except the files.
        in_place: Whether the image is a file of the data set.
        files: Source files of the case.
        arrays: Files of its arrays, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: str
    in_place: bool
    size: tuple[Side, ...]
    affine: list[list[FiniteFloat]]
    geometry: Geometry
    classes_present: tuple[Annotated[int, Field(ge=0)], ...]
    annotated_count: Annotated[int, Field(ge=0)]
    labelled: bool
    files: list[FileState]
    arrays: Mapping[str, FileState]


def read_record(path: Path) -> CaseRecord | None:
    """Read a record; None: there is none, or it is damaged."""
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict) or content.pop(CHECKSUM, None) != _sum(content):
            return None
        return CaseRecord.model_validate(content)
    except (OSError, ValueError, RecursionError, ValidationError):
        return None


def write_record(path: Path, record: CaseRecord) -> None:
    """Write a record, with its own checksum."""
    content = record.model_dump(mode="json")
    write_text(path, json.dumps({**content, CHECKSUM: _sum(content)}))


def _sum(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _length_and_time(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    return stat.st_size, stat.st_mtime_ns


def _content(path: Path) -> str:
    content = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                content.update(chunk)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    return content.hexdigest()
