"""Messages on the terminal, and the end of a command: a sentence and an exit code for each kind of error."""

import contextlib
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator
from types import FrameType

from lannunet_core.errors import RunFailed, UserError
from lannunet_core.record import releasing

MISTAKEN = (PermissionError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
"""Errors of a path that the user gave; other system errors are the machine's."""
ACTS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")  # on a terminal


def terminal_text(value: object) -> str:
    """A value in one line; characters that move, colour or hide text are escaped, as in `\\x1b`."""
    return ACTS.sub(lambda found: found.group().encode("unicode_escape").decode(), str(value))


def echo(message: str = "", err: bool = False) -> None:
    """Print a message to stdout, or to stderr if `err`; on a terminal its lines are folded at spaces.

    A longer path, name or command in backticks overflows its line, so that it can be copied.
    """
    lines = (fold(line, terminal_columns(err)) for line in message.split("\n"))
    print("\n".join(lines), file=sys.stderr if err else sys.stdout, flush=True)


def terminal_columns(err: bool = False) -> int:
    """The width of the terminal behind stdout or stderr, or COLUMNS; 0: there is none."""
    shown = "COLUMNS" in os.environ or (sys.stderr if err else sys.stdout).isatty()
    return shutil.get_terminal_size((0, 0)).columns if shown else 0


def fold(line: str, width: int, indent: int = 2) -> str:
    """The line folded to this width (0: as it is); lines after the first are indented further."""
    if not 0 < width < len(line):
        return line
    hanging = " " * (len(line) - len(line.lstrip()) + indent)
    kept = re.sub("`[^`]*`", lambda code: code.group().replace(" ", "\xa0"), line)
    lines = textwrap.wrap(
        kept, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\xa0", " ")


@contextlib.contextmanager
def telling_errors(debug: bool = False) -> Iterator[None]:
    """Handle errors like `lannunet` does around a command, for programs with a name of their own.

    Folders that were locked within are released.

    Args:
        debug: Show where in the code an error arose, instead of the message.

    Raises:
        SystemExit: With 2 for a `UserError` or a wrong path, 1 for a `RunFailed` or another error of
            the system, 128 and the signal's number for Ctrl-C, SIGTERM and SIGHUP.
    """
    try:
        with releasing(), ended_by_signals():
            yield
    except BrokenPipeError:  # the reader of the output has gone; click ends quietly
        raise
    except (UserError, RunFailed, OSError) as error:
        if debug:
            traceback.print_exc()
        else:
            what = str(error)
            if isinstance(error, OSError):
                what = f"{error.filename or 'a file'}: {error.strerror or error}."
            echo("\n".join(map(terminal_text, f"Error: {what}".split("\n"))), err=True)
        raise SystemExit(2 if isinstance(error, (UserError, *MISTAKEN)) else 1) from error
    except KeyboardInterrupt as interrupt:
        echo("Interrupted.", err=True)
        raise SystemExit(128 + next(iter(interrupt.args), signal.SIGINT)) from interrupt


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end a command like Ctrl-C, so that it cleans up."""

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in (getattr(signal, name) for name in names)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
