"""Progress on the terminal: a bar with losses and time left, or plain lines where there is no terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """What `bar` gives."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """So many more steps are done; `note` stands beside them until there is another."""


class PlainBar:
    """Says a line every ten seconds, and one at the end where it took over a second."""

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total, self.done, self.note = title, total, 0, ""
        self.start = self.said = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self.note = note or self.note
        if time.monotonic() - self.said > 10:
            self.say()

    def say(self) -> None:
        self.said = time.monotonic()
        elapsed = self.said - self.start
        left = elapsed / max(self.done, 1) * (self.total - self.done)
        print(f"{self.title}: {self.done}/{self.total}, {left:.0f} s left {self.note}".rstrip(), flush=True)

    def finish(self) -> None:
        if time.monotonic() - self.start > 1:
            self.say()


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Bar]:
    """A bar with the time left, taken away when it is done; without a terminal, plain lines."""
    if not sys.stdout.isatty():
        plain = PlainBar(title, total)
        yield plain
        plain.finish()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    title_column, note_column = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
    columns = (title_column, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), note_column)
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task(title, total=total, note="")

        class RichBar:
            note = ""

            def advance(self, count: int = 1, note: str = "") -> None:
                self.note = note or self.note
                progress.update(task, advance=count, note=self.note)

        yield RichBar()
