"""Trained models, opened for use: one, or several that predict together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lannunet_core import BEST_MODEL, UserError, models_of, open_model
from lannunet_segmentation.data.settings import as_trained, settings_of, with_plugins
from lannunet_segmentation.predict.predictor import Member
from lannunet_segmentation.regions import label_names, regions_of
from lannunet_segmentation.session import SegmentationSession, start_session
from lannunet_segmentation.types import Case, SegmentationDataset


def open_members(
    model: Path,
    also: Sequence[Path] = (),
    tta: bool | None = None,
    plugins: Sequence[Path] = (),
    device: str = "auto",
) -> tuple[list[Member], list[Path]]:
    """The models that are named, those of all folds where one is a cross-validated run.

    Each sees images as it was trained to: members may differ in spacing, normalisation, patch size and
    architecture.

    Args:
        model: A model file, a run's folder, or that of a cross-validated run.
        also: Further ones.
        tta: Whether to predict mirrored images too; None: as each model's configuration says.
        plugins: Files with plugins that the user trusts.
        device: As `trainer.device`.

    Returns:
        The members, and their paths.

    Raises:
        UserError: They are no models, do not say how images are prepared for them, or find other classes.
    """
    paths = [path for named in (model, *also) for path in models_of(named)]
    members: list[Member] = []
    for path in paths:
        place = members[0].session.fabric if members else device  # of all
        session = open_model(path, start_session, plugins=plugins, device=place, task="segmentation")
        if members:
            refuse_different(path, session, members[0].session)
        if tta is not None:
            inference = session.config.inference.model_copy(update={"tta": tta})
            config = session.config.model_copy(update={"inference": inference})
            session.loaded = replace(session.loaded, run=config)
        dataset = given_dataset(path, session)
        own = with_plugins(settings_of(session.config, dataset), dataset, session.hooks, session.loaded)
        settings = as_trained(own, session.trained, dataset, session.hooks, session.loaded, path)
        members.append(Member(session, settings))
    return members, paths


def refuse_different(path: Path, session: SegmentationSession, first: SegmentationSession) -> None:
    for what, found, wanted in (
        ("classes are", list(session.run.outputs), list(first.run.outputs)),
        ("regions are", list(session.run.regions), list(first.run.regions)),
        ("number of channels is", session.run.in_channels, first.run.in_channels),
        ("number of dimensions is", session.run.dimensions, first.run.dimensions),
    ):
        if found != wanted:
            raise UserError(
                f"{path}: its {what} {found}, the others' {wanted}. The models of an ensemble find the same "
                "classes in images of the same kind."
            )


def given_dataset(
    model: Path, session: SegmentationSession, cases: Sequence[Case] = (), ending: str = ""
) -> SegmentationDataset:
    """Loose cases as a data set that a model takes.

    Args:
        model: Names the data set.
        session: The model's.
        cases: Of the model's dimensions and channels.
        ending: Of their files.
    """
    run = session.run
    return SegmentationDataset(
        path=model,
        name=model.name,
        layout="raw2",
        dimensions=run.dimensions,
        channel_names=tuple(f"channel {index}" for index in range(run.in_channels)),
        class_names=label_names(run),
        ignore=None,
        file_ending=ending,
        training=(),
        testing=tuple(cases),
        files=session.files,
        regions=regions_of(run),
    )


def run_of(model: Path) -> Path:
    """The folder of the run whose best model this is; another model file itself."""
    return model.parents[1] if model.parts[-2:] == BEST_MODEL.parts else model
