"""Data frames that pandas wrote to HDF5 (`to_hdf`), read without running code of the file.

Both layouts, `fixed` and `table`, with columns and rows of one or several levels:
https://pandas.pydata.org/docs/user_guide/io.html#hdf5-pytables. PyTables stores tuples and lists as pickles.
They are read by an unpickler that creates tuples, lists, texts and numbers, and imports nothing.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lannunet_core import Floats, UserError, terminal_text
from lannunet_formats.hdf5 import as_text, opened

Labels = list[tuple[str, ...]]
"""One label per row or column: one text per level."""


class Frame(NamedTuple):
    columns: Labels
    rows: Labels
    values: Floats  # (rows, columns)


class Plain(pickle.Unpickler):
    """Refuses all objects that need an import, so that no code of the file runs."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it needs {module}.{name}")


def read_frame(path: Path, extra: str, remedy: str) -> Frame:
    """The only data frame of a file.

    Args:
        path: The file.
        extra: Extra of this distribution that provides h5py.
        remedy: End of the error message.

    Raises:
        UserError: There is no data frame, or several, or it cannot be read without running code of the file.
    """
    with opened(path, extra) as file:
        found: list[Any] = []
        file.visititems(lambda _, one: found.append(one) if "pandas_type" in one.attrs else None)
        frames = [one for one in found if as_text(one.attrs["pandas_type"]) in ("frame", "frame_table")]
        if len(frames) != 1:
            raise UserError(f"{path}: has {len(frames)} data frames of pandas, should have one. {remedy}")
        (group,) = frames
        try:
            return _of_table(group) if "table" in group else _of_blocks(group)
        except Exception as error:  # h5py and pickle raise anything
            cause = terminal_text(" ".join(str(error).split()))
            raise UserError(f"{path}: its data frame cannot be read ({cause:.120}). {remedy}") from None


def _unpickled(value: Any) -> Any:
    # PyTables writes protocol 0 for Python 2, whose texts may be bytes.
    return Plain(io.BytesIO(value if isinstance(value, bytes) else bytes(value)), encoding="utf-8").load()


def _label(value: Any) -> tuple[str, ...]:
    return tuple(map(as_text, value)) if isinstance(value, (tuple, list)) else (as_text(value),)


def _of_table(group: Any) -> Frame:
    """`format="table"`: one record per row; each block of columns is a field of the record."""
    table = group["table"]
    ((_, labels),) = _unpickled(group.attrs["non_index_axes"])
    columns = [_label(one) for one in labels]
    records = table[...]
    values = np.full((len(records), len(columns)), np.nan)
    place = {name: number for number, name in enumerate(columns)}
    missing = set(columns)
    for field in records.dtype.names:
        if not field.startswith("values_block_"):
            continue
        names = [_label(one) for one in _unpickled(table.attrs[f"{field}_kind"])]
        values[:, [place[name] for name in names]] = np.asarray(records[field]).reshape(len(records), -1)
        missing -= set(names)
    if missing:
        raise ValueError(f"no values for column {'/'.join(sorted(missing)[0])}")
    return Frame(columns, [_label(one) for one in records["index"].tolist()], values)


def _of_blocks(group: Any) -> Frame:
    """`format="fixed"`: the labels of both axes, and one dataset per block of columns."""
    columns, rows = _labels(group, "axis0"), _labels(group, "axis1")
    values = np.full((len(rows), len(columns)), np.nan)
    place = {name: number for number, name in enumerate(columns)}
    for block in range(int(group.attrs["nblocks"])):
        names = _labels(group, f"block{block}_items")
        stored = group[f"block{block}_values"]
        array = np.asarray(stored[...], float)
        values[:, [place[name] for name in names]] = array if stored.attrs.get("transposed") else array.T
    return Frame(columns, rows, values)


def _labels(group: Any, axis: str) -> Labels:
    if as_text(group.attrs[f"{axis}_variety"]) != "multi":
        return [_label(one) for one in _level(group[axis])]
    levels = []
    for number in range(int(group.attrs[f"{axis}_nlevels"])):
        level = _level(group[f"{axis}_level{number}"])
        codes = group[f"{axis}_label{number}"][...].tolist()
        levels.append(["" if code < 0 else as_text(level[code]) for code in codes])
    return list(zip(*levels, strict=True))


def _level(dataset: Any) -> list[Any]:
    if (kind := as_text(dataset.attrs["kind"])) == "object":  # pickled arrays
        raise ValueError(f"{dataset.name} contains pickled objects")
    found: list[Any] = dataset[...].tolist() if kind in ("string", "integer", "float") else []
    if not found and dataset.shape[0]:
        raise ValueError(f"{dataset.name} has the kind {kind}")
    return found
