"""Small runs in which plugins are tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lannunet_landmarks.schema import RunConfig


class LandmarkBench:
    """See `Bench`."""

    def config(self, size: tuple[int, ...], rest: Mapping[str, Any]) -> RunConfig:
        return RunConfig.model_validate(
            {"dataset": {"src_targets": "annotations.json"}, "sampler": {"input_size": size}, **rest}
        )

    def outputs(self, count: int) -> tuple[str, ...]:
        return tuple(f"landmark {n}" for n in range(count))
