"""Tables on a terminal of any width: no name and no number is broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lannunet_core import terminal_text

LEAST_NAME = 16  # columns of names, where they are that long
GAP = 2


def print_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], last: int = 0) -> None:
    """Print a table whose first column holds names.

    Columns that do not fit beside the names follow in another table below. A name that is longer than its
    column has a line of its own, above its numbers.

    Args:
        title: Title above the table.
        headings: Headings of the columns.
        rows: One cell per heading.
        last: Number of rows at the end that stand below a gap, the first of them in bold.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.text import Text

    console = Console()
    head, *body = [[terminal_text(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(cell_len(row[n]) for row in (head, *body)) for n in range(len(head))]
    widest = max(console.width - GAP - max(widths[1:], default=0), LEAST_NAME)
    name = min(widths[0], max(LEAST_NAME, console.width - sum(width + GAP for width in widths[1:])), widest)

    def show(line: str, style: str = "") -> None:
        console.print(Text(line, style), soft_wrap=True)

    if title:
        for part in Text(title).wrap(console, console.width):
            show(part.plain.rstrip(), "italic")
    for columns in _packed(widths, name, console.width):
        used = [name, *(widths[column] for column in columns)]
        for line in _lines([head[0], *(head[column] for column in columns)], used):
            show(line, "bold")
        show("─" * (sum(used) + GAP * len(columns)))
        for number, row in enumerate(body):
            below = last and number == len(body) - last
            if below:
                show("")
            for line in _lines([row[0], *(row[column] for column in columns)], used):
                show(line, "bold" if below else "")
    show("")


def _lines(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """The line of a row; two of them where the name is longer than its column."""
    from rich.cells import cell_len

    name, room = cells[0], widths[0]
    if cell_len(name) > room:
        yield name
        name = ""
    numbers = zip(cells[1:], widths[1:], strict=True)
    padded = (" " * (GAP + width - cell_len(cell)) + cell for cell, width in numbers)
    yield name + " " * (room - cell_len(name)) + "".join(padded)


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
