"""Progress: a bar with losses and time left, plain lines without a terminal, or calls of a function."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from lannunet_core.telling import echo

Listener = Callable[[str, int, int], None]
"""Called with a title, the number of finished steps, and their total."""
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


class Bar(Protocol):
    """The value of `progress_bar`."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add finished steps; `note` is shown beside them until the next note."""


class ToldBar:
    """Calls a function after each step."""

    def __init__(self, listener: Listener, title: str, total: int) -> None:
        self.listener, self.title, self.total, self.done = listener, title, total, 0

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self.listener(self.title, self.done, self.total)


class PlainBar:
    """Prints a line every ten seconds, and one at the end if it took over a second."""

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
        echo(f"{self.title}: {self.done}/{self.total}, {left:.0f} s left {self.note}".rstrip())

    def finish(self) -> None:
        if time.monotonic() - self.start > 1:
            self.say()


@contextmanager
def telling_progress(listener: Listener | None) -> Iterator[None]:
    """Bars within, in this thread, call a function instead of being shown; None: they are shown."""
    before = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(before)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Bar]:
    """A bar with the time left, removed at the end; without a terminal, plain lines."""
    if listener := _listener.get():
        yield ToldBar(listener, title, total)
        return
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
