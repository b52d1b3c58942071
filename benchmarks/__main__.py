"""Run every module of this package and print one table."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

import benchmarks


def main() -> int:
    names = [m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_")]
    rows = [
        row
        for name in track(names, "Measuring", transient=True)
        for row in getattr(importlib.import_module(f"benchmarks.{name}"), "rows", list)()
    ]
    table = Table("what", "compared with", "plain way", "ours", "ratio", "required", "holds", "note")
    for row in rows:
        table.add_row(
            row.name,
            row.plain_way,
            f"{row.plain * 1e3:.1f} ms",
            f"{row.ours * 1e3:.1f} ms",
            f"{row.ratio:.3g}",
            row.required,
            "yes" if row.holds else "NO",
            row.note,
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
