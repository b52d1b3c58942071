"""Predicting the images of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, inference_mode

from lannunet_core import (
    Coordinates,
    EvaluationMode,
    Floats,
    State,
    gathered,
    is_first,
    loaded_batches,
    make_loader,
    progress_bar,
    share,
    to_device,
)
from lannunet_landmarks.data.centres import annotated_centres
from lannunet_landmarks.data.samples import EvaluationSamples, PreparedImages
from lannunet_landmarks.data.world import World, world_of
from lannunet_landmarks.evaluation.mean_position import not_learned, placed
from lannunet_landmarks.evaluation.summary import radial_errors
from lannunet_landmarks.predict import predictor
from lannunet_landmarks.predict.confident import probable
from lannunet_landmarks.predict.offsets import corrected
from lannunet_landmarks.predict.patchwise import coordinates_around, stitched_maps, whole_maps
from lannunet_landmarks.predict.predictor import Locate, Located, decode, locate_in_maps
from lannunet_landmarks.predict.presence import deciding
from lannunet_landmarks.predict.shape import weighted
from lannunet_landmarks.session import LandmarkSession, pixel_shape
from lannunet_landmarks.types import Prediction, Sample

STITCHED = "patchify_and_stitch"


def locate_with(session: LandmarkSession) -> Locate:
    """Predict with one pass of a session's network."""
    session.learner.eval()
    config, learner, hooks, run = session.config, session.learner, session.hooks, session.run
    sampler, batch_size = config.sampler, session.patches_at_once
    method = session.loaded.architecture.installed.name
    if sampler.sample_mode == "patch_centred":

        def locate(batch: Mapping[str, Any], mode: EvaluationMode) -> Located:
            coordinates, patches = coordinates_around(
                lambda cut, _: learner.maps(cut),
                hooks,
                run.input_size,
                batch_size,
                batch,
                mode,
                session.room,
                session.centre_prior,
            )
            return Located([], {method: coordinates}, patches=patches)

        found: Locate = locate
    else:
        given = (batch_size, run.in_channels, session.room)
        if in_stitched_patches(session):
            maps = stitched_maps(learner, hooks, run.input_size, *given)
        else:
            maps = whole_maps(learner, hooks, *given)
        prior = session.shape_prior

        def weighted_maps(batch: Mapping[str, Any]) -> Any:
            return weighted(maps(batch), batch["image"], prior, learner.loss)

        found = locate_in_maps(weighted_maps, hooks, method)
    found = corrected(found, session.correction)
    if config.inference.presence and session.presence is not None:
        found = deciding(found, session.presence)
    if session.calibrations:
        found = probable(found, session.calibrations)
    return found


def decode_with(
    session: LandmarkSession,
) -> Callable[[Tensor, Mapping[str, Any], EvaluationMode], Coordinates]:
    """Decode maps of whole images like a session, or its `Located.patches`."""
    config, hooks, size = session.config, session.hooks, session.run.input_size
    if config.sampler.sample_mode != "patch_centred":
        return partial(decode, hooks)

    def decode_patches(maps: Tensor, batch: Mapping[str, Any], mode: EvaluationMode) -> Coordinates:
        def own(_: Mapping[str, Any], landmarks: Tensor) -> Tensor:
            return maps[0, landmarks][:, None].expand(-1, *maps.shape[1:])

        at_once = session.patches_at_once
        return coordinates_around(own, hooks, size, at_once, batch, mode, session.room)[0]

    return decode_patches


def in_stitched_patches(session: LandmarkSession) -> bool:
    sampler = session.config.sampler
    return sampler.sample_mode == "patch_bias" and sampler.patch.inference_mode == STITCHED


class Evaluator:
    """Predicts one split, prepared according to a session's configuration; each process predicts its
    share.

    Args:
        session: The session.
        images: The split's images.
        samples: The split's samples.
        title: Name of the split, for the progress bar.
        only: Indices of the samples to predict; None: all.
    """

    def __init__(
        self,
        session: LandmarkSession,
        images: PreparedImages,
        samples: Sequence[Sample],
        title: str,
        only: Sequence[int] | None = None,
    ) -> None:
        self.session, self.samples, self.title = session, samples, title
        self.chosen = share(range(len(samples)) if only is None else only)
        self.by_mean: list[Prediction] | None = None  # predictions of the mean position, once computed
        config = session.config
        sampler = config.sampler
        centred = sampler.sample_mode == "patch_centred"
        one_by_one = centred or in_stitched_patches(session) or sampler.image_size is None  # sizes may differ
        centres = session.centres
        if centred and centres is None:
            centres = annotated_centres(
                samples,
                sampler.image_size,
                sampler.resize,
                sampler.patch.jitter_pixels,
                session.run.seed,
                session.files,
                pixel_shape(config, session.run),
            )
        self.loader = make_loader(
            EvaluationSamples(images, samples, centres if centred else None, session.extra),
            0,
            session.fabric.device,
            sampler=self.chosen,
            batch_size=1 if one_by_one else session.batch_size,
        )

    def predict(self, locate: Locate, debug_folder: Path | None = None) -> dict[str, list[Prediction]]:
        """The predictions of each method of `locate`, the main one first, post-processed."""
        session, hooks = self.session, self.session.hooks
        with progress_bar(f"predicting {self.title} images", len(self.chosen)) as bar:
            own = predictor.predict(
                locate,
                session.hooks,
                session.fabric,
                loaded_batches(self.loader),
                self.samples,
                session.config.inference.evaluation_mode,
                debug_folder if is_first() else None,
                bar.advance,
            )
        methods: dict[str, list[Prediction]] = {}
        for method, found in gathered(list(own.items())):
            methods.setdefault(method, []).extend(found)
        placed = {
            method: [replace(one, world=self.worlds.get(one.id)) for one in every]
            for method, every in methods.items()
        }
        return {
            method: list(
                hooks.postprocess_all(predictions=[hooks.postprocess(prediction=one) for one in every])
            )
            for method, every in placed.items()
        }

    def errors(self, locate: Locate) -> Floats:
        """(images, N, D) predicted minus annotated points in pixels of the network's input; NaN where there
        is none."""
        own: list[Floats] = []
        with progress_bar(f"predicting {self.title} images", len(self.chosen)) as bar, inference_mode():
            for batch in loaded_batches(self.loader):
                moved = to_device(batch, self.session.fabric.device)
                found = locate(moved, self.session.config.inference.evaluation_mode).main
                off = found.points.double().cpu() - batch["landmarks"]
                visible = (batch["states"] == State.VISIBLE)[..., None]
                own.extend(off.where(visible, math.nan).numpy())
                bar.advance(len(off))
        every = gathered(own)
        shape = len(self.session.run.outputs), self.session.run.dimensions
        return np.array(every).reshape(len(every), *shape)

    @cached_property
    def worlds(self) -> Mapping[str, World]:
        """The world of each image, by id.

        Empty if annotations declare the spacing, or if coordinates are those of the input.
        """
        session, found = self.session, {}
        if session.config.inference.evaluation_mode == "use_input_size":
            return {}
        for sample in self.samples:
            if sample.spacing is None and session.files.reader(sample.image) is None:
                world = world_of(session.files.header(sample.image, session.run.dimensions))
                if world is not None:
                    found[sample.id] = world
        return found

    def predict_alone(self) -> list[Prediction]:
        """Predict with the session's network alone."""
        (predictions,) = self.predict(locate_with(self.session)).values()
        return predictions

    def figures(self) -> Mapping[str, float | Sequence[str]] | None:
        """The validation error, the metrics of plugins, and the names of landmarks that are not learned yet.

        None: nothing is annotated.
        """
        predictions = self.predict_alone()
        error = mean_error(predictions)
        if error is None:
            return None
        further = self.session.hooks.validation_metrics(predictions=predictions)
        figures = {"validation_error": error, **{name: float(value) for name, value in further.items()}}
        return figures | self.not_learned(predictions)

    def not_learned(self, predictions: Sequence[Prediction]) -> dict[str, list[str]]:
        """The landmarks for which the mean position of the training images is not worse, if there are any."""
        session, names = self.session, self.session.run.outputs
        if session.mean_position is None:
            return {}
        if self.by_mean is None:
            self.by_mean = placed(
                session.mean_position,
                predictions,
                session.files,
                session.config,
                pixel_shape(session.config, session.run),
            )
        found = not_learned(predictions, self.by_mean, names)
        return {"not_learned": found} if found else {}


def mean_error(predictions: Sequence[Prediction]) -> float | None:
    """Mean radial error in pixels, None if nothing is annotated.

    The error of a landmark that was not found is the distance from the first pixel to the farthest
    annotation.
    """
    targets = np.concatenate([p.target for p in predictions if p.target is not None] or [np.empty((0, 1))])
    if not np.isfinite(targets).any():
        return None
    lost = float(np.nanmax(np.linalg.norm(targets, axis=-1)))
    errors = []
    for prediction in predictions:
        if prediction.target is not None and prediction.states is not None:
            visible = prediction.states == State.VISIBLE
            errors.append(np.nan_to_num(radial_errors(prediction)[0], nan=lost)[visible])
    return float(np.concatenate(errors).mean())
