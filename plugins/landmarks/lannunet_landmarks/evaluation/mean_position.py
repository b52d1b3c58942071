"""The mean position of each landmark in the training images: a baseline that a model has to beat.

Positions are relative to the image's size, (x + 0.5) / width, so that images of all sizes have equal weight.
A model that is not better has not learned to find a landmark, however small its error is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lannunet_images import ImageFiles, resize_affine, transform_points
from numpy.typing import NDArray

from lannunet_core import Floats
from lannunet_landmarks.data.proportions import pixel_in
from lannunet_landmarks.evaluation.summary import radial_errors
from lannunet_landmarks.schema import RunConfig
from lannunet_landmarks.types import Prediction, Sample


def mean_position(samples: Sequence[Sample], files: ImageFiles) -> Floats:
    """The mean positions (N, D), relative to the image's size; NaN for a landmark that is never placed."""
    shares = []
    for sample in samples:
        size = files.header(sample.image, sample.coordinates.shape[1]).size
        shares.append((sample.coordinates + 0.5) / size)
    known = np.isfinite(shares)
    count = known.sum(axis=0)
    mean = np.where(known, shares, 0).sum(axis=0) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, mean, np.nan), np.float64)


def placed(
    mean: Floats,
    predictions: Sequence[Prediction],
    files: ImageFiles,
    config: RunConfig,
    pixel_shape: Sequence[float] | None = None,
) -> list[Prediction]:
    """The mean position in each image, as predictions in the same frame as a run's.

    Args:
        mean: Result of `mean_position`.
        predictions: Predictions of the run.
        files: Reader of the images.
        config: Config of the run.
        pixel_shape: See `PreparedImages`.
    """
    found = []
    for prediction in predictions:
        size = files.header(prediction.image, mean.shape[1]).size
        points = mean * np.asarray(size) - 0.5
        sampler = config.sampler
        if config.inference.evaluation_mode == "use_input_size" and sampler.image_size is not None:
            pixel = pixel_in(prediction.original_spacing, pixel_shape)
            matrix = resize_affine(size, sampler.image_size, sampler.resize, pixel)
            points = transform_points(np.linalg.inv(matrix), points)
        unknown = np.full(len(points), np.nan)
        found.append(
            replace(prediction, coordinates=points, confidence=unknown, covariance=None, present=None,
                    calibrated=None)
        )  # fmt: skip
    return found


def not_learned(
    predictions: Sequence[Prediction], by_mean: Sequence[Prediction], names: Sequence[str]
) -> list[str]:
    """The landmarks whose mean error is not smaller than that of the mean position on the same images.

    A landmark that was not found gets the error of the mean position. Landmarks without annotation are left
    out.

    Args:
        predictions: Predictions of the model, of at least one image.
        by_mean: Result of `placed`.
        names: Names of the N landmarks.
    """
    model, mean = _errors(predictions), _errors(by_mean)
    known = np.isfinite(mean)
    off = np.where(np.isfinite(model), model, mean)
    worse = np.where(known, off, 0).sum(axis=0) >= np.where(known, mean, 0).sum(axis=0)
    return [name for name, no in zip(names, worse & known.any(axis=0), strict=True) if no]


def _errors(predictions: Sequence[Prediction]) -> Floats:
    """(images, N) in mm if every image has a spacing, else in pixels; NaN without annotation."""
    has_spacing = all(prediction.spacing is not None for prediction in predictions)
    return np.array([radial_errors(prediction)[has_spacing] for prediction in predictions])


def as_plain(mean: Floats) -> list[list[float | None]]:
    """The mean positions as plain lists, for a model file."""
    return [[None if np.isnan(share) else float(share) for share in point] for point in mean]


def from_plain(value: Any, shape: tuple[int, int]) -> Floats | None:
    """Read mean positions from a model file; None: they have another shape."""
    try:
        mean: NDArray[Any] = np.array(value, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError, OverflowError):
        return None
    return mean if mean.shape == shape else None
