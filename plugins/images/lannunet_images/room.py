"""Predicting with the memory that there is: fewer patches or images at a time, then smaller windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from lannunet_core import RunFailed, UserError, echo, out_of_memory

LEAST_SIDE = 32
"""Sides of smaller windows are multiples of it, which most networks take, and never less."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Size = tuple[int, ...]


@dataclass
class Room:
    """What fits into memory, as far as it was tried: a model keeps it, so that each limit is met once.

    Attributes:
        at_once: The most patches, or images, at a time; None: as many as are asked for.
        window: The most (x, y[, z]) that the network sees; None: as much as is asked for.
    """

    at_once: int | None = None
    window: Size | None = None

    def in_batches(
        self, items: Sequence[Item], wanted: int, use: Callable[[Sequence[Item]], Result]
    ) -> Iterator[tuple[Result, Sequence[Item]]]:
        """Yield what `use` returns per batch, and the batch: `wanted` items, or as many as fit in memory.

        Raises:
            RunFailed: Not even one fits.
        """
        first, short = 0, False
        while first < len(items):
            chosen = items[first : first + min(self.at_once or wanted, wanted)]
            try:
                result = use(chosen)
            except Exception as error:  # a plugin's as well, which it may be the cause of
                if not out_of_memory(error):
                    raise
                if len(chosen) == 1:
                    raise no_room("not even one at a time fits") from error
            else:
                if short:
                    echo(f"memory is short: {self.at_once} at a time from here on, not {wanted}")
                short, first = False, first + len(chosen)
                yield result, chosen
                continue
            self.at_once, short = len(chosen) // 2, True
            give_back()

    def in_windows(self, size: Size, use: Callable[[Size], Result]) -> Result:
        """What `use` makes of windows (x, y[, z]) of `size`, or of smaller ones where these do not fit.

        Raises:
            RunFailed: None that the network takes fits.
        """
        short = False
        while True:
            window = self.limited(size)
            try:
                result = use(window)
            except UserError as error:
                if window == size:
                    raise
                raise no_room(f"the network takes no windows of {_times(window)} ({error})") from None
            except Exception as error:  # a plugin's as well, which it may be the cause of
                if not out_of_memory(error):
                    raise
            else:
                if short:
                    echo(f"memory is short: windows of {_times(window)}, not of {_times(size)}")
                return result
            smaller = halved(window)
            give_back()
            if smaller is None:
                raise no_room(f"not even windows of {_times(window)} fit")
            self.window, short = smaller, True

    def limited(self, size: Size) -> Size:
        """`size`, where it fits; else the window that does."""
        if self.window is None or len(self.window) != len(size):
            return size
        return tuple(min(pair) for pair in zip(size, self.window, strict=True))


def halved(size: Size) -> Size | None:
    """A window of half the longest side, or a little more; None: it is as small as windows get."""
    longest = max(range(len(size)), key=lambda axis: size[axis])
    if size[longest] <= LEAST_SIDE:
        return None
    half = math.ceil(size[longest] / 2 / LEAST_SIDE) * LEAST_SIDE
    return (*size[:longest], half, *size[longest + 1 :])


def no_room(why: str) -> RunFailed:
    return RunFailed(
        f"There is not enough memory to predict: {why}. Predict on a machine with more, or where nothing "
        "else runs."
    )


def give_back() -> None:
    """What was allocated for an attempt that failed, and is of other sizes than the next one needs."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _times(size: Size) -> str:
    return "×".join(map(str, size))
