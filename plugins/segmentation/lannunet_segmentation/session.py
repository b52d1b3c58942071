"""The parts of a segmentation run, or of a model in use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from lannunet_images import ExtraFields, ImageFiles, Room
from lightning_fabric import Fabric

from lannunet_core import LoadedConfig, RunInfo, Session, assemble
from lannunet_segmentation.data.settings import recorded
from lannunet_segmentation.defaults import SegmentationDefaults
from lannunet_segmentation.hooks import SegmentationHooks
from lannunet_segmentation.learner import SegmentationLearner
from lannunet_segmentation.regions import label_names
from lannunet_segmentation.schema import RunConfig
from lannunet_segmentation.types import Preparation


@dataclass
class SegmentationSession(Session):
    """See `Session`."""

    hooks: SegmentationHooks
    learner: SegmentationLearner
    extra: ExtraFields = field(default_factory=lambda: ExtraFields({}))
    """The additional fields of cases that reach batches."""
    prepared: Preparation | None = None
    """Preparation of the images that this run trains on."""
    trained: Any = None
    """Preparation in the file of the model that the weights come from; None: it has none."""

    room: Room = field(default_factory=Room)
    """Batch and window sizes that fit into memory."""

    def learned(self) -> dict[str, Any]:
        known = self.trained if self.prepared is None else recorded(self.prepared)
        return {} if known is None else {"preparation": known}

    def recall(self, learned: dict[str, Any]) -> None:
        self.trained = learned.get("preparation")

    @property
    def files(self) -> ImageFiles:
        """The reader of images."""
        return ImageFiles.of(self.loaded)

    @property
    def seen_classes(self) -> int:
        """Number of classes of an earlier stage that the network sees, each in an additional channel."""
        return len(label_names(self.run)) - 1 if self.config.preprocess.previous_stage else 0

    @property
    def image_channels(self) -> int:
        """Channels of the images, without those of an earlier stage."""
        return self.run.in_channels - self.seen_classes

    @property
    def config(self) -> RunConfig:
        return cast(RunConfig, self.loaded.run)


def start_session(loaded: LoadedConfig, run: RunInfo, fabric: Fabric) -> SegmentationSession:
    """Start a run with plugins, network and loss; the same seed gives the same weights."""
    hooks = assemble(loaded.plugins, run, SegmentationDefaults(loaded.run, run), SegmentationHooks)
    torch.manual_seed(run.seed)
    return SegmentationSession(loaded, run, fabric, hooks, SegmentationLearner(hooks))
