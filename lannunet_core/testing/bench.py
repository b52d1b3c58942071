"""What a task brings to the conformance kit: small runs in which plugins are tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from lannunet_core.config.schema import RunConfig


class Bench(Protocol):
    """Makes the small runs of one task."""

    def config(self, size: tuple[int, ...], rest: Mapping[str, Any]) -> RunConfig:
        """A configuration for images of `size` (x, y[, z]), with what `rest` says."""
        ...

    def outputs(self, count: int) -> tuple[str, ...]:
        """Names of the network's outputs where `count` things are to be found."""
        ...
