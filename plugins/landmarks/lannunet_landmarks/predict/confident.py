"""Confidence as the probability that a point lies within a radius, calibrated on held-out images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lannunet_images import resize_affine
from torch import Tensor

from lannunet_core import EvaluationMode, Floats
from lannunet_landmarks.data.proportions import pixel_in
from lannunet_landmarks.evaluation.reliability import (
    ConfidenceCalibration,
    calibrate_confidence,
    within_radius,
)
from lannunet_landmarks.maps.confidence import REACH
from lannunet_landmarks.predict.predictor import Locate, Located
from lannunet_landmarks.session import LandmarkSession, pixel_shape
from lannunet_landmarks.types import Prediction, Sample

MOST_HEADERS = 50  # images whose headers are read for the radius


def probable(locate: Locate, calibrations: Sequence[ConfidenceCalibration]) -> Locate:
    """`locate`, with probabilities instead of raw confidences."""

    def calibrated(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
        located = locate(batch, mode)
        methods = {}
        for name, found in located.methods.items():
            confidence = found.confidence.double().cpu().numpy()
            for calibration in calibrations:
                confidence = calibration(confidence)
            methods[name] = replace(found, confidence=torch.from_numpy(confidence))
        last = calibrations[-1]
        return replace(located, methods=methods, within=(last.radius, last.unit))

    return calibrated


def learn_confidence(
    session: LandmarkSession, predictions: Sequence[Prediction], samples: Sequence[Sample]
) -> ConfidenceCalibration | None:
    """Fit the calibration to raw predictions of images without training; None: there are too few."""
    if not samples:
        return None
    radius, unit = stated_radius(session, samples)
    raw = np.array([one.confidence for one in predictions])
    return calibrate_confidence(raw, within_radius(predictions, radius, unit), radius, unit)


def stated_radius(session: LandmarkSession, samples: Sequence[Sample]) -> tuple[float, str]:
    """The radius of confidence, and its unit: mm if all images have a spacing.

    It is `inference.confidence_radius`, or the radius of the raw confidence: `REACH` widths of the labels,
    converted from the network's input to the median image, with two digits.
    """
    config, run = session.config, session.run
    input_frame = config.inference.evaluation_mode == "use_input_size"
    scales, spacings = [], []
    for sample in samples[:: max(1, len(samples) // MOST_HEADERS)]:
        header = session.files.header(sample.image, run.dimensions)
        spacing = sample.spacing or header.spacing
        scale: Floats = np.ones(run.dimensions)
        if config.sampler.image_size is not None:
            pixel = pixel_in(spacing or sample.pixel, pixel_shape(config, run))
            matrix = resize_affine(header.size, config.sampler.image_size, config.sampler.resize, pixel)
            scale = np.diag(matrix)[:-1]
        if spacing is not None:
            spacings.append(float(np.prod(scale * spacing)) ** (1 / run.dimensions))
        scales.append(1.0 if input_frame else float(np.prod(scale)) ** (1 / run.dimensions))
    unit = "mm" if len(spacings) == len(scales) else "px"
    given = config.inference.confidence_radius
    if given != "auto":
        return given, unit
    reach = REACH * session.learner.label_sigma() * float(np.median(spacings if unit == "mm" else scales))
    return float(f"{reach:.2g}"), unit


def radius_in_input(session: LandmarkSession) -> Callable[[Mapping[str, Any]], Tensor]:
    """(B,) the distance at which members of an ensemble disagree, in pixels of a batch's images.

    It is the radius of the calibrated confidence, otherwise that of the raw confidence.
    """
    reach = REACH * session.learner.label_sigma()
    stated = session.calibrations[-1] if session.calibrations else None

    def radius(batch: Mapping[str, Any]) -> Tensor:
        linear = batch["affine"][:, :-1, :-1].double().cpu()
        own = torch.full((len(linear),), reach, dtype=torch.float64)
        if stated is None:
            return own
        if session.config.inference.evaluation_mode == "use_input_size" and stated.unit == "px":
            return torch.full_like(own, stated.radius)
        scale = torch.linalg.det(linear).abs() ** (1 / linear.shape[-1])
        if stated.unit == "mm":
            scale = scale * batch["spacing"].double().cpu().prod(-1) ** (1 / linear.shape[-1])
        there = stated.radius / scale
        return torch.where(torch.isfinite(there), there, own)

    return radius
