"""The module that a segmentation run optimises: network and loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lannunet_core import ExtraMap, Learner, level_sizes_of
from lannunet_segmentation.hooks import SegmentationHooks


class SegmentationLearner(Learner):
    """See `Learner`.

    Attributes:
        extra_maps: Maps in batches, in addition to images and labels.
    """

    hooks: SegmentationHooks
    extra_maps: Sequence[ExtraMap] = ()

    def labels(self, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
        labels: dict[str, Any] = self.hooks.generate_segmentation_labels(
            sample=batch, level_sizes=level_sizes_of(outputs, batch["image"].ndim - 2)
        )
        return {"annotated": batch["annotated"], **labels} if "annotated" in batch else labels

    def advice(self, size: tuple[int, ...], nearest: tuple[int, ...]) -> tuple[str, str]:
        return "sampler.patch.sample_patch_size", f"Set it to {list(nearest)}, which it takes."
