"""The hooks of landmark runs, typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lannunet_core import Coordinates, Hooks, Merged, One, hookspecs


def _right_states(answer: Any, given: Mapping[str, Any]) -> bool:
    return isinstance(answer, dict) and getattr(answer.get("state"), "shape", None) == given["states"].shape


def _right_coordinates(answer: Any, given: Mapping[str, Any]) -> bool:
    batch, dimensions = given["original_sizes"].shape
    return (
        isinstance(answer, Coordinates)
        and answer.points.ndim == 3
        and (answer.points.shape[0], answer.points.shape[2]) == (batch, dimensions)
        and answer.confidence.shape == answer.points.shape[:2]
    )


def _coordinates_in_words(given: Mapping[str, Any]) -> str:
    batch, dimensions = given["original_sizes"].shape
    return f"Coordinates with points ({batch}, N, {dimensions}) and confidence ({batch}, N)"


class LandmarkHooks(Hooks):
    generate_labels = One(
        hookspecs.generate_labels,
        lambda given: f"a dict with 'state' of shape {tuple(given['states'].shape)}",
        _right_states,
    )
    get_coords_from_heatmap = One(
        hookspecs.get_coords_from_heatmap, _coordinates_in_words, _right_coordinates
    )
    decoders = Merged(hookspecs.decoders, "a mapping from names to callables", callable)
    stitch_heatmap = One(
        hookspecs.stitch_heatmap, "the whole image's outputs", lambda answer, _: answer is not None
    )
    debug_prediction = One(
        hookspecs.debug_prediction, "True, False or None", lambda answer, _: isinstance(answer, bool | None)
    )
