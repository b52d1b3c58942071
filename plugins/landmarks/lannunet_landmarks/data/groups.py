"""Samples that must be on the same side of a split: the same file, the same content, or the same patient."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lannunet_core import UserError, terminal_text

PATIENT_FIELDS = {"patient", "patientid", "subject", "subjectid"}
"""Names of fields that identify a patient, lower-case letters only."""
DETACHED = (".mhd",)  # headers whose pixels are in another file
CHUNK = 1 << 16  # bytes

Entries = Sequence[Mapping[str, Any]]
"""Samples as the JSON has them."""


def contents(images: Iterable[Path]) -> dict[Path, Hashable]:
    """A key for each image, equal for two that are the same file or have the same bytes."""
    real = {image: image.resolve() for image in images}
    paths = [path for path in dict.fromkeys(real.values()) if path.is_file()]
    whole = [path for path in paths if not path.name.lower().endswith(DETACHED)]
    keys: dict[Path, Hashable] = {path: path for path in real.values()}
    for of_size in _alike(whole, lambda path: path.stat().st_size):
        for of_start in _alike(of_size, partial(_digest, start=True)):
            keys |= {path: _digest(path) for path in of_start}
    return {image: keys[path] for image, path in real.items()}


def _alike(paths: Iterable[Path], told: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Groups of paths with the same key."""
    found: dict[Hashable, list[Path]] = {}
    for path in paths:
        found.setdefault(told(path), []).append(path)
    return [of_one for of_one in found.values() if len(of_one) > 1]


def _digest(path: Path, start: bool = False) -> bytes:
    """The digest of a file, or of its start."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            if start:
                break
    return found.digest()


def patient_field(entries: Entries) -> str | None:
    """The field that seems to identify patients."""
    keys = dict.fromkeys(key for entry in entries for key in entry)
    return next((key for key in keys if re.sub("[^a-z]", "", key.lower()) in PATIENT_FIELDS), None)


def groups_by(rule: str, entries: Entries, where: str) -> tuple[list[str], str]:
    """The group of each sample.

    Args:
        rule: A field of the samples; else a regular expression that matches every id, or every image path.
            Its first group, or the whole match, is the group's name.
        entries: The samples.
        where: What gives the rule, for messages.

    The groups, and a description of their source.
        The groups, and what told them.

    Raises:
        UserError: The rule does not match every sample, or is not a regular expression.
    """
    if any(rule in entry for entry in entries):
        return field_of(rule, entries, where), f'the field "{rule}"'
    try:
        pattern = re.compile(rule)
    except (re.error, OverflowError, RecursionError) as error:
        raise UserError(
            f'{where}: "{rule}" is not a field of the samples, nor a regular expression ({error}).'
        ) from None
    for what, key in (("ids", "id"), ("image paths", "image")):
        found = [pattern.search(str(entry[key])) for entry in entries]
        if all(found):
            names = [next(filter(None, one.groups()), one.group()) for one in found if one]
            return names, f'"{rule}" in the {what}'
        missed = next(entry for entry, one in zip(entries, found, strict=True) if not one)
    raise UserError(
        f'{where}: "{rule}" is not a field of the samples, and as a regular expression it matches neither '
        f'every id nor every image path (not "{terminal_text(missed["image"])}").'
    )


def field_of(name: str, entries: Entries, where: str) -> list[str]:
    """A field of every sample, as text.

    Raises:
        UserError: A sample lacks the field, or its value is not a text or a number.
    """
    values = []
    for entry in entries:
        value = entry.get(name)
        if not isinstance(value, (str, int, float)):
            found = f'has no field "{name}"' if value is None else f'has more than one value in "{name}"'
            raise UserError(f'{where}: sample "{terminal_text(entry["id"])}" {found}. Give each sample one.')
        values.append(str(value))
    return values


def joined(keys: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Positions of `keys` joined by a common key, directly or through others; ordered by the first
    position."""
    first: dict[Hashable, int] = {}
    leads_to = list(range(len(keys)))

    def leader(position: int) -> int:
        while leads_to[position] != position:
            leads_to[position] = position = leads_to[leads_to[position]]
        return position

    for position, own in enumerate(keys):
        for key in own:
            one, other = sorted((leader(position), leader(first.setdefault(key, position))))
            leads_to[other] = one
    units: dict[int, list[int]] = {}
    for position in range(len(keys)):
        units.setdefault(leader(position), []).append(position)
    return list(units.values())
