"""Which images a person should annotate next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lannunet_images import resample_matrix
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from lannunet_core import Floats, State, UserError, progress_bar
from lannunet_landmarks.data.annotations import load_dataset
from lannunet_landmarks.data.groups import contents
from lannunet_landmarks.data.samples import PreparedImages
from lannunet_landmarks.loop.shapes import Shapes
from lannunet_landmarks.predict.model import LandmarkModel
from lannunet_landmarks.types import Prediction, Sample

THUMBNAIL = 16  # pixels along each axis of what images are compared by


@dataclass(frozen=True)
class Suggestion:
    """One image to annotate.

    Attributes:
        prediction: What the model says of it.
        doubt: 1 − the mean confidence, which an ensemble's disagreement lowers.
        strangeness: How far its predicted shape is from the training shapes; NaN where these are not known.
        novelty: How far it is from the nearest image that is annotated or was chosen before it, 1 for the
            median distance of two images.
        random: Whether it was drawn at random.
    """

    prediction: Prediction
    doubt: float
    strangeness: float
    novelty: float
    random: bool = False


def annotated_samples(model: LandmarkModel) -> list[Sample]:
    """The annotated samples of the data set that a model was trained on; none where it is not there."""
    config = model.session.config
    try:
        dataset = load_dataset(config.dataset, config.trainer.fold, model.session.files)
    except UserError:
        return []
    return [
        one
        for of_split in dataset.samples.values()
        for one in of_split
        if (one.states < State.UNLABELLED).any()
    ]


def not_annotated(samples: Sequence[Sample], annotated: Sequence[Sample]) -> list[Sample]:
    """The samples whose images are none of those annotated, each image once."""
    keys = contents(one.image for one in (*annotated, *samples))
    seen = {keys[one.image] for one in annotated}
    left = []
    for one in samples:
        if keys[one.image] not in seen:
            seen.add(keys[one.image])
            left.append(one)
    return left


def suggest(
    model: LandmarkModel,
    samples: Sequence[Sample],
    annotated: Sequence[Sample],
    count: int,
    rng: np.random.Generator | None = None,
) -> list[Suggestion]:
    """The images to annotate, in order: alternately one that the model finds difficult, and a random one.

    A difficult one has the highest product of two values: the mean of its ranks (0 … 1) in doubt and
    strangeness, and its distance from the annotated and chosen images, so that neighbours do not come
    together. Difficult images alone would leave out usual ones (`docs/loop.md` has the experiment).

    Args:
        model: In use.
        samples: Of images that are not annotated.
        annotated: Those that the model was trained on.
        count: How many to suggest, at most.
        rng: Draws the random ones; by default with the seed of the model's run.
    """
    rng = rng or np.random.default_rng(model.session.config.solver.seed)
    prepared = model.prepare(model.session, samples)
    predictions = next(iter(model.locate(samples, prepared).values()))
    doubt = np.array([1 - np.nan_to_num(one.confidence).mean() for one in predictions])
    strangeness = strange(predictions, annotated, model)
    ranks = [rankdata(doubt)]
    if np.isfinite(strangeness).any():
        ranks.append(rankdata(strangeness))
    worth = np.mean(ranks, axis=0) / len(samples)
    known = thumbnails(model.prepare(model.session, annotated)) if annotated else None
    features, count = thumbnails(prepared), min(count, len(samples))
    unit = median_distance(features)
    difficult = spread(worth, features, known, (count + 1) // 2, unit)
    left = np.setdiff1d(np.arange(len(samples)), [index for index, _ in difficult])
    drawn = left[rng.choice(len(left), count // 2, replace=False)]
    seen = [features[[index for index, _ in difficult]], *([] if known is None else [known])]
    usual = spread(np.ones(len(drawn)), features[drawn], np.concatenate(seen), len(drawn), unit)
    chosen = [(index, novelty, False) for index, novelty in difficult]
    for place, (index, novelty) in enumerate(usual):
        chosen.insert(2 * place + 1, (int(drawn[index]), novelty, True))
    return [
        Suggestion(predictions[index], float(doubt[index]), float(strangeness[index]), novelty, random)
        for index, novelty, random in chosen
    ]


def strange(predictions: Sequence[Prediction], annotated: Sequence[Sample], model: LandmarkModel) -> Floats:
    """(images,) the distance of each predicted shape from the annotated ones; NaN where there are none."""
    files, dimensions = model.session.files, model.session.run.dimensions

    def shape(image: Path, points: Floats, spacing: tuple[float, ...] | None) -> Floats:
        steps = spacing or files.header(image, dimensions).spacing
        return points if steps is None else points * np.asarray(steps)

    try:
        shapes = Shapes([shape(one.image, one.coordinates, one.spacing) for one in annotated])
    except ValueError:
        return np.full(len(predictions), np.nan)
    return np.array([shapes.distance(shape(one.image, one.coordinates, one.spacing)) for one in predictions])


def thumbnails(prepared: PreparedImages) -> Floats:
    """(images, F) small copies of what the network sees, each of mean 0 and length 1."""
    found = []
    with progress_bar("comparing images", len(prepared)) as bar:
        for index in range(len(prepared)):
            small = np.asarray(prepared[index].image, np.float64)  # (C, *S)
            for axis in range(1, small.ndim):
                scale = small.shape[axis] / THUMBNAIL
                places = np.asarray((np.arange(THUMBNAIL) + 0.5) * scale - 0.5, np.float64)
                weights = resample_matrix(small.shape[axis], places, scale)
                small = np.moveaxis(np.tensordot(weights.toarray(), small, (1, axis)), 0, axis)
            small = small.ravel() - small.mean()
            found.append(small / max(float(np.linalg.norm(small)), 1e-12))
            bar.advance()
    return np.array(found)


def median_distance(features: Floats) -> float:
    """The median distance of two different images, of features (images, F); 1 if there are none."""
    distances = cdist(features, features)
    return float(np.median(distances[distances > 0])) if (distances > 0).any() else 1.0


def spread(
    worth: Floats, features: Floats, known: Floats | None, count: int, unit: float | None = None
) -> list[tuple[int, float]]:
    """Indices of `features` (images, F) with their novelty, by worth × novelty, one after the other.

    Args:
        worth: (images,) not negative.
        features: Of the images to choose among.
        known: Of those that are annotated, (M, F).
        count: How many, at most.
        unit: The distance that is a novelty of 1; None: `median_distance`.
    """
    distances, unit = cdist(features, features), unit or median_distance(features)
    nearest = np.full(len(features), np.inf)
    if known is not None:
        nearest = cdist(features, known).min(axis=1) / unit
    chosen: list[tuple[int, float]] = []
    left = np.ones(len(features), dtype=bool)
    for _ in range(min(count, len(features))):
        figure = worth * np.minimum(nearest, distances.max() / unit if len(features) > 1 else 1.0)
        index = int(np.argmax(np.where(left, figure, -np.inf)))
        chosen.append((index, float(nearest[index])))
        left[index] = False
        nearest = np.minimum(nearest, distances[index] / unit)
    return chosen
