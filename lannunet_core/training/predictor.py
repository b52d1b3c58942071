"""Predicting prepared images with a learner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from lannunet_core.geometry import transform_points
from lannunet_core.hookspecs import Coordinates, EvaluationMode
from lannunet_core.plugins.manager import Hooks
from lannunet_core.types import Floats, Prediction, Sample, State


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Move a batch's tensors; float64 matrices go as they are, except where the device has no float64."""
    moved = {}
    for key, value in batch.items():
        if isinstance(value, torch.Tensor):
            if device.type == "mps" and value.dtype == torch.float64:
                value = value.float()
            value = value.to(device, non_blocking=True)
        moved[key] = value
    return moved


Locate = Callable[[Mapping[str, Any], EvaluationMode], tuple[Any, Coordinates]]
"""The activated maps of a batch, and the coordinates that they give, in pixels of its images."""


def locate_in_maps(maps_of: Callable[[Tensor], Any], hooks: Hooks) -> Locate:
    """By decoding the maps that `maps_of` makes of whole images (B, C, *S)."""

    def locate(batch: Mapping[str, Any], mode: EvaluationMode) -> tuple[Any, Coordinates]:
        maps = maps_of(batch["image"])
        return maps, hooks.get_coords_from_heatmap(
            heatmaps=maps,
            affine=batch["affine"],
            original_sizes=batch["original_size"],
            evaluation_mode=mode,
        )

    return locate


def predict(
    locate: Locate,
    hooks: Hooks,
    fabric: Fabric,
    batches: Iterable[Mapping[str, Any]],
    samples: Sequence[Sample],
    mode: EvaluationMode,
    debug_folder: Path | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> list[Prediction]:
    """Predict every sample of `batches`.

    Args:
        locate: Finds the coordinates of a batch.
        hooks: The run's hooks.
        fabric: Gives the device.
        batches: Batches of an `EvaluationSamples` loader.
        samples: What the batches' `index` counts.
        mode: Where to decode; the result is in original pixels, in input pixels for `use_input_size`.
        debug_folder: Where to write pictures of the first batch's maps; None: nowhere.
        done: Told how many samples each batch held.
    """
    predictions: list[Prediction] = []
    for batch in batches:
        moved = to_device(batch, fabric.device)
        with torch.inference_mode():  # in float32: half precision would cost tenths of a pixel
            maps, found = locate(moved, mode)
        points = found.points.double().cpu().numpy()
        confidence = found.confidence.double().cpu().numpy()
        covariance = None if found.covariance is None else found.covariance.double().cpu().numpy()
        affines = batch["affine"].numpy()
        predicted = []
        for k, index in enumerate(batch["index"].tolist()):
            spacing = batch["spacing"][k].numpy()
            predicted.append(
                in_frame(
                    samples[index],
                    points[k],
                    confidence[k],
                    None if covariance is None else covariance[k],
                    affines[k],
                    spacing if np.isfinite(spacing).all() else None,
                    mode,
                )
            )
        if debug_folder is not None and not predictions:
            hooks.debug_prediction(batch=moved, heatmaps=maps, predictions=predicted, folder=debug_folder)
        predictions += predicted
        done(len(predicted))
    return predictions


def in_frame(
    sample: Sample,
    points: Floats,
    confidence: Floats,
    covariance: Floats | None,
    affine: Floats,
    spacing: Floats | None,
    mode: EvaluationMode,
) -> Prediction:
    """A prediction in input pixels (N, D), beside its annotation, in the frame that `mode` asks for."""
    linear = affine[:-1, :-1]
    target = sample.coordinates
    if mode == "use_input_size":
        target = transform_points(np.linalg.inv(affine).astype(np.float64), target)
        spacing = None if spacing is None else spacing * np.abs(np.diag(linear))
    else:
        points = transform_points(affine, points)
        covariance = None if covariance is None else linear @ covariance @ linear.T
    annotated = bool((sample.states != State.UNLABELLED).any())
    return Prediction(
        id=sample.id,
        image=sample.image,
        coordinates=points,
        confidence=confidence,
        covariance=covariance,
        target=target if annotated else None,
        states=sample.states if annotated else None,
        spacing=None if spacing is None else tuple(float(s) for s in spacing),
        extra=sample.extra,
    )
