"""Small runs in which plugins are tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lannunet_segmentation.schema import RunConfig


class SegmentationBench:
    """See `Bench`."""

    def config(self, size: tuple[int, ...], rest: Mapping[str, Any]) -> RunConfig:
        sampler = {"patch": {"sample_patch_size": size}}
        return RunConfig.model_validate({"dataset": {"root": "images"}, "sampler": sampler, **rest})

    def outputs(self, count: int) -> tuple[str, ...]:
        """The background and so many classes."""
        return ("background", *(f"class {n}" for n in range(1, count + 1)))
