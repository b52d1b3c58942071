"""Centres of patches from an earlier run: the points of its predictions.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from lannunet_images import IMAGE_FILES, ImageFiles, ResizeMode, resize_affine

from lannunet_core import Floats, UserError
from lannunet_landmarks.data.proportions import pixel_in
from lannunet_landmarks.data.sampling import jitter_generator
from lannunet_landmarks.evaluation.predictions import read_predictions
from lannunet_landmarks.types import Sample

Centres = Mapping[str, Floats]
"""(N, D) in original pixels by a sample's id; NaN where a landmark was not found."""

KEY = "sampler.patch.centres"


def read_centres(path: Path, landmark_names: Sequence[str]) -> Centres:
    """Read the points of the named landmarks."""
    predictions, known = read_predictions(path)
    for name in landmark_names:
        if name not in known:
            raise UserError(
                f"{KEY}: {path} has no landmark '{name}'; it has {', '.join(known)}. Give the predictions of "
                "a run with the same landmarks."
            )
    columns = [known.index(name) for name in landmark_names]
    return {prediction.id: prediction.coordinates[columns] for prediction in predictions}


def annotated_centres(
    samples: Sequence[Sample],
    image_size: Sequence[int] | None,
    resize: ResizeMode,
    jitter: float,
    seed: int,
    files: ImageFiles = IMAGE_FILES,
    pixel_shape: Sequence[float] | None = None,
) -> Centres:
    """The annotated points, each moved by up to `jitter` pixels per axis of the resized image.

    None is moved out of its image. The move is a function of seed, sample and landmark, so every evaluation
    uses the same one. `image_size`, `resize` and `pixel_shape` are those of `PreparedImages`.
    """
    centres = {}
    for sample in samples:
        size, scale = input_pixel(sample, image_size, resize, files, pixel_shape)
        moves = [
            jitter_generator(seed, sample.id, landmark).uniform(-jitter, jitter, len(size))
            for landmark in range(len(sample.coordinates))
        ]
        moved = sample.coordinates + np.array(moves) * scale
        centres[sample.id] = moved.clip(0, np.array(size) - 1)  # so that patches show a part of the image
    return centres


def input_pixel(
    sample: Sample,
    image_size: Sequence[int] | None,
    resize: ResizeMode,
    files: ImageFiles = IMAGE_FILES,
    pixel_shape: Sequence[float] | None = None,
) -> tuple[tuple[int, ...], Floats]:
    """The size (x, y[, z]) of an image, and that of an input pixel (D,) in its pixels.

    For `image_size`, `resize` and `pixel_shape` see `PreparedImages`.
    """
    header = files.header(sample.image, sample.coordinates.shape[1])
    size, mode = header.size, resize if image_size else "stretch"
    pixel = pixel_in(sample.spacing or header.spacing or sample.pixel, pixel_shape)
    return size, np.diag(resize_affine(size, image_size or size, mode, pixel))[:-1]


def check_centres(
    centres: Centres,
    samples: Sequence[Sample],
    patch_size: Sequence[int],
    landmark_names: Sequence[str],
    files: ImageFiles = IMAGE_FILES,
) -> None:
    """Raise a UserError unless each sample has its points, and each patch shows a part of its image."""
    for sample in samples:
        if sample.id not in centres:
            raise UserError(
                f'{KEY}: the file has no sample "{sample.id}", but "{next(iter(centres), "")}", for one. It '
                "needs the predictions of every sample of the training, the validation and the evaluated "
                "split, by id."
            )
        points = centres[sample.id]
        size = files.header(sample.image, len(patch_size)).size
        if points.shape[1] != len(size):
            raise UserError(
                f"{KEY}: the file's points have {points.shape[1]} dimensions, {sample.image} has {len(size)}."
            )
        reach = np.asarray(patch_size) / 2
        with np.errstate(invalid="ignore"):
            beyond = ((points < -reach) | (points > np.asarray(size) - 1 + reach)).any(1)
        for landmark in np.flatnonzero(beyond):
            point = ", ".join(f"{value:g}" for value in points[landmark])
            raise UserError(
                f"{KEY}: a patch around landmark '{landmark_names[landmark]}' of sample \"{sample.id}\" at "
                f"({point}) shows nothing of its image of {'×'.join(map(str, size))} pixels. Points are in "
                "pixels of the original image."
            )
