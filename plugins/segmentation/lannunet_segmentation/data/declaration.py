"""An nnU-Net `dataset.json`: the names of channels and classes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lannunet_core import UserError, names_a_file, terminal_text
from lannunet_segmentation.regions import names_of_labels
from lannunet_segmentation.types import IGNORE, Region

Declared = Mapping[str, Any]
IGNORE_NAME = "ignore"
LONGEST_TITLE = 100  # characters, as it becomes a part of a folder name


def read_json(path: Path) -> Any:
    """Read an nnU-Net `dataset.json`.

    Raises:
        UserError: It is missing, malformed (with line and column), or not text in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: is missing. nnU-Net's dataset.json names channels and classes.") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: malformed JSON ({error.msg})."
        ) from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or too large numbers
        raise UserError(f"{path}: cannot be read as JSON in UTF-8 ({error}).") from None


def read_channels(path: Path, declared: Declared) -> tuple[str, ...]:
    key = "channel_names" if "channel_names" in declared else "modality"
    names = declared[key]
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(len(names)))) or not names:
        raise UserError(f'{path}: "{key}" must number its channels from "0", such as {{"0": "CT"}}.')
    channels = tuple(str(names[str(index)]) for index in range(len(names)))
    _check_printable(path, key, channels)
    return channels


def read_name(declared: Declared, folder: Path) -> str:
    """The name of the data set, in one line; else its folder's name."""
    given = "".join(each if each.isprintable() else " " for each in str(declared.get("name", "")))
    return given[:LONGEST_TITLE].strip() or folder.name


def read_ending(path: Path, declared: Declared, default: str) -> str:
    """The suffix of images and labels."""
    ending = declared.get("file_ending", default)
    if not ending:
        raise UserError(f'{path}: lacks "file_ending", such as ".nii.gz".')
    if not isinstance(ending, str) or not ending.startswith(".") or not names_a_file(f"name{ending}"):
        more = f' Write ".{ending}".' if isinstance(ending, str) and names_a_file(f"name.{ending}") else ""
        raise UserError(
            f'{path}: "file_ending" is {ending!r}, but must be a suffix with its dot, as in ".nii.gz".{more}'
        )
    return ending


def read_classes(path: Path, declared: Declared) -> tuple[tuple[str, ...], int | None]:
    """The classes of a `dataset.json`.

    Args:
        path: Path of the file, for messages.
        declared: Content of the file; `labels` of version 1 (value first) or 2 (name first).

    Returns:
        The names, background first, each at its label value; and the value of voxels without annotation, or
        None. With regions, the names of the labels that they are made of.

    Raises:
        UserError: There are no labels, or they are not numbered from 0 up; a name cannot be printed, or is
            the ignore label in another spelling; regions are wrong, see `read_regions`.
    """
    labels = _labels(path, declared)
    if regions := read_regions(path, declared):
        made_of, ignore = names_of_labels(regions), labels.get(IGNORE_NAME)
        if ignore not in (None, IGNORE, len(made_of)):
            raise UserError(
                f'{path}: "ignore" is {ignore}, but must be the next after the labels, {len(made_of)}.'
            )
        return made_of, None if ignore == IGNORE else ignore
    if all(re.fullmatch(r"-?\d{1,9}", key) for key in labels) and not all(map(_is_integer, labels.values())):
        labels = {str(name): int(value) for value, name in labels.items()}  # version 1: value first
    values: dict[str, int] = {}
    for name, value in labels.items():
        if not _is_integer(value):
            raise UserError(
                f'{path}: the label of "{terminal_text(name)}" is {value!r}, which is not an integer.'
            )
        _check_spelling(path, name, value)
        values[name] = int(value)
    _check_printable(path, "labels", values)
    ignore = values.pop(IGNORE_NAME, None)
    if ignore is not None and ignore != IGNORE and ignore <= max(values.values(), default=0):
        highest = max(values.values(), default=0)
        raise UserError(
            f'{path}: "ignore" is {ignore}, but must be the highest label; {highest} is not lower. '
            f"Give it {len(values)}, in the label files too."
        )
    if values.get("background", 0) != 0:
        raise UserError(f'{path}: "background" is {values["background"]}, but must be 0.')
    if sorted(values.values()) != list(range(len(values))) or len(values) < 2:
        raise UserError(
            f"{path}: the labels are {sorted(values.values())}; they must be 0 for the background and "
            "1, 2, … without a gap for the classes."
        )
    if ignore not in (None, IGNORE, len(values)):
        raise UserError(
            f'{path}: "ignore" is {ignore}, but must be the next after the classes, {len(values)}.'
        )
    names = sorted(values, key=lambda name: values[name])
    return tuple(names), None if ignore == IGNORE else ignore


def read_regions(path: Path, declared: Declared) -> tuple[Region, ...]:
    """The regions of a `dataset.json` of version 2, in the order of its `labels`; empty if it has classes.

    Args:
        path: Path of the file, for messages.
        declared: Content of the file. `labels` maps each region to the list of its label values, and
            `regions_class_order` lists the value that is written for a predicted voxel of each.

    Raises:
        UserError: A region has no values, or that of the background; the values have a gap; the order is
            missing, or does not have one value per region.
    """
    labels = _labels(path, declared)
    if not any(isinstance(value, list) and value != [0] for value in labels.values()):
        return ()
    found: dict[str, list[int]] = {}
    for name, value in labels.items():
        _check_spelling(path, name, value)
        values = value if isinstance(value, list) else [value]
        if name == IGNORE_NAME or values == [0]:
            continue
        if not values or not all(_is_integer(one) and one > 0 for one in values):
            raise UserError(
                f'{path}: the region "{terminal_text(name)}" is {value!r}, but must be a list of labels '
                "from 1 up, such as [1, 2]."
            )
        found[name] = sorted(set(values))
    _check_printable(path, "labels", found)
    known = sorted(set().union(*found.values()))
    if known != list(range(1, len(known) + 1)):
        raise UserError(
            f"{path}: the regions are made of the labels {known}; they must be 1, 2, … without a gap."
        )
    order = declared.get("regions_class_order")
    if not isinstance(order, list) or len(order) != len(found) or not all(map(_is_integer, order)):
        raise UserError(
            f'{path}: "regions_class_order" is {order!r}, but must list one label value for each of the '
            f"{len(found)} regions ({', '.join(found)}): the value to write for a predicted voxel of it."
        )
    if len(set(order)) < len(order):
        raise UserError(f'{path}: "regions_class_order" is {order}, but must not list a value twice.')
    for (name, values), written in zip(found.items(), order, strict=True):
        if written not in values:
            raise UserError(
                f'{path}: "regions_class_order" writes the region "{name}" as {written}, which is not one of '
                f"its labels {values}."
            )
    return tuple(
        Region(name, (written, *(one for one in values if one != written)))
        for (name, values), written in zip(found.items(), order, strict=True)
    )


def read_annotated(path: Path, declared: Declared, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The annotated classes or regions of partly annotated cases, by case: `annotated` of a file.

    Args:
        path: Path of the file, for messages.
        declared: Content of the file; cases that it does not name are completely annotated.
        names: All classes or regions.

    Raises:
        UserError: It is not a mapping from cases to lists of these names.
    """
    found = declared.get("annotated", {})
    if not isinstance(found, dict):
        raise UserError(
            f'{path}: "annotated" must map cases to lists of classes, such as {{"x": ["liver"]}}.'
        )
    for case, classes in found.items():
        where = f'{path}: "annotated" of the case "{terminal_text(case)}"'
        if not isinstance(classes, list) or not classes:
            raise UserError(f"{where} is {classes!r}, but must list at least one class.")
        for name in classes:
            if name not in names or name == "background":
                known = [one for one in names if one != "background"]
                near = get_close_matches(str(name), known, 1)
                advice = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(known)}."
                raise UserError(f"{where} lists {name!r}, which is not a class. {advice}")
    return {case: tuple(classes) for case, classes in found.items()}


def _labels(path: Path, declared: Declared) -> dict[str, Any]:
    labels = declared.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise UserError(f'{path}: lacks "labels", such as {{"background": 0, "tumour": 1}}.')
    return labels


def _check_spelling(path: Path, name: str, value: Any) -> None:
    if name != IGNORE_NAME and str(name).strip().casefold() == IGNORE_NAME:
        raise UserError(
            f'{path}: the label {value} is called "{terminal_text(name)}". Write "{IGNORE_NAME}" if it '
            "means without annotation; give it another name if it is a class."
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_printable(path: Path, key: str, names: Iterable[str]) -> None:
    """Refuse names with escape sequences, which would act on the terminal."""
    for name in names:
        if not str(name).isprintable():
            raise UserError(f'{path}: "{key}" holds the name {name!r}, which cannot be printed. Rename it.')
