"""Epochs as rows of a CSV file and as scalars of TensorBoard."""

from __future__ import annotations

import csv
import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lannunet_core import UserError, atomic_path

COLUMNS = ("epoch", "loss", "lr", "validation_error", "seconds")
"""The columns of every file, in this order; others follow."""


def scalars(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an epoch, with nested ones as `terms/kl`."""
    row: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            row |= {f"{key}/{inner}": number for inner, number in scalars(value).items()}
        elif isinstance(value, int | float):
            row[key] = value
    return row


def write_row(path: Path, row: Mapping[str, float]) -> None:
    """Append an epoch to the earlier ones; later rows of a resumed or replaced run are dropped."""
    rows: list[Mapping[str, Any]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
    rows.append(row)
    columns = dict.fromkeys([*COLUMNS, *(key for known in rows for key in known)])
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)


class TensorBoard:
    """Event files of one run.

    Args:
        folder: The target folder; emptied unless epochs are `done`.
        done: Epochs before a resume; events of later ones are hidden.
    """

    def __init__(self, folder: Path, done: int) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError(
                "trainer.observer.tensorboard: the package tensorboard is not installed. Remove the key, "
                "or: lannunet plugins install 'lannunet-observer[tensorboard]'"
            )
        from torch.utils.tensorboard import SummaryWriter

        if done == 0:
            shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder), purge_step=done + 1)

    def add(self, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, int(row["epoch"]))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
