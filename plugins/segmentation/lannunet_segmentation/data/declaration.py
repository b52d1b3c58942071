"""An nnU-Net `dataset.json`: the names of channels and classes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lannunet_core import UserError, names_a_file, terminal_text
from lannunet_segmentation.types import IGNORE

Declared = Mapping[str, Any]
IGNORE_NAME = "ignore"
LONGEST_TITLE = 100  # characters: it is part of a folder's name, too


def read_json(path: Path) -> Any:
    """What an nnU-Net `dataset.json` holds.

    Raises:
        UserError: It is missing, malformed (with line and column), or no text in UTF-8.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path}: is missing. nnU-Net's dataset.json names channels and classes.") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: malformed JSON ({error.msg})."
        ) from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or numbers beyond any use
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
    """What the data set calls itself, in one line; else its folder's name."""
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
        path: Of the file, for messages.
        declared: What it holds; `labels` of version 1 (value first) or 2 (name first).

    Returns:
        The names, background first, each at its label value; and the value that stands for "not annotated",
        None where there is none.

    Raises:
        UserError: There are no labels, they are regions, or they are not numbered from 0 up; a name cannot
            be shown, or is that of the ignore label in another spelling.
    """
    labels = declared.get("labels")
    if not isinstance(labels, dict) or not labels:
        raise UserError(f'{path}: lacks "labels", such as {{"background": 0, "tumour": 1}}.')
    if any(isinstance(value, (list, tuple)) for value in labels.values()):
        raise UserError(
            f'{path}: "labels" has regions (lists of values), which are not supported. Give each class one '
            "value."
        )
    if all(re.fullmatch(r"-?\d{1,9}", key) for key in labels) and not all(map(_is_integer, labels.values())):
        labels = {str(name): int(value) for value, name in labels.items()}  # version 1: value first
    values: dict[str, int] = {}
    for name, value in labels.items():
        if not _is_integer(value):
            raise UserError(
                f'{path}: the label of "{terminal_text(name)}" is {value!r}, which is no integer.'
            )
        if name != IGNORE_NAME and str(name).strip().casefold() == IGNORE_NAME:
            raise UserError(
                f'{path}: the label {value} is called "{terminal_text(name)}". Write "{IGNORE_NAME}" if it '
                "means without annotation; give it another name if it is a class."
            )
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


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_printable(path: Path, key: str, names: Iterable[str]) -> None:
    """Names reach the terminal, where an escape sequence would act."""
    for name in names:
        if not str(name).isprintable():
            raise UserError(f'{path}: "{key}" holds the name {name!r}, which cannot be printed. Rename it.')
