"""Speed as ratios, measured in one run on one machine: `make bench`.

Every module of this package that measures has `rows() -> list[Row]`; the other modules are commands.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: What is done.
        plain_way: The simple implementation that it is compared with.
        plain: Seconds of the simple implementation.
        ours: Seconds of this repository's implementation.
        at_least: Smallest allowed ratio of the two times, or
        at_most: largest allowed inverse ratio; neither: only for information.
        note: Other comparisons, such as the difference between the results.
        same: Whether the results agree as required.
    """

    name: str
    plain_way: str
    plain: float
    ours: float
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    same: bool = True

    @property
    def ratio(self) -> float:
        return self.plain / self.ours if self.at_most is None else self.ours / self.plain

    @property
    def required(self) -> str:
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return "" if self.at_least is None else f"≥ {self.at_least:g}"

    @property
    def holds(self) -> bool:
        fast = self.at_least is None or self.ratio >= self.at_least
        return self.same and fast and (self.at_most is None or self.ratio <= self.at_most)


def seconds(
    *ways: Callable[[], Any], repeats: int = 5, threads: int = 1, in_turns: bool = True
) -> list[float]:
    """Return the best time of each implementation, because other work on the machine only adds time.

    The default is one thread: NumPy and SciPy have no more, and threads that wait for each other would
    measure how busy the machine is. Implementations that take a millisecond are not timed alternately,
    because the state of the caches would be a large part of the time.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    best = [float("inf")] * len(ways)
    turns = range(len(ways))
    for i in list(turns) * repeats if in_turns else [i for i in turns for _ in range(repeats)]:
        start = time.perf_counter()
        ways[i]()
        best[i] = min(best[i], time.perf_counter() - start)
    torch.set_num_threads(before)
    return best
