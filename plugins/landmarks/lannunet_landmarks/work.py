"""The task's part of a run: its data set, images and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
from lannunet_images import ExtraFields, prepare_to_train

from lannunet_core import (
    BEST_MODEL,
    LoadedConfig,
    RunInfo,
    UserError,
    Validated,
    carry_out,
    echo,
    is_first,
    load_checkpoint,
    make_scheme,
    refuse_to_empty,
    save_checkpoint,
)
from lannunet_landmarks.check import open_used
from lannunet_landmarks.data.annotations import LandmarkDataset, Split
from lannunet_landmarks.data.centres import input_pixel
from lannunet_landmarks.data.samples import PreparedImages, TrainingSamples
from lannunet_landmarks.data.shared import fingerprint, shared_samples, unlabelled
from lannunet_landmarks.evaluation.mean_position import mean_position, placed
from lannunet_landmarks.evaluation.predictions import need_openpyxl
from lannunet_landmarks.evaluation.results import write_landmark_results
from lannunet_landmarks.planning.advice import advice
from lannunet_landmarks.predict.confident import learn_confidence
from lannunet_landmarks.predict.ensemble import together
from lannunet_landmarks.predict.evaluator import Evaluator, locate_with
from lannunet_landmarks.predict.models import as_trained, open_members, seen_in_training
from lannunet_landmarks.predict.offsets import MOST_IMAGES, systematic
from lannunet_landmarks.predict.presence import calibrated, check_calibration
from lannunet_landmarks.predict.prior import at_centres, prior_scale
from lannunet_landmarks.predict.shape import ShapePrior, shape_prior
from lannunet_landmarks.predict.views import axes_and_layers
from lannunet_landmarks.schema import DatasetConfig, RunConfig
from lannunet_landmarks.session import (
    LandmarkSession,
    describe,
    first_images,
    has_presence,
    pixel_shape,
    prepare_images,
    say_shape,
    with_clips,
)
from lannunet_landmarks.types import Prediction

Compare = Callable[[LandmarkDataset], Mapping[str, list[Prediction]]]


def train(
    loaded: LoadedConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    compare: Compare | None = None,
) -> list[Prediction]:
    """Train one stage as configured, then evaluate the chosen split with the best model.

    Args:
        loaded: The run's configuration, with the models of an ensemble named.
        resume: Continue the run in the output folder (from the beginning if it has not saved anything).
        overwrite: Replace the run in the output folder.
        compare: Predictions of other methods for the evaluated split, shown beside the model's.

    Returns:
        The predictions of the evaluated split.
    """
    config = cast(RunConfig, loaded.run)
    if overwrite:
        members = config.inference.ensemble_checkpoints
        refuse_to_empty(config.output.output_dir, "inference.ensemble_checkpoints", members)
        start = [] if config.model.checkpoint is None else [config.model.checkpoint]
        refuse_to_empty(config.output.output_dir, "model.checkpoint", start)
    loaded = as_trained(loaded)
    work = carry_out(
        loaded, lambda: LandmarkWork(loaded, compare, resume), resume=resume, overwrite=overwrite
    )
    return work.predictions


class LandmarkWork:
    """See `lannunet_core.Work`.

    Args:
        loaded: The run's configuration.
        compare: Predictions of other methods for the evaluated split, shown beside the model's.
        resume: Whether the run in the output folder is resumed.

    Attributes:
        predictions: Predictions of the evaluated split, once it is evaluated.
        members: The other models of an ensemble.
    """

    predictions: list[Prediction]
    members: list[LandmarkSession]

    def __init__(self, loaded: LoadedConfig, compare: Compare | None = None, resume: bool = False) -> None:
        config = cast(RunConfig, loaded.run)
        self.config, self.compare, self.resume = config, compare, resume
        self.split: Split = config.inference.split
        self.dataset = open_used(loaded)
        self.images: dict[Split, PreparedImages] = {}
        checkpoint = config.model.checkpoint
        self.start = None if checkpoint is None else load_checkpoint(checkpoint)
        learned = (
            self.start is not None and config.trainer.inference_only and has_presence(self.start.learned)
        )
        self.calibrates = config.inference.presence and not learned
        if self.calibrates:
            check_calibration(self.dataset.samples["validation"], self.dataset.path)
        if config.output.xlsx:
            need_openpyxl("output.xlsx")

    def describe(self, device: str) -> RunInfo:
        run = describe(self.config, self.dataset, device)
        if self.config.trainer.inference_only and self.start is not None:
            run = replace(run, spacing=self.start.run_info().spacing)  # networks may depend on it
        return run

    def read(self, session: LandmarkSession) -> None:
        config, samples = self.config, self.dataset.samples
        if config.sampler.sample_mode == "patch_centred" and session.centres is None:
            echo(
                "warning: without sampler.patch.centres patches are cut around the annotations, those of "
                f"{self.split} too: the errors are those of a search that starts close.",
                err=True,
            )
        axes_and_layers(session)
        session.loaded = with_clips(session.loaded, self.dataset, session.run.in_channels)
        say_shape(session)
        session.extra = ExtraFields.of(one.extra for split in samples.values() for one in split)
        self.members = open_members(session, config.inference.ensemble_checkpoints)
        if not config.trainer.inference_only:
            session.data = {name: fingerprint(samples[name]) for name in ("training", "validation")}
            session.mean_position = mean_position(samples["training"], session.files)
            session.shape, session.pixel = self.measure_shape(session), self.measure_pixel(session)
            if self.resume:
                self.refuse_other_data(session.data)
        self.warn_of_data(session)
        self.warn_of_leaks()
        used: list[Split] = ["training", "validation", self.split]
        if config.trainer.inference_only:
            used = ["validation", self.split] if self.calibrates else [self.split]
        reference = first_images(self.dataset, config)[0].image
        self.images = {
            name: prepare_images(session, samples[name], name, reference) for name in dict.fromkeys(used)
        }

    def measure_pixel(self, session: LandmarkSession) -> tuple[float, ...] | None:
        """The shape of the training images' pixels; None: one states no spacing."""
        files, dimensions = session.files, self.dataset.dimensions
        spacings = [
            one.spacing or files.header(one.image, dimensions).spacing
            for one in self.dataset.samples["training"]
        ]
        if None in spacings or not spacings:
            return None
        median = np.median(np.array(spacings, np.float64), axis=0)
        return tuple((median / median.min()).round(5).tolist())

    def measure_shape(self, session: LandmarkSession) -> ShapePrior | None:
        """The landmarks' relative positions in training images; None: unknown, or maps show patches."""
        sampler, samples = self.config.sampler, self.dataset.samples["training"]
        if sampler.sample_mode == "patch_centred":
            return None
        pixel = pixel_shape(self.config, session.run)
        points = [
            one.coordinates / input_pixel(one, sampler.image_size, sampler.resize, session.files, pixel)[1]
            for one in samples
        ]
        return shape_prior(np.array(points))

    def refuse_other_data(self, data: Mapping[str, str]) -> None:
        """Raise a UserError unless a resumed run has the training data that it started with."""
        latest = self.config.output.output_dir / "checkpoints" / "latest.pt"
        before = load_checkpoint(latest).learned.get("data", {}) if latest.exists() else {}
        for split, now in data.items():
            if before.get(split, now) != now:
                raise UserError(
                    f'--resume: "{split}" of {self.dataset.path} differs from the run\'s start. Restore the '
                    "original annotations, or start a new run."
                )

    def warn_of_data(self, session: LandmarkSession) -> None:
        """Print warnings about data, or a budget, that make the metrics less meaningful than they seem."""
        if self.compare is not None:  # in a second stage, or the demo
            return
        lines = list(self.dataset.notes)
        if not self.config.trainer.inference_only:
            lines += unlabelled(self.dataset)
            lines += shared_samples(self.dataset, ("training", "validation", self.split))
            if not self.resume and (line := advice(session.loaded, session.run, self.dataset)):
                lines.append(line)
        for line in lines:
            echo(f"warning: {line}", err=True)

    def warn_of_leaks(self) -> None:
        """Print warnings about trained models that have seen images of the evaluated split."""
        if self.split == "training":
            return
        samples = self.dataset.samples[self.split]
        models = [
            (path, member.config.dataset, member.config.trainer.fold)
            for path, member in zip(self.config.inference.ensemble_checkpoints, self.members, strict=True)
        ]
        if self.config.model.checkpoint is not None and self.start is not None:
            of = self.start.config
            dataset = DatasetConfig.model_validate(of["dataset"])
            models.append((self.config.model.checkpoint, dataset, of["trainer"]["fold"]))
        for path, trained_on, fold in models:
            seen = seen_in_training(trained_on, fold, samples)
            if seen:
                echo(
                    f"warning: {path}: was trained on {seen} of the {len(samples)} {self.split} images, so "
                    "the errors are smaller than those on new images.",
                    err=True,
                )

    def training_samples(self, session: LandmarkSession) -> TrainingSamples:
        sampler, trainer = self.config.sampler, self.config.trainer
        prepare_to_train(
            session.learner.network,
            session.run.dimensions,
            compile=trainer.compile,
            channels_last=trainer.channels_last,
        )
        return TrainingSamples(
            self.images["training"],
            self.dataset.samples["training"],
            session.hooks.sampling(),
            make_scheme(sampler.data_aug, session.hooks.augmentations()),
            session.run.seed,
            augmenter=None if sampler.data_aug_package == "torch" else session.hooks.augmenter(),
            flip_pairs=self.dataset.flip_pairs,
            extra=session.extra,
            debug=sampler.debug,
        )

    def validation(self, session: LandmarkSession) -> Callable[[], Validated] | None:
        return self.evaluator(session, "validation").figures if self.dataset.samples["validation"] else None

    def evaluator(self, session: LandmarkSession, split: Split) -> Evaluator:
        return Evaluator(session, self.images[split], self.dataset.samples[split], split)

    def evaluate(
        self,
        session: LandmarkSession,
        history: list[dict[str, Any]],
        resolved: dict[str, Any],
        description: dict[str, Any],
    ) -> dict[str, Any]:
        folder, model = self.config.output.output_dir, self.config.model.checkpoint
        if self.config.trainer.inference_only and model is not None:
            session.say_left_out(model)
        self.calibrate(session)
        methods = self.evaluator(session, self.split).predict(
            together([session, *self.members]), folder / "debug" if self.config.inference.debug else None
        )
        self.predictions = next(iter(methods.values()))
        if not is_first():
            return {}
        if self.compare is not None:
            methods |= self.compare(self.dataset)
        title = f"{self.dataset.name}: {self.split}"
        title += ", the first of two stages" if session.loaded.refine else ""
        mean, by_mean = session.mean_position, None
        if mean is not None:
            by_mean = placed(
                mean, self.predictions, session.files, self.config, pixel_shape(self.config, session.run)
            )
        return write_landmark_results(
            session, methods, folder, title, history, resolved, description, by_mean=by_mean
        )

    def measure_offsets(self, session: LandmarkSession) -> None:
        """Measure the systematic error of each landmark on training images."""
        session.offsets, session.offsets_of = None, None
        samples = self.dataset.samples["training"]
        if not session.config.inference.correct_offsets:
            return
        some = np.linspace(0, len(samples) - 1, min(len(samples), MOST_IMAGES)).round().astype(int).tolist()
        evaluator = Evaluator(session, self.images["training"], samples, "training", some)
        errors = evaluator.errors(locate_with(session))
        session.offsets = systematic(errors, session.learner.label_sigmas())
        session.offsets_of = session.config.inference.decoder
        if not session.offsets.any():
            return
        echo(
            f"the systematic error of each landmark on {len(some)} training images, on average "
            f"{np.linalg.norm(session.offsets, axis=-1).mean():.2g} pixels of the network's input, is "
            "subtracted from all predictions"
        )

    def measure_prior(self, session: LandmarkSession) -> None:
        """Measure the errors of the centres of patches on validation images."""
        session.prior_scale = None
        samples = self.dataset.samples["validation"]
        if session.centres is None or not samples or not session.config.inference.centre_prior:
            return
        session.prior_scale = prior_scale(self.evaluator(session, "validation").errors(at_centres))
        if session.centre_prior is not None:
            echo(
                "positions count less the further they are from the centres (the first stage's points): "
                f"about half at {session.centre_prior.scale:.1f} pixels"
            )

    def calibrate(self, session: LandmarkSession) -> None:
        """Measure offsets on training images, and calibrate presence and confidence on validation images; the
        results are stored in the trained model."""
        trained = not self.config.trainer.inference_only
        if not (trained or self.calibrates):
            return
        if trained:
            session.calibrations = ()
            self.measure_prior(session)
            self.measure_offsets(session)
        if self.calibrates:
            kept, session.calibrations, session.presence = session.calibrations, (), None  # raw
            session.presence = calibrated(self.evaluator(session, "validation").predict_alone())
            session.calibrations = kept
        samples = self.dataset.samples["validation"]
        if trained and samples:
            found = self.evaluator(session, "validation").predict_alone()
            known = learn_confidence(session, found, samples)
            session.calibrations = () if known is None else (known,)
        if trained:
            best = self.config.output.output_dir / BEST_MODEL
            save_checkpoint(best, replace(load_checkpoint(best), learned=session.learned()))
