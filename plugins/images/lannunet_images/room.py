"""Prediction within the available memory: fewer patches or images per batch, then smaller windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from lannunet_core import RunFailed, UserError, echo, out_of_memory

LEAST_SIDE = 32
"""Sides of smaller windows are positive multiples of this, which most networks accept."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Size = tuple[int, ...]


@dataclass
class Room:
    """The limits of memory found so far. A model keeps them, so that each limit is found once.

    Attributes:
        at_once: Maximum number of patches, or images, per batch; None: no limit found.
        window: Maximum size (x, y[, z]) of the network's input; None: no limit found.
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
            except Exception as error:  # also an error of a plugin that memory may have caused
                if not out_of_memory(error):
                    raise
                if len(chosen) == 1:
                    raise no_room("a single one does not fit") from error
            else:
                if short:
                    echo(f"memory is short: {self.at_once} at a time from here on, not {wanted}")
                short, first = False, first + len(chosen)
                yield result, chosen
                continue
            self.at_once, short = len(chosen) // 2, True
            give_back()

    def in_windows(self, size: Size, use: Callable[[Size], Result]) -> Result:
        """Return the result of `use` with windows (x, y[, z]) of `size`, or smaller ones if these do not fit.

        Raises:
            RunFailed: No window that the network accepts fits.
        """
        short = False
        while True:
            window = self.limited(size)
            try:
                result = use(window)
            except UserError as error:
                if window == size:
                    raise
                raise no_room(f"the network does not accept windows of {_times(window)} ({error})") from None
            except Exception as error:  # also an error of a plugin that memory may have caused
                if not out_of_memory(error):
                    raise
            else:
                if short:
                    echo(f"memory is short: windows of {_times(window)}, not of {_times(size)}")
                return result
            smaller = halved(window)
            give_back()
            if smaller is None:
                raise no_room(f"windows of {_times(window)} do not fit")
            self.window, short = smaller, True

    def limited(self, size: Size) -> Size:
        """`size`, limited to the window that fits."""
        if self.window is None or len(self.window) != len(size):
            return size
        return tuple(min(pair) for pair in zip(size, self.window, strict=True))


def halved(size: Size) -> Size | None:
    """A window with the longest side halved and rounded up; None: it already has the minimum size."""
    longest = max(range(len(size)), key=lambda axis: size[axis])
    if size[longest] <= LEAST_SIDE:
        return None
    half = math.ceil(size[longest] / 2 / LEAST_SIDE) * LEAST_SIDE
    return (*size[:longest], half, *size[longest + 1 :])


def no_room(why: str) -> RunFailed:
    return RunFailed(
        f"There is not enough memory to predict: {why}. Use a machine with more memory, or end other "
        "programs."
    )


def give_back() -> None:
    """Release the cached memory of a failed attempt, whose blocks do not fit the next attempt."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _times(size: Size) -> str:
    return "×".join(map(str, size))
