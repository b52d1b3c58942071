"""Additional fields of a data set's entries, in batches for labels, loss and network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class ExtraFields:
    """The fields, and which of them are numeric.

    A field is numeric if all entries that have it have a number, or lists of the same length. In a batch, it
    is a float32 tensor, NaN for entries without it; other fields are lists, with None.
    """

    shapes: Mapping[str, tuple[int, ...] | None]  # shape of a field's numbers; None: not numeric

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
        """The `extra` of an item, which can be collated."""
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
