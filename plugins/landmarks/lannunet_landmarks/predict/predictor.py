"""Predicting prepared images with a learner."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lannunet_images import transform_points
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d, max_pool3d

from lannunet_core import (
    Coordinates,
    EvaluationMode,
    Floats,
    State,
    spatial_size,
    to_device,
)
from lannunet_landmarks.hooks import LandmarkHooks
from lannunet_landmarks.types import Heat, Prediction, Sample

MOST_HEAT = {2: 96, 3: 40}  # pixels of a map for the eye, along its longest side
PICTURES = 12  # images with debug pictures, in whole batches


@dataclass(frozen=True)
class Located:
    """What was found in a batch.

    Attributes:
        maps: Activated maps; an empty list where there are none of the whole image.
        methods: Coordinates in pixels of the batch's images, by the method's name, the main one first.
        present: (B, N) on the CPU, whether each landmark is in the image; None: not decided.
        within: The radius that confidence is the probability of, and its unit; None: it is not calibrated.
        patches: (1, N, *S) the map of each landmark in a patch around its centre, zeros where that is
            unknown; None: there are none.
    """

    maps: Any
    methods: Mapping[str, Coordinates]
    present: Tensor | None = None
    within: tuple[float, str] | None = None
    patches: Tensor | None = None

    @property
    def main(self) -> Coordinates:
        return next(iter(self.methods.values()))


Locate = Callable[[Mapping[str, Any], EvaluationMode], Located]


def locate_in_maps(maps_of: Callable[[Mapping[str, Any]], Any], hooks: LandmarkHooks, method: str) -> Locate:
    """By decoding the maps that `maps_of` makes of a batch of whole images."""

    def locate(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
        maps = maps_of(batch)
        return Located(maps, {method: decode(hooks, maps, batch, mode)})

    return locate


def of_landmarks(maps: Any, image: Tensor, count: int) -> bool:
    """Whether these are maps (B, N, *S) of the whole image, in a whole fraction of its resolution."""
    if not isinstance(maps, Tensor) or maps.ndim != image.ndim or maps.shape[1] != count:
        return False
    return all(full % side == 0 for full, side in zip(image.shape[2:], maps.shape[2:], strict=True))


def decode(hooks: LandmarkHooks, maps: Any, batch: Mapping[str, Any], mode: EvaluationMode) -> Coordinates:
    return hooks.get_coords_from_heatmap(
        heatmaps=maps,
        affine=batch["affine"],
        original_sizes=batch["original_size"],
        evaluation_mode=mode,
        image_size=spatial_size(batch["image"]),
    )


def predict(
    locate: Locate,
    hooks: LandmarkHooks,
    fabric: Fabric,
    batches: Iterable[Mapping[str, Any]],
    samples: Sequence[Sample],
    mode: EvaluationMode,
    debug_folder: Path | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> dict[str, list[Prediction]]:
    """Predict every sample of `batches`, by each method of `locate`.

    Args:
        locate: Finds the coordinates of a batch.
        hooks: The run's hooks.
        fabric: Gives the device.
        batches: Batches of an `EvaluationSamples` loader.
        samples: What the batches' `index` counts.
        mode: Where to decode; the result is in original pixels, in input pixels for `use_input_size`.
        debug_folder: Where to write pictures of the maps of the first `PICTURES` images; None: nowhere.
        done: Told how many samples each batch held.
    """
    predictions: dict[str, list[Prediction]] = {}
    for batch in batches:
        moved = to_device(batch, fabric.device)
        with torch.inference_mode():  # in float32: half precision would cost tenths of a pixel
            located = locate(moved, mode)
            heat = strongest(located.maps, moved["image"], len(samples[0].states))
        pictured = len(next(iter(predictions.values()), ()))
        for number, (method, found) in enumerate(located.methods.items()):
            every = in_original(batch, samples, found, located, mode)
            if number == 0 and heat is not None:
                affines = [None if mode == "use_input_size" else one for one in batch["affine"].numpy()]
                every = map(with_heat, every, heat[0], [heat[1]] * len(affines), affines)
            predictions.setdefault(method, []).extend(every)
        if debug_folder is not None and pictured < PICTURES:
            drawn = next(iter(predictions.values()))[pictured:]
            hooks.debug_prediction(batch=moved, heatmaps=located.maps, predictions=drawn, folder=debug_folder)
        done(len(batch["index"]))
    return predictions


def strongest(maps: Any, image: Tensor, count: int) -> tuple[NDArray[np.uint8], Floats] | None:
    """The finest maps of a batch for the eye; None where there are none of the whole image.

    Returns:
        (B, *S') of `Heat`, and how many pixels of the input (x, y[, z]) one of them is wide.
    """
    while isinstance(maps, (list, tuple)) and maps:
        maps = maps[0]
    if not of_landmarks(maps, image, count):
        return None
    found = maps.detach().float()
    dimensions = found.ndim - 2
    kernel = math.ceil(max(found.shape[2:]) / MOST_HEAT[dimensions])
    pool = max_pool2d if dimensions == 2 else max_pool3d
    found = pool(found, kernel, ceil_mode=True)
    peak = found.flatten(2).amax(-1).clamp(min=1e-12)
    found = (found / peak.view(*peak.shape, *[1] * dimensions)).amax(1).clamp(0, 1)
    step = np.array([kernel * full / side for full, side in
                     zip(image.shape[:1:-1], maps.shape[:1:-1], strict=True)])  # fmt: skip
    return (found * 255).round().byte().cpu().numpy(), step


def with_heat(
    prediction: Prediction, values: NDArray[np.uint8], step: Floats, affine: Floats | None
) -> Prediction:
    """A prediction with its `Heat`; `affine` takes pixels of the input to its frame (None: they are)."""
    first = (step - 1) / 2
    if affine is not None:
        first = transform_points(affine, first[None])[0]
        step = step * np.diag(affine)[:-1]
    return replace(prediction, heat=Heat(values, step, first))


def in_original(
    batch: Mapping[str, Any],
    samples: Sequence[Sample],
    found: Coordinates,
    located: Located,
    mode: EvaluationMode,
) -> Iterator[Prediction]:
    """The predictions of a batch by one method, which `found` what was `located`."""
    points = found.points.double().cpu().numpy()
    confidence = found.confidence.double().cpu().numpy()
    covariance = None if found.covariance is None else found.covariance.double().cpu().numpy()
    presence = None if found.presence is None else found.presence.double().cpu().numpy()
    present, affines = located.present, batch["affine"].numpy()
    for k, index in enumerate(batch["index"].tolist()):
        spacing = batch["spacing"][k].numpy()
        predicted = in_frame(
            samples[index],
            points[k],
            confidence[k],
            None if covariance is None else covariance[k],
            None if present is None else present[k].numpy(),
            affines[k],
            spacing if np.isfinite(spacing).all() else None,
            mode,
        )
        yield replace(predicted, within=located.within, presence=None if presence is None else presence[k])


def in_frame(
    sample: Sample,
    points: Floats,
    confidence: Floats,
    covariance: Floats | None,
    present: NDArray[np.bool_] | None,
    affine: Floats,
    spacing: Floats | None,
    mode: EvaluationMode,
) -> Prediction:
    """A prediction in input pixels (N, D), beside its annotation, in the frame that `mode` asks for."""
    linear = affine[:-1, :-1]
    target, original_spacing = sample.coordinates, None
    if mode == "use_input_size":
        original_spacing = None if spacing is None else tuple(float(s) for s in spacing)
        target = transform_points(np.linalg.inv(affine).astype(np.float64), target)
        spacing = None if spacing is None else spacing * np.abs(np.diag(linear))
    else:
        points = transform_points(affine, points)
        covariance = None if covariance is None else linear @ covariance @ linear.T
    if present is not None:
        points = np.where(present[:, None], points, np.nan)
    annotated = bool((sample.states != State.UNLABELLED).any())
    return Prediction(
        id=sample.id,
        image=sample.image,
        coordinates=points,
        confidence=confidence,
        covariance=covariance,
        present=present,
        target=target if annotated else None,
        states=sample.states if annotated else None,
        spacing=None if spacing is None else tuple(float(s) for s in spacing),
        extra=sample.extra,
        original_spacing=original_spacing,
        occluded=sample.occluded if annotated else None,
    )
