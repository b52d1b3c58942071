"""The hooks that runs of segmentation ask for, typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lannunet_core import Every, ExtraMap, Hooks, One, hookspecs


def _labels_in_words(given: Mapping[str, Any]) -> str:
    return f"integer labels of shape {tuple(given['maps'].shape[1:])}"


def _are_labels(answer: Any, given: Mapping[str, Any]) -> bool:
    return getattr(answer, "shape", None) == given["maps"].shape[1:] and not answer.is_floating_point()


class SegmentationHooks(Hooks):
    generate_segmentation_labels = One(
        hookspecs.generate_segmentation_labels,
        "a dict with 'segmentation', a list of label maps",
        lambda answer, _: isinstance(answer, dict) and isinstance(answer.get("segmentation"), list),
    )
    get_segmentation = One(hookspecs.get_segmentation, _labels_in_words, _are_labels)
    extra_maps = Every(
        hookspecs.extra_maps,
        "a list of ExtraMap",
        lambda one: isinstance(one, ExtraMap),
        name_of=lambda one: one.name,
    )
