"""Read pickles of plain data, without Python's or NumPy's unpickling: nothing in the file is called.

A pickle is a program for a small stack machine. This one runs only the instructions that build containers,
numbers and text, and interprets a few names (`numpy.ndarray`, …) itself. The bytes of an array are used if
its type is allowed and their number fits its shape. Everything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lannunet_core import UserError
from lannunet_segmentation.data.pickled_arrays import (
    MOST_BYTES,
    MOST_VALUES,
    Refused,
    array_of,
    checked_type,
    finished_array,
    finished_type,
    refuse,
    scalar,
)

MOST_INSTRUCTIONS = 1_000_000
MOST_LEVELS = 40
HIGHEST = 2**63  # of whole numbers


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain data: containers, text, numbers, arrays of numbers; arrays of text become lists.

    Raises:
        UserError: It is damaged, missing, or contains anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            refuse(f"it has more than {MOST_BYTES >> 20} MB")
        return _Machine().run(content)
    except _ERRORS as error:
        cause = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: is not a plain pickle of nnU-Net ({cause}). Copy or make it again."
        ) from None


# Exceptions of the machine and `pickletools` on damaged input.
_ERRORS = (Refused, OSError, ValueError, TypeError, LookupError, OverflowError)


class _Name(NamedTuple):
    """A name that a pickle refers to."""

    module: str
    name: str


@dataclass(eq=False)
class _Unfinished:
    """A type or an array whose state is set later; `places` are its positions in the memo."""

    name: str
    type_code: str = ""
    places: list[int] = field(default_factory=list)


class _Measure(NamedTuple):
    values: int
    levels: int


class _Mark:
    pass


_MARK = _Mark()


class _Machine:
    """Runs a pickle's instructions."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.measures: dict[int, tuple[Any, _Measure]] = {}  # by id; the references keep ids unique
        self.closed: set[int] = set()  # containers inside others: they no longer change, so no cycles arise
        self.texts = 0  # number of texts in arrays

    def run(self, content: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(BytesIO(content))):
            if count > MOST_INSTRUCTIONS:
                refuse(f"it has more than {MOST_INSTRUCTIONS} instructions")
            name = opcode.name
            if name == "STOP":
                return self.finished(self.pop())
            if name in LITERALS:
                self.stack.append(literal(argument))
            else:
                step = STEPS.get(name)
                if step is None:
                    refuse(f"it holds the instruction {name}")
                step(self, argument)
        raise Refused("it ends too early")

    # The stack

    def top(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            refuse("it takes what is not there")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        self.stack.pop()
        return value

    def since_mark(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if self.stack[start] is _MARK:
                found = self.stack[start + 1 :]
                del self.stack[start:]
                return found
        raise Refused("it lacks a mark")

    def drop(self) -> None:
        if not self.stack:
            refuse("it takes what is not there")
        self.stack.pop()

    def drop_to_mark(self) -> None:
        self.since_mark()

    def remember(self, place: int) -> None:
        value = self.memo[place] = self.top()
        if isinstance(value, _Unfinished):
            value.places.append(place)

    def recall(self, place: int) -> None:
        if place not in self.memo:
            refuse("it refers to what is not there")
        self.stack.append(self.memo[place])

    # Containers

    def measure(self, value: Any) -> _Measure:
        known = self.measures.get(id(value))
        return known[1] if known is not None else _Measure(1, 0)

    def contain(self, container: Any, values: Iterable[Any]) -> None:
        """Add the size of values to a container, which then holds them."""
        count, levels = self.measure(container)
        for value in values:
            inner = self.measure(value)
            count, levels = count + inner.values, max(levels, inner.levels + 1)
            if id(value) in self.measures:
                self.closed.add(id(value))
        if count > MOST_VALUES or levels > MOST_LEVELS:
            refuse(f"it holds more than {MOST_VALUES} values, or in more than {MOST_LEVELS} levels")
        self.measures[id(container)] = container, _Measure(count, levels)

    def push(self, container: Any, values: Iterable[Any] = ()) -> None:
        self.measures[id(container)] = container, _Measure(1, 1)
        self.contain(container, values)
        self.stack.append(container)

    def open_container(self, kind: type) -> Any:
        container = self.top()
        if not isinstance(container, kind) or id(container) in self.closed:
            refuse("it changes what it cannot")
        return container

    def append(self, values: list[Any]) -> None:
        target = self.open_container(list)
        values = list(map(self.finished, values))
        self.contain(target, values)
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        if len(values) % 2:
            refuse("a key has no value")
        target = self.open_container(dict)
        values = list(map(self.finished, values))
        self.contain(target, values)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[plain_key(key)] = value

    def add_items(self, values: list[Any]) -> None:
        target = self.open_container(set)
        self.contain(target, values)
        target.update(map(plain_key, values))

    def finished(self, value: Any) -> Any:
        if isinstance(value, (_Name, _Unfinished, np.dtype, _Mark)):
            refuse("it names what it does not use")
        return value

    def count_texts(self, texts: Any) -> None:
        self.texts += len(texts)
        if self.texts > MOST_VALUES:
            refuse(f"it holds more than {MOST_VALUES} texts")

    # Names

    def name(self, module: str, name: str) -> None:
        known = _Name(module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins"), name)
        if known not in CALLS and known not in (ARRAY, TYPE):
            refuse(f"it names {f'{module}.{name}'[:80]!r}, which reading it would run")
        self.stack.append(TYPE if known == TYPE else known)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(arguments, tuple) or not isinstance(function, _Name) or function == ARRAY:
            refuse("it calls what it cannot")
        if function == TYPE:
            code = arguments[0] if arguments else None
            self.stack.append(_Unfinished("dtype", checked_type(code)))
            return
        made = CALLS[function](*arguments)
        if isinstance(made, dict):
            self.push(made, [*made, *map(self.finished, made.values())])
        elif isinstance(made, (set, list)):
            self.push(made, made)
            self.count_texts(made)
        else:
            self.stack.append(made)

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, _Unfinished) or not isinstance(state, tuple):
            refuse("it gives a state to what has none")
        made = finished_type(target.type_code, state) if target.name == "dtype" else finished_array(state)
        if isinstance(made, list):
            self.count_texts(made)
            self.measures[id(made)] = made, _Measure(len(made) + 1, 1)
        self.stack[-1] = made
        for place in target.places:
            if self.memo.get(place) is target:
                self.memo[place] = made


def literal(value: Any) -> Any:
    if isinstance(value, int) and not -HIGHEST <= value < 2 * HIGHEST:
        refuse("it holds a number of more than 64 bits")
    return bytes(value) if isinstance(value, bytearray) else value


def plain_key(key: Any) -> Hashable:
    """Check a key of a dictionary or member of a set: text, a number, or a tuple of those."""
    if isinstance(key, tuple):
        return tuple(map(plain_key, key))
    if key is not None and not isinstance(key, (str, bytes, int, float)):
        refuse(f"a key is a {type(key).__name__}")
    return key


def _pairs(*arguments: Any) -> dict[Any, Any]:
    """An ordered dictionary; its items come later, except in old pickles."""
    if not arguments:
        return {}
    (items,) = arguments
    return {plain_key(key): value for key, value in items}


def _set(*arguments: Any) -> set[Any]:
    (items,) = arguments or ((),)
    return set(map(plain_key, items))


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        refuse("it encodes text otherwise than nnU-Net's pickles do")
    return text.encode("latin1")


def _bytes(*arguments: Any) -> bytes:
    if arguments:
        refuse("it makes bytes of something")
    return b""  # old pickles store empty bytes like this


def _slice(*arguments: Any) -> slice:
    if not all(part is None or isinstance(part, int) for part in arguments):
        refuse("it has a slice that is none")
    return slice(*arguments)


def _new_array(kind: Any, *state: Any) -> _Unfinished:
    if kind != ARRAY:
        refuse("it makes an array of another kind")
    return _Unfinished("ndarray")


ARRAY, TYPE = _Name("numpy", "ndarray"), _Name("numpy", "dtype")
CALLS: dict[Any, Callable[..., Any]] = {
    _Name("collections", "OrderedDict"): _pairs,
    _Name("builtins", "dict"): _pairs,
    _Name("builtins", "set"): _set,
    _Name("builtins", "frozenset"): _set,
    _Name("builtins", "bytes"): _bytes,
    _Name("builtins", "slice"): _slice,
    _Name("_codecs", "encode"): _encode,
    _Name("numpy.core.multiarray", "_reconstruct"): _new_array,
    _Name("numpy.core.multiarray", "scalar"): scalar,
    _Name("numpy.core.numeric", "_frombuffer"): array_of,
}
"""The functions that a pickle may name, each with its replacement."""

LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, length: None,
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "POP": lambda machine, _: machine.drop(),
    "POP_MARK": lambda machine, _: machine.drop_to_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine.top()),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_SET": lambda machine, _: machine.push(set()),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: _push_tuple(machine, machine.since_mark()),
    "TUPLE1": lambda machine, _: _push_tuple(machine, [machine.pop()]),
    "TUPLE2": lambda machine, _: _push_tuple(machine, [machine.pop() for _ in range(2)][::-1]),
    "TUPLE3": lambda machine, _: _push_tuple(machine, [machine.pop() for _ in range(3)][::-1]),
    "LIST": lambda machine, _: _push_list(machine, machine.since_mark()),
    "DICT": lambda machine, _: _push_dict(machine, machine.since_mark()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop() for _ in range(2)][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.since_mark()),
    "FROZENSET": lambda machine, _: _push_set(machine, machine.since_mark()),
    "PUT": lambda machine, place: machine.remember(place),
    "BINPUT": lambda machine, place: machine.remember(place),
    "LONG_BINPUT": lambda machine, place: machine.remember(place),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "GET": lambda machine, place: machine.recall(place),
    "BINGET": lambda machine, place: machine.recall(place),
    "LONG_BINGET": lambda machine, place: machine.recall(place),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: _name_on_stack(machine),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}


def _push_tuple(machine: _Machine, values: list[Any]) -> None:
    made = tuple(values)
    machine.push(made, values)


def _push_list(machine: _Machine, values: list[Any]) -> None:
    machine.push([])
    machine.append(values)


def _push_dict(machine: _Machine, values: list[Any]) -> None:
    machine.push({})
    machine.set_items(values)


def _push_set(machine: _Machine, values: list[Any]) -> None:
    machine.push(set())
    machine.add_items(values)


def _name_on_stack(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(module, str) or not isinstance(name, str):
        refuse("it names what is no name")
    machine.name(module, name)
