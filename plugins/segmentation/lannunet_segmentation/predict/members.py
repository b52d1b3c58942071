"""Open trained models for inference: one, or the members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lannunet_images import members_of, second_model
from lightning_fabric import Fabric
from numpy.typing import NDArray

from lannunet_core import BEST_MODEL, LoadedConfig, UserError, open_model
from lannunet_segmentation.data.regrid import resample_nearest
from lannunet_segmentation.data.settings import as_prepared, as_trained, settings_of, with_plugins
from lannunet_segmentation.predict.predictor import Member, segment_case
from lannunet_segmentation.regions import label_names, regions_of
from lannunet_segmentation.session import SegmentationSession, start_session
from lannunet_segmentation.types import Case, CaseImage, Labels, SegmentationDataset, Settings


def open_members(
    model: Path,
    also: Sequence[Path] = (),
    tta: bool | None = None,
    plugins: Sequence[Path] = (),
    device: str = "auto",
) -> tuple[list[Member], list[Path], SegmentationSession]:
    """The models at these paths; a cross-validated run stands for those of all its folds.

    Each gets images as in its training: members may differ in spacing, normalisation, patch size and
    architecture. For runs in two stages the members are the second stages, which see the common segmentation
    of all first stages.

    Args:
        model: A model file, a run's folder, or that of a cross-validated run.
        also: Additional ones.
        tta: Whether to predict mirrored images too; None: as configured in each model.
        plugins: Trusted plugin files.
        device: As `trainer.device`.

    Returns:
        The members, their paths, and the session of the first model; in two stages, that of the first stage.

    Raises:
        UserError: A path is not a model, or a model does not state its preparation, or has other classes.
    """
    paths = members_of((model, *also))
    found: list[Member] = []
    place: str | Fabric = device
    for path in paths:
        found.append(open_member(path, tta, plugins, place))
        session, place = found[-1].session, found[0].session.fabric  # one device for all
        refuse_different(path, session, found[0].session)
    earlier = FirstStage([one for one in found if one.session.loaded.refine is not None])
    members = []
    for path, one in zip(paths, found, strict=True):
        if one.session.loaded.refine is not None:
            second = open_member(second_model(path), tta, plugins, place, alone=False)
            one = replace(second, previous=earlier)
        members.append(one)
    return members, paths, found[0].session


def open_member(
    path: Path,
    tta: bool | None = None,
    plugins: Sequence[Path] = (),
    device: str | Fabric = "auto",
    alone: bool = True,
) -> Member:
    """Open a model, or one stage of two; see `open_members`.

    Raises:
        UserError: It cannot predict `alone`, as it is a second stage.
    """
    session = open_session(path, tta, plugins, device)
    if alone and session.seen_classes:
        raise UserError(
            f"{path}: is a second stage, which sees the segmentation of a first one, so it cannot predict "
            "alone; give the folder of the run in two stages that it belongs to."
        )
    return Member(session, settings_for(path, session, given_dataset(path, session)))


@dataclass(eq=False)
class FirstStage:
    """The common segmentation of first stages, on the grid of a second stage: a `Previous`.

    Attributes:
        members: The first stages.
    """

    members: Sequence[Member]
    _last: tuple[Case, Labels] | None = None

    def __call__(
        self,
        case: Case,
        stored: CaseImage,
        dataset: SegmentationDataset,
        size: Sequence[int],
        scratch: Path,
    ) -> NDArray[Any]:
        if self._last is None or self._last[0] is not case:  # second stages may have several grids
            self._last = (case, segment_case(self.members, case, stored, dataset, scratch=scratch))
        return resample_nearest(self._last[1], size)


def further_members(
    first: SegmentationSession,
    paths: Sequence[Path],
    tta: bool | None,
    plugins: Sequence[Path],
    dataset: SegmentationDataset | None = None,
) -> list[Member]:
    """Open the further models of an ensemble with `first`, on its device.

    Args:
        first: The session of the first model.
        paths: Model files, or runs' folders.
        tta: Whether to predict mirrored images too; None: as in each model's configuration.
        plugins: Trusted plugin files.
        dataset: The predicted data set; None: loose cases.

    Raises:
        UserError: See `open_members`.
    """
    members = []
    for path in paths:
        session = open_session(path, tta, plugins, first.fabric)
        if session.loaded.refine is not None or session.seen_classes:
            raise UserError(
                f"inference.ensemble_checkpoints: {path} is a model in two stages. Predict with it: lannunet "
                "predict RUN IMAGES --also RUN."
            )
        refuse_different(path, session, first)
        settings = settings_for(path, session, dataset or given_dataset(path, session))
        members.append(Member(session, settings))
    return members


def open_session(
    path: Path, tta: bool | None, plugins: Sequence[Path], device: str | Fabric
) -> SegmentationSession:
    """Open a trained model; see `open_members`."""

    def change(loaded: LoadedConfig) -> LoadedConfig:
        if tta is None:
            return loaded
        inference = loaded.run.inference.model_copy(update={"tta": tta})
        return replace(loaded, run=loaded.run.model_copy(update={"inference": inference}))

    return open_model(path, start_session, change, plugins, device, "segmentation")


def settings_for(path: Path, session: SegmentationSession, dataset: SegmentationDataset) -> Settings:
    """The preparation of a data set's images for a trained model."""
    prepared = dataset.layout == "preprocessed"
    own = as_prepared(dataset) if prepared else settings_of(session.config, dataset)
    own = with_plugins(own, dataset, session.hooks, session.loaded)
    return as_trained(own, session.trained, dataset, session.hooks, session.loaded, path)


def refuse_different(path: Path, session: SegmentationSession, first: SegmentationSession) -> None:
    for what, found, wanted in (
        ("classes are", list(session.run.outputs), list(first.run.outputs)),
        ("regions are", list(session.run.regions), list(first.run.regions)),
        ("number of channels is", session.run.in_channels, first.run.in_channels),
        ("number of dimensions is", session.run.dimensions, first.run.dimensions),
    ):
        if found != wanted:
            raise UserError(
                f"{path}: its {what} {found}, the others' {wanted}. The models of an ensemble need the same "
                "classes in images of the same kind."
            )


def given_dataset(
    model: Path, session: SegmentationSession, cases: Sequence[Case] = (), ending: str = ""
) -> SegmentationDataset:
    """Standalone cases as a data set for a model.

    Args:
        model: Path of the model, which names the data set.
        session: Session of the model.
        cases: Cases with the model's dimensions and channels.
        ending: Suffix of their files.
    """
    run = session.run
    return SegmentationDataset(
        path=model,
        name=model.name,
        layout="raw2",
        dimensions=run.dimensions,
        channel_names=tuple(f"channel {index}" for index in range(session.image_channels)),
        class_names=label_names(run),
        ignore=None,
        file_ending=ending,
        training=(),
        testing=tuple(cases),
        files=session.files,
        regions=regions_of(run),
    )


def run_of(model: Path) -> Path:
    """The folder of the run whose best model this is; for other model files, the file itself."""
    return model.parents[1] if model.parts[-2:] == BEST_MODEL.parts else model
