"""The hooks of segmentation runs, typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lannunet_core import Every, ExtraMap, Hooks, One, hookspecs


def _labels_in_words(given: Mapping[str, Any]) -> str:
    return f"integer labels of shape {tuple(given['maps'].shape[1:])}"


def _are_labels(answer: Any, given: Mapping[str, Any]) -> bool:
    return getattr(answer, "shape", None) == given["maps"].shape[1:] and not answer.is_floating_point()


def _image_in_words(given: Mapping[str, Any]) -> str:
    return f"a SegmentedImage with integer labels of shape {given['prediction'].labels.shape}"


def _is_image(answer: Any, given: Mapping[str, Any]) -> bool:
    from lannunet_segmentation.types import SegmentedImage

    return (
        isinstance(answer, SegmentedImage)
        and getattr(answer.labels, "shape", None) == given["prediction"].labels.shape
        and getattr(answer.labels.dtype, "kind", "") in ("i", "u")
    )


def _are_cases(answer: Any, given: Mapping[str, Any]) -> bool:
    from lannunet_segmentation.types import SegmentedCase

    right = isinstance(answer, Sequence) and len(answer) == len(given["predictions"])
    return right and all(isinstance(one, SegmentedCase) for one in answer)


class SegmentationHooks(Hooks):
    postprocess = One(hookspecs.postprocess, _image_in_words, _is_image)
    postprocess_all = One(
        hookspecs.postprocess_all, lambda given: f"{len(given['predictions'])} SegmentedCase", _are_cases
    )
    generate_segmentation_labels = One(
        hookspecs.generate_segmentation_labels,
        "a dict with 'segmentation', a list of label maps",
        lambda answer, _: isinstance(answer, dict) and isinstance(answer.get("segmentation"), list),
    )
    get_segmentation = One(hookspecs.get_segmentation, _labels_in_words, _are_labels)
    extra_maps = Every(hookspecs.extra_maps, "a list of ExtraMap", lambda one: isinstance(one, ExtraMap))
