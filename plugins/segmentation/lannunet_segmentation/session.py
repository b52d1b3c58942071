"""What a run of segmentation, or a model in use, is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from lightning_fabric import Fabric

from lannunet_core import ExtraFields, ImageFiles, LoadedConfig, RunInfo, Session, assemble
from lannunet_segmentation.defaults import SegmentationDefaults
from lannunet_segmentation.hooks import SegmentationHooks
from lannunet_segmentation.learner import SegmentationLearner
from lannunet_segmentation.schema import RunConfig


@dataclass
class SegmentationSession(Session):
    """See `Session`."""

    hooks: SegmentationHooks
    learner: SegmentationLearner
    extra: ExtraFields = field(default_factory=lambda: ExtraFields({}))
    """The further fields of cases that reach batches."""

    @property
    def files(self) -> ImageFiles:
        """What reads images."""
        return ImageFiles.of(self.loaded)

    @property
    def config(self) -> RunConfig:
        return cast(RunConfig, self.loaded.run)


def start_session(loaded: LoadedConfig, run: RunInfo, fabric: Fabric) -> SegmentationSession:
    """Plugins, network and loss of a run; the same seed gives the same weights."""
    hooks = assemble(loaded.plugins, run, SegmentationDefaults(loaded.run, run), SegmentationHooks)
    torch.manual_seed(run.seed)
    return SegmentationSession(loaded, run, fabric, hooks, SegmentationLearner(hooks))
