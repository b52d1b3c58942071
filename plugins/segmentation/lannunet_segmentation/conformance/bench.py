"""Small runs in which plugins are tested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lannunet_core import BalancedLoss, Sampling, Session
from lannunet_core.testing import (
    Bench,
    Broken,
    Conformance,
    Goal,
    Partial,
    Source,
    Tested,
    check_levels,
    describe,
)
from lannunet_segmentation.conformance.batches import class_names, segmentation_batch, segmented
from lannunet_segmentation.conformance.cases import drawn_label, prepared_cases
from lannunet_segmentation.predict.sliding import patch_scores
from lannunet_segmentation.types import IGNORE, Labels


class SegmentationBench(Bench):
    """See `Bench`."""

    label_hooks = ("generate_segmentation_labels",)
    goal = Goal("mean Dice", "", 0.7, rises=True)

    def config(self, size: tuple[int, ...]) -> dict[str, Any]:
        return {"dataset": {"root": "images"}, "sampler": {"patch": {"sample_patch_size": size}}}

    def outputs(self, count: int) -> tuple[str, ...]:
        return class_names(count)

    def make_batch(self, session: Session, count: int, seed: int) -> dict[str, Any]:
        return segmentation_batch(session, count, seed)

    def prepare(self, session: Session) -> None:
        if isinstance(session.learner.loss, BalancedLoss):
            session.learner.loss.balance([1000 // 2**n for n in range(len(session.run.outputs))])

    def maps(self, session: Session, batch: Mapping[str, Any]) -> Tensor:
        def network(image: Tensor) -> Any:
            return session.learner.outputs({**batch, "image": image})

        return patch_scores(network, batch["image"], session.learner.loss.activation, mirror=False)

    def check_outputs(self, session: Session, outputs: Any, batch: Any, where: str) -> None:
        check_levels(outputs, batch["image"], len(session.run.outputs), "class, (B, K, *S)", where)

    def check_maps(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:
        image = batch["image"]
        wanted = (len(image), len(session.run.outputs), *image.shape[2:])
        if not isinstance(maps, Tensor) or tuple(maps.shape) != wanted:
            raise Broken(
                f"{where}, the activated maps are {describe(maps)}, should be {wanted}: one map per class, "
                "finest resolution"
            )
        if not torch.isfinite(maps).all():
            raise Broken(f"{where}, the activated maps have values that are NaN or infinite")
        if maps.min() < -1e-3 or maps.max() > 1 + 1e-3:
            raise Broken(
                f"{where}, the activated maps lie in {float(maps.min()):.3g} … {float(maps.max()):.3g}, "
                "should lie in 0 … 1; is the activation missing?"
            )

    def check_perfect_maps(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:
        if _are_voxels(maps, batch["label"]):
            self.check_maps(tested, session, maps, batch, f"{where} of perfect outputs")

    def check_found(self, tested: Tested, session: Session, maps: Any, batch: Any, where: str) -> None:
        label = batch["label"]
        if not _are_voxels(maps, label):
            return
        self.check_perfect_maps(tested, session, maps, batch, where)
        wrong = float((segmented(session, maps) != label)[label != IGNORE].float().mean())
        if wrong > 0.01:
            raise Broken(
                f"{where}: perfect outputs give {wrong:.0%} of the annotated voxels another label; do loss, "
                "activation and get_segmentation number the classes in the same way?"
            )

    def hidden(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        label = batch["label"].clone()
        label[..., : label.shape[-1] // 4] = IGNORE
        return {**batch, "label": label}

    def figure(self, session: Session, batch: Mapping[str, Any]) -> float:
        found, wanted = segmented(session, self.maps(session, batch)), batch["label"]
        shares = []
        for value in range(1, len(session.run.outputs)):
            both = ((found == value) & (wanted == value)).sum()
            shares.append(2 * both / ((found == value).sum() + (wanted == value).sum()))
        return float(torch.stack(shares).mean())

    def unlabelled(self, session: Session) -> Sequence[Partial]:
        batch = segmentation_batch(session)
        batch["label"][_unknown(batch["label"])] = IGNORE
        return [Partial("a voxel without annotation", batch, _right_half(batch["label"]), {})]

    def weightless(self, session: Session) -> Sequence[Partial]:
        batch = segmentation_batch(session)
        batch["weight"] = torch.where(_unknown(batch["label"]), 0.0, 1.0)
        return [Partial("a voxel of weight 0", batch, _right_half(batch["label"]), {})]

    def empty(self, tested: Tested, session: Session) -> Mapping[str, dict[str, Any]]:
        batch = segmentation_batch(session)
        empty = {"no voxel annotated": {**batch, "label": torch.full_like(batch["label"], IGNORE)}}
        if tested.supports_weights is not False:
            empty["no voxel of any weight"] = {**batch, "weight": torch.zeros(batch["label"].shape)}
        return empty

    def equal(self, session: Session) -> Sequence[tuple[str, dict[str, Any], dict[str, Any]]]:
        batch = segmentation_batch(session)
        unknown = _unknown(batch["label"])
        batch["label"][unknown] = IGNORE
        light, heavy = ({**batch, "weight": torch.where(unknown, weight, 1.0)} for weight in (0.5, 5.0))
        return [("a weight of 0.5 or of 5 at voxels without annotation", light, heavy)]

    @contextmanager
    def sources(self, dimensions: int, sampling: Sampling) -> Iterator[Sequence[Source]]:
        output = np.array(sampling.output_size)
        labels: dict[str, Labels] = {}
        labels["every voxel annotated"] = drawn_label(_times(output, (3, 1, 2)))
        slices = drawn_label(_times(output, (1, 2, 1)), classes=2)
        slices[np.arange(len(slices)) != len(slices) // 3] = IGNORE
        labels["one slice annotated and a class absent"] = slices
        voxel = np.full(np.maximum(output // 2, 1)[::-1], IGNORE, np.int16)  # smaller than a patch
        voxel[(0,) * dimensions] = 0
        labels["one voxel annotated"] = voxel
        names = {what.replace(" ", "_"): what for what in labels}
        with prepared_cases({name: labels[what] for name, what in names.items()}) as cases:
            yield [
                Source(
                    f"a case with {what}",
                    cases[name].size,
                    what == "every voxel annotated",
                    {"sample": cases[name]},
                )
                for name, what in names.items()
            ]

    def suites(self) -> Mapping[str, type[Conformance]]:
        from lannunet_segmentation.conformance.suites import SUITES

        return SUITES


def _are_voxels(maps: Any, label: Tensor) -> bool:
    """Whether the labels of maps are single voxels, as opposed to coarser maps."""
    return not isinstance(maps, Tensor) or maps.shape[2:] == label.shape[1:]


def _unknown(label: Tensor) -> Tensor:
    """A mask of the second image of (B, *S), and of the right half of the others."""
    unknown = torch.zeros(label.shape, dtype=torch.bool)
    unknown[..., label.shape[-1] // 2 :] = True
    unknown[1] = True
    return unknown


def _right_half(label: Tensor) -> Any:
    """A function that selects the gradient of pixels that show only voxels of the right half."""
    width = label.shape[-1]

    def silent(gradient: Tensor) -> Tensor | None:
        if gradient.ndim != label.ndim + 1:
            return None
        return gradient[..., -(-(width // 2) * gradient.shape[-1] // width) :]

    return silent


def _times(size: Any, factors: tuple[int, ...]) -> tuple[int, ...]:
    """A size with each axis multiplied by its factor."""
    return tuple((size * np.array(factors)[: len(size)] + np.arange(len(size))).tolist())
