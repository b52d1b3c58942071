"""Training patches of prepared cases, read from memory-mapped files: no case is loaded as a whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lannunet_images import ExtraFields, affine_matrix, augmented, shown_box, warp
from torch.utils.data import Dataset

from lannunet_core import Augmenter, ExtraMap, Sampling, Scheme, call_accepting, to_device
from lannunet_segmentation.data.cutting import cut_box
from lannunet_segmentation.data.prepared import PreparedCase
from lannunet_segmentation.types import IGNORE


class TrainingPatches(Dataset[dict[str, Any]]):
    """Training samples by (epoch, draw, index): the part of the case that a patch needs, and the draw.

    The device augments the batch. `centre` counts the pixels of that part.

    Args:
        cases: The training cases.
        sampling: Chooses where a patch is cut.
        scheme: The augmentation.
        seed: The run's seed.
        extra_maps: Maps that are cut in addition to image and label.
        augmenter: Augments the image in the loader's workers; None: `on_device` augments.
        extra: The additional fields of cases that reach batches; None: those of `cases`.
        outputs: The classes or regions, in the order of the network's outputs, for `annotated` (B, K) of
            batches, which is present if a case lacks the annotation of one.
        debug: Also store the source of each patch, as `before`.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        sampling: Sampling,
        scheme: Scheme,
        seed: int,
        extra_maps: Sequence[ExtraMap] = (),
        augmenter: Augmenter | None = None,
        extra: ExtraFields | None = None,
        debug: bool = False,
        outputs: Sequence[str] = (),
    ) -> None:
        self.cases = self.entries = tuple(cases)
        self.sampling = sampling
        self.scheme = scheme
        self.seed = seed
        self.extra_maps = tuple(extra_maps)
        self.augmenter, self.debug = augmenter, debug
        self.extra = extra or ExtraFields.of(case.extra_fields for case in cases)
        self.fills: Mapping[str, float] = {"label": IGNORE}
        self.partly = any(case.annotated_classes is not None for case in cases)
        self.outputs = tuple(outputs)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, place: tuple[int, int, int]) -> dict[str, Any]:
        epoch, draw, index = place
        case, size = self.cases[index], self.sampling.output_size
        rng = np.random.default_rng([self.seed, epoch, draw])
        drawn = call_accepting(self.scheme.draw, rng=rng, size=size, sample=case, epoch=epoch)
        centre = call_accepting(
            self.sampling.centre,
            rng=rng,
            image_size=case.size,
            transform=drawn.spatial,
            sample=case,
            affine=case.affine,
            epoch=epoch,
        )
        label = case.label()
        assert label is not None, "a case is trained on only where something is annotated"
        shown_box(
            drawn.spatial, centre, size, case.size, case.id
        )  # raises if the patch shows nothing of the case
        low, high = drawn.spatial.source_box(centre, size)
        first = [math.floor(side) - 1 for side in low]
        box = [math.ceil(side) + 2 - start for side, start in zip(high, first, strict=True)]
        middle, linear = (np.asarray(size) - 1) / 2, drawn.spatial.linear
        # Except for the elastic deformation.
        moved = affine_matrix(linear, centre + drawn.spatial.offset - linear @ middle)
        item: dict[str, Any] = {
            "image": torch.from_numpy(cut_box(case.image(), first, box)),
            "label": torch.from_numpy(cut_box(label, first, box, IGNORE)),
            "affine": torch.from_numpy(case.affine @ moved),
            "corner": torch.from_numpy(centre - middle).float(),
            "spacing": torch.tensor(case.spacing, dtype=torch.float64),
            "id": case.id,
            "index": torch.tensor(index),
            "drawn": drawn,
            "centre": torch.from_numpy(centre - first).float(),
            "extra": self.extra.item(case.extra_fields),
        }
        if self.partly:
            known = [
                case.annotated_classes is None or name in case.annotated_classes for name in self.outputs
            ]
            item["annotated"] = torch.tensor(known)
        if self.debug:
            cut = {key: item[key] for key in ("image", "label", "centre")}
            item["before"] = {**cut, "transform": drawn}
        if self.augmenter is not None:
            image = self.augmenter(item["image"].numpy(), drawn, centre - first, size)
            item["image"] = torch.from_numpy(image)
        for extra in self.extra_maps:
            values = case.extra(extra.name)
            assert values is not None, "preparing refuses a case without the map"
            item[extra.key] = torch.from_numpy(cut_box(values, first, box, extra.fill)).float()
        return item

    def on_device(self, batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
        """The batch, augmented; `weight` (B, *S) is the product of all weights and masks."""
        drawn, centre, size = batch["drawn"], batch["centre"], self.sampling.output_size
        moved = {**to_device(batch, device), "centre": centre}  # it is read on the host
        label = moved["label"][:, None]
        for extra in self.extra_maps:
            if extra.role != "label":  # otherwise voxels of weight 0 would get some of their neighbours'
                label = label.masked_fill(moved[extra.key][:, None] == 0, IGNORE)
        moved["label"] = warp(label, drawn, centre, size, "nearest", fill=IGNORE)[:, 0]
        for extra in self.extra_maps:
            values = moved[extra.key][:, None]
            moved[extra.key] = warp(values, drawn, centre, size, extra.interpolation, extra.fill)[:, 0]
        weights = [moved[extra.key] for extra in self.extra_maps if extra.role != "label"]
        if weights:
            moved["weight"] = math.prod(weights[1:], start=weights[0])
        if self.augmenter is not None:
            return {key: value for key, value in moved.items() if key not in ("drawn", "centre")}
        return augmented(moved, size)
