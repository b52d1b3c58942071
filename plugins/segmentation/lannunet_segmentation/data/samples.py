"""Training patches of prepared cases, read from memory-mapped files: no case is ever loaded as a whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from lannunet_core.augment.schemes import Scheme
from lannunet_core.data.loading import shown_box
from lannunet_core.hookspecs import Sampling
from lannunet_core.segmentation.cutting import cut
from lannunet_core.segmentation.preprocess import PreparedCase
from lannunet_core.segmentation.types import IGNORE, ExtraMap


class TrainingPatches(Dataset[dict[str, Any]]):
    """Training samples by (epoch, draw, index): the part of the case that a patch shows, and what was drawn.

    The device augments the batch. `centre` counts the pixels of that part.

    Args:
        cases: The training cases.
        sampling: Where a patch is cut.
        scheme: The augmentation.
        seed: The run's seed.
        extra_maps: What is cut beside image and label.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        sampling: Sampling,
        scheme: Scheme,
        seed: int,
        extra_maps: Sequence[ExtraMap] = (),
    ) -> None:
        self.cases = tuple(cases)
        self.sampling = sampling
        self.scheme = scheme
        self.seed = seed
        self.extra_maps = tuple(extra_maps)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, place: tuple[int, int, int]) -> dict[str, Any]:
        epoch, draw, index = place
        case, size = self.cases[index], self.sampling.output_size
        rng = np.random.default_rng([self.seed, epoch, draw])
        drawn = self.scheme.draw(rng, size)
        landmarks, states = np.empty((0, len(size))), np.empty(0, np.int64)
        centre = self.sampling.centre(
            rng=rng,
            image_size=case.size,
            landmarks=landmarks,
            states=states,
            transform=drawn.spatial,
            sample=case,
            affine=case.affine,
        )
        label = case.label()
        assert label is not None, "a case is trained on only where something is annotated"
        shown_box(drawn.spatial, centre, size, case.size, case.id)  # refuses what shows nothing of the case
        low, high = drawn.spatial.source_box(centre, size)
        first = [math.floor(side) - 1 for side in low]
        box = [math.ceil(side) + 2 - start for side, start in zip(high, first, strict=True)]
        item = {
            "image": torch.from_numpy(cut(case.image(), first, box)),
            "label": torch.from_numpy(cut(label, first, box, IGNORE)),
            "landmarks": torch.from_numpy(landmarks).float(),
            "states": torch.from_numpy(states),
            "affine": torch.from_numpy(case.affine),
            "corner": torch.from_numpy(centre - (np.asarray(size) - 1) / 2).float(),
            "spacing": torch.tensor(case.spacing, dtype=torch.float64),
            "id": case.id,
            "index": torch.tensor(index),
            "drawn": drawn,
            "centre": torch.from_numpy(centre - first).float(),
        }
        for extra in self.extra_maps:
            values = case.extra(extra.name)
            assert values is not None, "preparing refuses a case without the map"
            item[extra.key] = torch.from_numpy(cut(values, first, box, extra.fill)).float()
        return item
