"""Open trained models for inference: one, or the members of an ensemble."""

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
    """The models at these paths; a cross-validated run stands for those of all its folds.

    Each gets images as in its training: members may differ in spacing, normalisation, patch size and
    architecture.

    Args:
        model: A model file, a run's folder, or that of a cross-validated run.
        also: Additional ones.
        tta: Whether to predict mirrored images too; None: as configured in each model.
        plugins: Trusted plugin files.
        device: As `trainer.device`.

    Returns:
        The members, and their paths.

    Raises:
        UserError: A path is not a model, or a model does not state its preparation, or has other classes.
    """
    paths = [path for named in (model, *also) for path in models_of(named)]
    members: list[Member] = []
    for path in paths:
        place = members[0].session.fabric if members else device  # the same for all
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
    """The folder of the run whose best model this is; for other model files, the file itself."""
    return model.parents[1] if model.parts[-2:] == BEST_MODEL.parts else model
