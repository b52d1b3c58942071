"""Additional fields of a data set's entries, as they reach batches: labels, loss and network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class ExtraFields:
    """Which fields there are, and which of them are numbers.

    A field is numbers where every entry that has it has a number, or a list of as many. It is a float32
    tensor in a batch, NaN for entries without it; other fields are lists, with None.
    """

    shapes: Mapping[str, tuple[int, ...] | None]  # of a field's numbers; None: it is something else

    @classmethod
    def of(cls, entries: Iterable[Mapping[str, Any]]) -> ExtraFields:
        shapes: dict[str, tuple[int, ...] | None] = {}
        for entry in entries:
            for name, value in entry.items():
                if value is not None:
                    shape = _shape(value)
                    shapes[name] = shape if shapes.get(name, shape) == shape else None
        return cls(shapes)

    def item(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The `extra` of an item, which collates."""
        return {name: self._value(entry.get(name), shape) for name, shape in self.shapes.items()}

    def _value(self, value: Any, shape: tuple[int, ...] | None) -> Any:
        if shape is None:
            return value
        return torch.full(shape, math.nan) if value is None else torch.tensor(value, dtype=torch.float32)


def _shape(value: Any) -> tuple[int, ...] | None:
    try:
        numbers = np.array(value)
    except ValueError:  # lists of different lengths
        return None
    return numbers.shape if numbers.dtype.kind in "bif" and numbers.size else None
