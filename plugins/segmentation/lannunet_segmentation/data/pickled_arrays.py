"""NumPy arrays and numbers in pickles, built without NumPy's own methods for setting a state."""

from __future__ import annotations

import math
import re
import sys
from typing import Any, NoReturn

import numpy as np

MOST_BYTES = 1 << 28
MOST_VALUES = 4_000_000
"""Limit on the values in memory, counted each time they are referenced, as references are cheap in a file."""
NUMBERS = re.compile(r"b1|[iu][1248]|f[248]|[US](\d{1,7})")
ARRAY_VERSION, TYPE_VERSIONS = 1, (3, 4)


class Refused(Exception):
    """The content of a pickle is not plain data."""


def refuse(why: str) -> NoReturn:
    raise Refused(why)


def checked_type(code: Any) -> str:
    if not isinstance(code, str) or not NUMBERS.fullmatch(code):
        refuse(f"it has an array of the type {str(code)[:40]!r}")
    return code


def finished_type(code: str, state: tuple[Any, ...]) -> np.dtype[Any]:
    """A type from its code and the arguments of `dtype.__setstate__`: only its byte order is used."""
    length = NUMBERS.fullmatch(code)
    assert length is not None
    version, order, *parts = state
    if version not in TYPE_VERSIONS or order not in ("<", ">", "|", "=") or any(parts[:3]):
        refuse("it has an array of a type of several parts")
    return np.dtype(code if order in "|=" else f"{order}{code}")


def finished_array(state: tuple[Any, ...]) -> Any:
    """An array from the arguments of `ndarray.__setstate__`."""
    version, shape, kind, columns_first, content = state
    if version != ARRAY_VERSION or not isinstance(columns_first, int):
        refuse("it has an array of another version")
    return array_of(content, kind, shape, "F" if columns_first else "C")


def array_of(content: Any, kind: Any, shape: Any, order: Any) -> Any:
    if isinstance(content, str):
        content = content.encode("latin1")  # old pickles store bytes as text
    if not isinstance(content, bytes) or not isinstance(kind, np.dtype) or order not in ("C", "F"):
        refuse("it has an array that is none")
    if not isinstance(shape, tuple) or not all(isinstance(side, int) and side >= 0 for side in shape):
        refuse("it has an array without a shape")
    if (
        len(shape) > 8
        or max(shape, default=0) > MOST_BYTES
        or math.prod(shape) * kind.itemsize != len(content)
    ):
        refuse(f"it has an array of {len(content)} bytes, which do not fit its shape")
    if kind.kind in "US":
        return _texts(content, kind, shape)
    if not content:
        return np.zeros(shape, kind)
    if kind.kind == "b":
        return (np.frombuffer(content, np.uint8) != 0).reshape(shape, order=order)
    return np.frombuffer(content, kind).reshape(shape, order=order)


def _texts(content: bytes, kind: np.dtype[Any], shape: tuple[int, ...]) -> list[str] | str:
    """An array of text as a list; without an axis as its text."""
    if len(shape) > 1:
        refuse("it has a table of text")
    length = kind.itemsize
    if not length:
        refuse("it has text of no length")
    if len(content) // length > MOST_VALUES:
        refuse(f"it holds more than {MOST_VALUES} texts")
    order = {"<": "little", ">": "big"}.get(kind.byteorder, sys.byteorder)
    encoding = "latin1" if kind.kind == "S" else f"utf-32-{order[0]}e"
    parts = [content[start : start + length] for start in range(0, len(content), length)]
    texts = [part.decode(encoding).rstrip("\0") for part in parts]
    return texts if shape else texts[0]


def scalar(kind: Any, content: Any = b"") -> Any:
    found = array_of(content, kind, (), "C")
    return found if isinstance(found, str) else found.item()
