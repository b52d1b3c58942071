"""Mutations of valid files: of their content, and of their bytes."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

HOSTILE = (
    None,
    True,
    False,
    0,
    -1,
    0.5,
    7,
    10**400,
    -(2**63),
    1e308,
    float("nan"),
    float("inf"),
    "",
    " ",
    "auto",
    "0",
    "x" * 5000,
    "../../../victim",
    "/etc/passwd",
    "C:\\Users\\a",
    "a\0b",
    "\ud800",
    "\x1b[31mred",
    "[bold]x[/bold]",
    "=1+1",
    "<script>",
    [],
    {},
    [[]],
    [0, 0],
    [1, 2, 3, 4, 5],
    {"a": {"b": {"c": []}}},
)


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested dicts and lists."""
    if path:
        yield path
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


@dataclass(frozen=True)
class Nest:
    """Nested lists, deeper than the recursion limit."""

    depth: int

    @property
    def text(self) -> str:
        return "[" * self.depth + "0" + "]" * self.depth


@st.composite
def trees(draw: st.DrawFn, seed: Any) -> Any:
    """A tree with one to three values replaced, removed, doubled or moved."""
    tree = copy.deepcopy(seed)
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(tree))
        if not found:
            break
        *parents, key = draw(st.sampled_from(found))
        inner = tree
        for parent in parents:
            inner = inner[parent]
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "nest", "other"]))
        if action == "remove":
            del inner[key]
        elif action == "rename" and isinstance(inner, dict):
            inner[draw(st.sampled_from(["", "Name", "\ud800", "x" * 300, 0, None, str(key).upper()]))] = (
                inner.pop(key)
            )
        elif action == "nest":
            inner[key] = Nest(draw(st.sampled_from([1, 20, 2000, 100_000])))
        elif action == "other":
            *there, last = draw(st.sampled_from(found))
            value = seed
            try:
                for parent in (*there, last):
                    value = value[parent]
            except (KeyError, IndexError, TypeError):
                value = None
            inner[key] = copy.deepcopy(value)
        else:
            value = draw(st.sampled_from(HOSTILE) | st.text(max_size=20) | st.floats() | st.integers())
            inner[key] = copy.deepcopy(value)  # a later mutation may change it
    return tree


def as_json(tree: Any) -> bytes:
    """Encode as JSON; keys that JSON does not have become text."""
    pieces: list[str] = []
    stack: list[Any] = [("value", tree)]
    while stack:
        kind, value = stack.pop()
        if kind == "text":
            pieces.append(value)
        elif isinstance(value, Nest):
            pieces.append(value.text)
        elif isinstance(value, dict):
            stack.append(("text", "}"))
            for number, (key, inner) in reversed(list(enumerate(value.items()))):
                stack += [("value", inner), ("text", (", " if number else "") + json.dumps(str(key)) + ": ")]
            stack.append(("text", "{"))
        elif isinstance(value, list):
            stack.append(("text", "]"))
            for number, inner in reversed(list(enumerate(value))):
                stack += [("value", inner), ("text", ", " if number else "")]
            stack.append(("text", "["))
        else:
            pieces.append(
                json.dumps(value) if not isinstance(value, int) or abs(value) < 2**60 else _digits(value)
            )
    return "".join(pieces).encode()


def _digits(value: int) -> str:
    return ("-" if value < 0 else "") + "1" + "0" * (len(bin(abs(value))) * 3 // 10)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with one to eight changes."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(data)))
        action = draw(st.sampled_from(["write", "write", "write", "cut", "insert", "end"]))
        some = draw(st.binary(min_size=1, max_size=8))
        if action == "write":
            data[at : at + len(some)] = some
        elif action == "insert":
            data[at:at] = some
        elif action == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif draw(st.integers(0, 3)) == 0:
            del data[at:]
    return bytes(data)
