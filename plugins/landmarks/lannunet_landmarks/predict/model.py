"""A trained model in memory, or an ensemble: `lannunet predict` and Python programs predict with it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from lannunet_images import Graph, given_images, members_of, second_model
from numpy.typing import NDArray

from lannunet_core import Floats, UserError, located
from lannunet_landmarks.data.samples import PreparedImages
from lannunet_landmarks.evaluation.calibration import Calibration, read_calibration
from lannunet_landmarks.predict.ensemble import together
from lannunet_landmarks.predict.evaluator import Evaluator, locate_with
from lannunet_landmarks.predict.models import open_members, open_model
from lannunet_landmarks.session import LandmarkSession, prepare_images
from lannunet_landmarks.types import Prediction, Sample, unannotated


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmarks of an image.

    Attributes:
        points: (N, D) in pixels of the image, (x, y[, z]), their centres at integers; NaN where not found.
        confidence: (N,) in 0 … 1, higher is more certain. If there is a radius, it is the probability that
            the point lies within it.
        radius: Radius of the confidence; None: the confidence is not calibrated.
        unit: Unit of the radius, `mm` or `px`; None without a radius.
        names: Names of the N landmarks.
        present: (N,) whether each is in the image at all; None: the model does not decide it.
        presence: (N,) the probability that each is in the image; None: unknown.
        covariance: (N, D, D) in pixels², of an ensemble; None: unknown.
        spacing: mm per pixel (x, y[, z]); None: unknown.
    """

    task: ClassVar[str] = "landmarks"

    points: Floats
    confidence: Floats
    radius: float | None
    unit: str | None
    names: tuple[str, ...]
    present: NDArray[Any] | None = None
    presence: Floats | None = None
    covariance: Floats | None = None
    spacing: tuple[float, ...] | None = None

    @classmethod
    def of(cls, prediction: Prediction, names: Sequence[str]) -> Landmarks:
        radius, unit = prediction.within or (None, None)
        return cls(
            points=prediction.coordinates,
            confidence=prediction.confidence,
            radius=radius,
            unit=unit,
            names=tuple(names),
            present=prediction.present,
            presence=prediction.presence,
            covariance=prediction.covariance,
            spacing=prediction.spacing,
        )


class LandmarkModel:
    """A `Predictor`; a second stage, and additional models, are loaded with the first.

    Args:
        model: A model file, the folder of a run, or the folder of a cross-validated run.
        also: Additional models of an ensemble.
        tta: Whether to predict mirrored images too; None: as configured in the model.
        known: Calibration of confidences, applied after the model's own; None: the calibration beside the
            model, as in a bundle.
        plugins: Trusted plugin files.
        device: As `trainer.device`.

    Raises:
        UserError: A path is not a model, or the models cannot form an ensemble.
    """

    def __init__(
        self,
        model: Path,
        also: Sequence[Path] = (),
        tta: bool | None = None,
        known: Calibration | None = None,
        plugins: Sequence[Path] = (),
        device: str = "auto",
    ) -> None:
        kept = kept_calibration(model) if known is None else None
        known = read_calibration(kept) if kept is not None else known
        first, *others = members_of((model, *also))
        self.model, self.others = model, others
        self.session = open_model(first, plugins=plugins, device=device)
        if kept is not None and known is not None:
            known.check(self.session.run.outputs, {})
        mirror(self.session, tta)
        stages = [[self.session, *open_members(self.session, others)]]
        self.second: LandmarkSession | None = None
        if self.session.loaded.refine is not None:
            self.second = open_model(second_model(first), {}, plugins=plugins, device=self.session.fabric)
            mirror(self.second, tta)
            stages.append([self.second, *open_members(self.second, list(map(second_model, others)))])
        for member in (session for stage in stages for session in stage):
            recalibrate(member, known)
        self.looks = [together(stage) for stage in stages]  # raises now if it is impossible
        self._turn = threading.Lock()  # plugins, and dropout, may have a state

    @property
    def last(self) -> LandmarkSession:
        """The session of the last stage, whose predictions are returned."""
        return self.second or self.session

    def prepare(self, session: LandmarkSession, samples: Sequence[Sample]) -> PreparedImages:
        return prepare_images(session, samples, "given", reference=self.model)

    def locate(
        self,
        samples: Sequence[Sample],
        prepared: PreparedImages,
        session: LandmarkSession | None = None,
        debug: Path | None = None,
    ) -> dict[str, list[Prediction]]:
        """The predictions of each method, the main one first.

        Args:
            samples: The images.
            prepared: The images, prepared by `prepare`.
            session: Session that they were prepared with; None: this model's own.
            debug: Folder for pictures of maps; None: no pictures.
        """
        session = session or self.session
        with self._turn:
            methods = Evaluator(session, prepared, samples, "given").predict(self.looks[0], debug)
            if self.second is not None:
                centres = {one.id: one.coordinates for one in next(iter(methods.values()))}
                second = replace(self.second, centres=centres, given=session.given)
                prepared = self.prepare(second, samples)
                methods = Evaluator(second, prepared, samples, "given").predict(self.looks[1])
        return methods

    def predict(
        self, images: Sequence[Any], spacing: float | Sequence[float] | None = None
    ) -> list[Landmarks]:
        """See `lannunet_core.Predictor`."""
        run = self.session.run
        paths, files = given_images(images, self.session.files, run.dimensions, spacing)
        session = replace(self.session, given=files)
        ids = [str(number) for number in range(len(paths))]
        samples = [unannotated(name, path, run, session.pixel) for name, path in zip(ids, paths, strict=True)]
        if not samples:
            return []
        methods = self.locate(samples, self.prepare(session, samples), session)
        return [Landmarks.of(one, run.outputs) for one in next(iter(methods.values()))]

    def graph(self, size: Sequence[int] | None = None) -> Graph:
        """The model as one graph of tensors, for export, with one pass per image; see `graph.graph_of`.

        Raises:
            UserError: The model cannot be exported.
        """
        from lannunet_landmarks.predict.graph import graph_of

        if self.others or self.second:
            what = "predicts in two stages"
            if self.others:
                what = f"holds {1 + len(self.others)} models of an ensemble (name one, such as its fold0)"
            raise UserError(f"{self.model}: {what}, so it cannot be exported as a graph.")
        single = copy(self)
        single.looks = [locate_with(self.session)]
        return graph_of(self.session, self.model, single.predict, size)


def kept_calibration(model: Path) -> Path | None:
    """The calibration in a model's folder, as in a bundle; None: there is none."""
    kept = located(model) / "calibration.json"
    return kept if kept.is_file() else None


def mirror(session: LandmarkSession, tta: bool | None) -> None:
    """Switch test-time augmentation of a session on or off; None: as configured."""
    if tta is not None:
        run = session.config
        inference = run.inference.model_copy(update={"tta": tta})
        session.loaded = replace(session.loaded, run=run.model_copy(update={"inference": inference}))


def recalibrate(session: LandmarkSession, known: Calibration | None) -> None:
    """Apply a calibration to a session's confidences, member by member.

    It is applied before members are combined, so that a disagreement of members lowers the calibrated
    confidence.
    """
    if known is not None and known.confidence is not None:
        session.calibrations = (*session.calibrations, known.confidence)
