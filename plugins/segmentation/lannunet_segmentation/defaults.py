"""The task's default hook implementations. They use nothing that a plugin cannot use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lannunet_core import Defaults, hookimpl
from lannunet_segmentation.hooks import SegmentationHooks
from lannunet_segmentation.schema import RunConfig

if TYPE_CHECKING:
    from torch import Tensor

    from lannunet_core import Loss, Sampling, Scheme


class SegmentationDefaults(Defaults):
    """See `Defaults`."""

    replaced = Defaults.replaced | {"sampling": ("sampler.sample_mode", "sampler.foreground_share")}
    config: RunConfig
    hooks: SegmentationHooks

    @hookimpl
    def losses(self) -> Mapping[str, Callable[[], Loss]]:
        from lannunet_segmentation.maps.loss import CrossEntropyDice, RegionCrossEntropyDice

        regions = self.run.regions
        return {"ce_dice": partial(RegionCrossEntropyDice, regions) if regions else CrossEntropyDice}

    @hookimpl
    def augmentations(self) -> Mapping[str, Callable[[], Scheme]]:
        from lannunet_segmentation.data.nnunet_scheme import NnunetScheme, NnunetUprightScheme

        return {"nnunet": NnunetScheme, "nnunet_upright": NnunetUprightScheme}

    @hookimpl
    def sampling(self) -> Sampling:
        from lannunet_segmentation.data.sampling import ForegroundBias

        patches = self.config.sampler
        return ForegroundBias(patches.patch.sample_patch_size, patches.foreground_share)

    @hookimpl
    def generate_segmentation_labels(
        self, sample: Mapping[str, Any], level_sizes: Sequence[tuple[int, ...]]
    ) -> dict[str, Any]:
        from lannunet_segmentation.maps.labels import segmentation_labels

        return segmentation_labels(sample["label"], level_sizes, sample.get("weight"))

    @hookimpl
    def get_segmentation(self, maps: Tensor) -> Tensor:
        from lannunet_segmentation.regions import painted

        return painted(maps, self.run.regions) if self.run.regions else maps.argmax(0)

    @hookimpl
    def debug_sample(self, batch: Mapping[str, Any], labels: Mapping[str, Any], folder: Path) -> bool:
        from lannunet_segmentation.evaluation.pictures import draw_training_patches

        draw_training_patches(batch, folder)
        return True
