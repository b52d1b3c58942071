"""A run that learns landmarks: its data set, images and predictions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lannunet_core.augment.schemes import make_scheme
from lannunet_core.config.compose import LoadedConfig
from lannunet_core.config.schema import DatasetConfig
from lannunet_core.data.annotations import LandmarkDataset, Split, load_dataset
from lannunet_core.data.loading import PreparedImages, TrainingSamples
from lannunet_core.errors import UserError
from lannunet_core.evaluation.predictions import need_openpyxl
from lannunet_core.plugins.api import RunInfo
from lannunet_core.training import checkpoint as model_file
from lannunet_core.training.ensemble import together
from lannunet_core.training.evaluator import Evaluator
from lannunet_core.training.models import BEST, open_members, seen_in_training
from lannunet_core.training.presence import calibrated, check_calibration
from lannunet_core.training.results import write_results
from lannunet_core.training.session import Session, describe, prepare_images
from lannunet_core.training.views import axes_and_layers
from lannunet_core.types import Prediction

Compare = Callable[[LandmarkDataset], Mapping[str, list[Prediction]]]


class LandmarkWork:
    """See `run.Work`.

    Args:
        loaded: The run's configuration.
        compare: Other methods' predictions of the evaluated split, to stand beside the model's.

    Attributes:
        predictions: Of the evaluated split, once it is evaluated.
        members: The other models of an ensemble.
    """

    predictions: list[Prediction]
    members: list[Session]

    def __init__(self, loaded: LoadedConfig, compare: Compare | None = None) -> None:
        config = loaded.run
        self.config, self.compare = config, compare
        self.split: Split = config.inference.split
        self.dataset = load_dataset(config.dataset, config.trainer.fold)
        self.images: dict[Split, PreparedImages] = {}
        if not self.dataset.samples[self.split]:
            raise UserError(
                f'{self.dataset.path}: "{self.split}" is empty, so nothing can be evaluated; '
                "put samples there or set inference.split."
            )
        checkpoint = config.model.checkpoint
        self.start = None if checkpoint is None else model_file.load(checkpoint)
        learned = self.start is not None and config.trainer.inference_only and self.start.presence
        self.calibrates = config.inference.presence and not learned
        if self.calibrates:
            check_calibration(self.dataset.samples["validation"], self.dataset.path)
        if config.output.xlsx:
            need_openpyxl("output.xlsx")

    def describe(self, device: str) -> RunInfo:
        return describe(self.config, self.dataset, device)

    def read(self, session: Session) -> None:
        config, samples = self.config, self.dataset.samples
        if config.sampler.sample_mode == "patch_centred" and session.centres is None:
            print(
                "warning: without sampler.patch.centres patches are cut around the annotations, those of "
                f"{self.split} too: the errors are those of a search that starts close.",
                file=sys.stderr,
            )
        axes_and_layers(session)
        self.members = open_members(session, config.inference.ensemble_checkpoints)
        self.warn_of_leaks()
        used: list[Split] = ["training", "validation", self.split]
        if config.trainer.inference_only:
            used = ["validation", self.split] if self.calibrates else [self.split]
        reference = samples["training"][0].image
        self.images = {
            name: prepare_images(session, samples[name], name, reference) for name in dict.fromkeys(used)
        }

    def warn_of_leaks(self) -> None:
        """Tell which models that were trained before have seen images that are to be evaluated."""
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
                print(
                    f"warning: {path}: was trained on {seen} of the {len(samples)} {self.split} images, so "
                    "the errors are smaller than those on new images.",
                    file=sys.stderr,
                )

    def training_samples(self, session: Session) -> TrainingSamples:
        sampler = self.config.sampler
        return TrainingSamples(
            self.images["training"],
            self.dataset.samples["training"],
            session.hooks.sampling(),
            make_scheme(sampler.data_aug, session.hooks.augmentations()),
            session.run.seed,
            in_worker_augment=sampler.data_aug_package == "imgaug",
            flip_pairs=self.dataset.flip_pairs,
        )

    def validation(self, session: Session) -> Callable[[], float | None] | None:
        return self.evaluator(session, "validation").error if self.dataset.samples["validation"] else None

    def evaluator(self, session: Session, split: Split) -> Evaluator:
        return Evaluator(session, self.images[split], self.dataset.samples[split], split)

    def evaluate(
        self,
        session: Session,
        history: list[dict[str, Any]],
        resolved: dict[str, Any],
        description: dict[str, Any],
    ) -> dict[str, Any]:
        folder = self.config.output.output_dir
        if self.calibrates:
            self.calibrate_presence(session)
        methods = self.evaluator(session, self.split).predict(
            together([session, *self.members]), folder / "debug" if self.config.inference.debug else None
        )
        self.predictions = next(iter(methods.values()))
        if self.compare is not None:
            methods |= self.compare(self.dataset)
        title = f"{self.dataset.name}: {self.split}"
        return write_results(session, methods, folder, title, history, resolved, description)

    def calibrate_presence(self, session: Session) -> None:
        """From the validation images; kept in the model that was trained."""
        session.presence = None
        session.presence = calibrated(self.evaluator(session, "validation").predict_alone())
        if not self.config.trainer.inference_only:
            best = self.config.output.output_dir / BEST
            model_file.save(best, replace(model_file.load(best), presence=list(session.presence)))
