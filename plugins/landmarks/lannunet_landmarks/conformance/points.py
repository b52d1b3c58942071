"""Decoding of maps, and comparison of the points with the expected ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from lannunet_core import Coordinates, EvaluationMode, Session, spatial_size
from lannunet_core.testing import Broken, Tested, describe, is_whole_part, isolated, shown
from lannunet_landmarks.session import LandmarkSession


def decode(
    session: Session, maps: Any, batch: Mapping[str, Any], mode: EvaluationMode = "use_input_size"
) -> Coordinates:
    """Decode the activated maps of a batch."""
    with isolated(), torch.no_grad():
        return cast(LandmarkSession, session).hooks.get_coords_from_heatmap(
            heatmaps=maps,
            affine=batch["affine"],
            original_sizes=batch["original_size"],
            evaluation_mode=mode,
            image_size=spatial_size(batch["image"]),
        )


def has_own_decoder(tested: Tested) -> bool:
    """Whether the plugin decodes the maps of its runs itself."""
    named = "inference.decoder" in tested.chosen() and tested.answers("decoders")
    return named or tested.answers("get_coords_from_heatmap")


def check_heatmaps(maps: Any, image: Tensor, landmarks: int, where: str) -> None:
    """Check that the task's decoders accept the maps: one per landmark, as large as the image or 1/n of it.

    Raises:
        Broken: They do not.
    """
    first = (
        maps if isinstance(maps, Tensor) else maps[0] if isinstance(maps, (list, tuple)) and maps else None
    )
    wanted = (image.shape[0], landmarks, *image.shape[2:])
    if (
        not isinstance(first, Tensor)
        or first.shape[:2] != wanted[:2]
        or first.ndim != image.ndim
        or not is_whole_part(tuple(first.shape[2:]), wanted[2:])
    ):
        raise Broken(
            f"{where}, the activated maps are {describe(maps)}; the task's decoders need {wanted}, a half, a "
            "third … of it along each axis, or a list that starts with it"
        )


def compare_points(found: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    """Report where points (…, D) differ, and the likely cause: swapped axes, or rounding.

    Raises:
        Broken: They differ.
    """
    found, wanted = (
        found.detach().double().cpu().reshape(-1, found.shape[-1]),
        wanted.double().reshape(-1, wanted.shape[-1]),
    )
    error = (found - wanted).norm(dim=-1).nan_to_num(nan=torch.inf)
    if error.max() <= tolerance:
        return
    worst = int(error.argmax())
    hint, known = "", torch.isfinite(found).all(-1)
    if known.any() and torch.allclose(found[known], wanted.flip(-1)[known], atol=0.75):
        hint = "; the axes are in reverse order: points are (x, y[, z]), tensors (…, [z,] y, x)"
    elif known.all() and torch.equal(found, found.round()) and error.max() < 2:
        hint = "; all of them are whole numbers: coordinates must never be rounded"
    elif error.max() < 1:
        hint = "; less than a pixel: is a coordinate rounded, or shifted by half a pixel?"
    raise Broken(
        f"{what}: expected {shown(wanted[worst])}, found {shown(found[worst])}, "
        f"off by {float(error[worst]):.2f} px{hint}"
    )
