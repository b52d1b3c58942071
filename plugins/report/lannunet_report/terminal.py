"""Tables on a terminal of any width: names fold, numbers are never cut."""

from __future__ import annotations

from collections.abc import Sequence

from lannunet_core import terminal_text

LEAST_NAME = 16  # columns that a long name may fold to
GAP = 2


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], last: int = 0) -> None:
    """Print a table whose first column holds names, and the others what is not to be broken.

    Columns that do not fit beside the names follow in a table of their own below.

    Args:
        title: Above it.
        headings: Of the columns.
        rows: A cell a heading.
        last: Number of rows at the end that stand below a line, the first of them in bold.
    """
    from rich.cells import cell_len
    from rich.console import Console

    console = Console()
    cells = [[terminal_text(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(cell_len(row[n]) for row in cells) for n in range(len(headings))]
    widest = max(console.width - GAP - max(widths[1:], default=0), LEAST_NAME)
    name = min(widths[0], max(LEAST_NAME, console.width - sum(width + GAP for width in widths[1:])), widest)
    for number, columns in enumerate(_packed(widths, name, console.width)):
        console.print(_table(title if number == 0 else "", cells, columns, widths, name, last))
    console.print()


def _packed(widths: Sequence[int], name: int, room: int) -> list[list[int]]:
    """The columns of each table: as many as fit beside the names."""
    packed: list[list[int]] = [[]]
    used = name
    for column, width in enumerate(widths[1:], start=1):
        if packed[-1] and used + GAP + width > room:
            packed.append([])
            used = name
        packed[-1].append(column)
        used += GAP + width
    return packed


def _table(
    title: str,
    cells: Sequence[Sequence[str]],
    columns: Sequence[int],
    widths: Sequence[int],
    name: int,
    last: int,
) -> object:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title) if title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, GAP - 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column(Text(cells[0][0]), overflow="fold", min_width=min(name, widths[0]))
    for column in columns:
        table.add_column(Text(cells[0][column]), justify="right", no_wrap=True, min_width=widths[column])
    for number, row in enumerate(cells[1:], start=1):
        if last and number == len(cells) - last:
            table.add_section()
        bold = bool(last) and number == len(cells) - last
        table.add_row(*(Text(row[column]) for column in (0, *columns)), style="bold" if bold else "")
    return table
