"""The task's part of a run: its data set, prepared cases and predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from lannunet_images import ExtraFields, prepare_to_train, settle_ensemble
from numpy.typing import NDArray
from pydantic import ValidationError

from lannunet_core import (
    NEXT_STAGE_FOLDER,
    SECOND_STAGE_FOLDER,
    BalancedLoss,
    ExtraMap,
    LoadedConfig,
    RunInfo,
    UserError,
    carry_out,
    echo,
    from_first,
    inside,
    is_first,
    load_checkpoint,
    make_scheme,
    refuse_to_empty,
)
from lannunet_segmentation.data.cascade import PREVIOUS, CascadePatches
from lannunet_segmentation.data.headers import case_geometry, check_cases
from lannunet_segmentation.data.prepared import PreparedCase
from lannunet_segmentation.data.preprocess import cache_folder, prepare_cases, read_map
from lannunet_segmentation.data.samples import TrainingPatches
from lannunet_segmentation.data.settings import as_trained, say_prepared, with_plugins
from lannunet_segmentation.data.twins import say_twins, seen_in_training
from lannunet_segmentation.evaluation.validation import validation_error
from lannunet_segmentation.opened import open_run, read_summary, split_seed
from lannunet_segmentation.predict.members import FirstStage, further_members, open_member
from lannunet_segmentation.predict.predictor import Member, segment
from lannunet_segmentation.predict.targets import PREDICTIONS, check_targets
from lannunet_segmentation.schema import DatasetConfig, RunConfig
from lannunet_segmentation.session import SegmentationSession
from lannunet_segmentation.types import Case, SegmentationDataset, SegmentedCase


def train(
    loaded: LoadedConfig, *, resume: bool = False, overwrite: bool = False, beside: Path | None = None
) -> list[SegmentedCase]:
    """Train as configured, then segment and evaluate the chosen split with the best model.

    Args:
        loaded: The run's configuration, of `task: segmentation`.
        resume: Continue the run in the output folder.
        overwrite: Replace the run in the output folder.
        beside: The folder of the first stage, whose metrics the report compares with; None: no first stage.
    """
    loaded = settle_ensemble(loaded)
    if overwrite:
        members = cast(RunConfig, loaded.run).inference.ensemble_checkpoints
        refuse_to_empty(loaded.run.output.output_dir, "inference.ensemble_checkpoints", members)
        if previous := cast(RunConfig, loaded.run).preprocess.previous_stage:
            refuse_to_empty(loaded.run.output.output_dir, "preprocess.previous_stage", [previous])
    work = carry_out(loaded, lambda: SegmentationWork(loaded, beside), resume=resume, overwrite=overwrite)
    return work.segmented


class SegmentationWork:
    """See `lannunet_core.Work`.

    Args:
        loaded: The run's configuration, with the models of an ensemble named.
        beside: See `train`.

    Attributes:
        segmented: The cases of the evaluated split, once it is evaluated.
        members: The other models of an ensemble.
    """

    segmented: list[SegmentedCase]
    members: list[Member]

    def __init__(self, loaded: LoadedConfig, beside: Path | None = None) -> None:
        self.opened = open_run(loaded)
        self.config, self.dataset, self.settings, self.cases, self.others = (
            self.opened.config, self.opened.dataset, self.opened.settings,
            self.opened.cases, self.opened.others,
        )  # fmt: skip
        used = self.config.model.checkpoint if self.config.trainer.inference_only else None
        self.used = None if used is None else load_checkpoint(used)  # instead of training one
        if beside is not None:
            self.others = {**self.others, "first stage": read_summary(beside / "summary.json")}

    def describe(self, device: str) -> RunInfo:
        run = self.opened.describe(device)
        if self.used is not None:
            run = replace(run, spacing=self.used.run_info().spacing)  # as for its network
        return run

    def read(self, session: SegmentationSession) -> None:
        config, dataset = self.config, self.dataset
        make_scheme(config.sampler.data_aug, session.hooks.augmentations())  # raises now if unknown
        self.settings = with_plugins(self.settings, dataset, session.hooks, session.loaded)
        session.extra = ExtraFields.of(case.extra for case in (*dataset.training, *dataset.testing))
        paths, files = config.inference.ensemble_checkpoints, session.loaded.files
        self.members = further_members(session, paths, config.inference.tta, files, dataset)
        for member in self.members:
            member.session.extra = session.extra
        used = [self.cases[config.inference.split]]
        if not config.trainer.inference_only:
            used += [self.cases["training"], self.cases["validation"]]
        every, folder = unique(used), config.output.output_dir
        check_cases(every, dataset)
        check_targets(used[0], dataset, folder / PREDICTIONS, folder, "output.output_dir", every)
        self.warn_of_leaks()
        if config.trainer.inference_only:
            if (model := config.model.checkpoint) is not None and self.used is not None:
                session.recall(self.used.learned)
                self.settings = as_trained(
                    self.settings, session.trained, dataset, session.hooks, session.loaded, model
                )
            return
        session.prepared = self.settings
        say_prepared(self.settings)
        for split in dict.fromkeys(("validation", config.inference.split)):
            if split != "training":
                say_twins(self.cases["training"], self.cases[split], split)
        folder = self.beside / "preprocessed"
        for turn in (True, False):  # the first process makes a plugin's maps, the others find them
            if is_first() is turn:
                maps = session.hooks.extra_maps(dataset=dataset, folder=folder)
            from_first(None)
        session.learner.extra_maps = maps
        self.training = annotated(self._prepared(self.cases["training"], maps), dataset)
        check_partly_annotated(self.training, dataset, session)
        held_out = self.cases["validation"]
        self.held_out = self._prepared(held_out, [one for one in weights(maps) if covers(one, held_out)])
        if self.config.preprocess.previous_stage is not None:
            self.training, self.held_out = (
                seeing_previous(cases, self.config.preprocess.previous_stage)
                for cases in (self.training, self.held_out)
            )
        for case in self.cases[config.inference.split]:
            original_weight(case, dataset, maps)  # damaged maps are found now
        if isinstance(session.learner.loss, BalancedLoss):
            session.learner.loss.balance(class_voxels(self.training, dataset))

    @property
    def beside(self) -> Path:
        """The folder that holds the folders of runs; a second stage lies in that of the first."""
        run = self.config.output.output_dir
        return (run.parent if run.parent == self.config.preprocess.previous_stage else run).parent

    def warn_of_leaks(self) -> None:
        """Report earlier models that were trained on evaluated images."""
        chosen = self.config.inference.split
        if chosen == "training":
            return
        cases = self.cases[chosen]
        configs = [member.session.config for member in self.members]
        models = [
            (path, of.dataset, of.trainer.fold, of.solver.seed)
            for path, of in zip(self.config.inference.ensemble_checkpoints, configs, strict=True)
        ]
        if self.config.model.checkpoint is not None and self.used is not None:
            of_used = self.used.config
            with suppress(
                KeyError, ValidationError
            ):  # a model of another task, which loading its weights refuses
                data, seed = DatasetConfig.model_validate(of_used["dataset"]), of_used["solver"]["seed"]
                models.append((self.config.model.checkpoint, data, of_used["trainer"]["fold"], seed))
        for path, data, fold, seed in models:
            seen = seen_in_training(data.root, fold, split_seed(data, seed), cases, self.dataset)
            if seen:
                echo(
                    f"warning: {path}: was trained on {seen} of the {len(cases)} {chosen} images, so the "
                    "figures are better than those on new images.",
                    err=True,
                )

    def _prepared(self, cases: Sequence[Case], extra_maps: Sequence[ExtraMap]) -> list[PreparedCase]:
        folder = cache_folder(self.dataset, self.settings, extra_maps, self.beside)
        return prepare_cases(cases, self.dataset, self.settings, folder, extra_maps)

    def training_samples(self, session: SegmentationSession) -> TrainingPatches:
        scheme = make_scheme(self.config.sampler.data_aug, session.hooks.augmentations())
        sampler, trainer, hooks = self.config.sampler, self.config.trainer, session.hooks
        prepare_to_train(
            session.learner.network,
            session.run.dimensions,
            compile=trainer.compile,
            channels_last=trainer.channels_last,
        )
        maps: Sequence[ExtraMap] = session.learner.extra_maps
        patches: Callable[..., TrainingPatches] = TrainingPatches
        if session.seen_classes:
            maps, patches = (*maps, PREVIOUS), partial(CascadePatches, session.seen_classes)
        return patches(
            self.training,
            hooks.sampling(),
            scheme,
            session.run.seed,
            maps,
            augmenter=None if sampler.data_aug_package == "torch" else hooks.augmenter(),
            extra=session.extra,
            debug=sampler.debug,
            outputs=session.run.outputs,
        )

    def validation(self, session: SegmentationSession) -> Callable[[], Mapping[str, float] | None] | None:
        held_out = [case for case in self.held_out if case.annotated_count]
        if not held_out:
            return None
        return partial(validation_error, session, held_out)

    def evaluate(
        self,
        session: SegmentationSession,
        history: list[dict[str, Any]],
        resolved: dict[str, Any],
        description: dict[str, Any],
    ) -> dict[str, Any]:
        from lannunet_segmentation.evaluation.report import write_segmentation_results

        folder, chosen = self.config.output.output_dir, self.config.inference.split
        first, previous = self.config.preprocess.previous_stage, None
        if first is not None:
            previous = FirstStage([open_member(first, plugins=session.loaded.files, device=session.fabric)])
        members = [Member(session, self.settings, previous), *self.members]
        self.segmented = segment(members, self.cases[chosen], self.dataset, folder / PREDICTIONS, chosen)
        if not is_first():
            return {}
        title = f"{self.dataset.name}: {chosen}"
        final = None
        if session.loaded.refine is not None:
            title, final = f"{title}, the first of two stages", SECOND_STAGE_FOLDER
        figures = session.hooks.metrics(predictions=self.segmented)
        return write_segmentation_results(
            self.segmented,
            self.dataset,
            folder,
            title,
            history,
            resolved,
            description,
            self.others,
            figures=figures,
            weight=lambda case: original_weight(
                Case(case.id, case.images, case.target), self.dataset, session.learner.extra_maps
            ),
            parts=session.hooks.report(predictions=self.segmented),
            seed=self.config.solver.seed,
            full=self.config.output.full_report,
            final=final,
        )


def seeing_previous(cases: Sequence[PreparedCase], first: Path) -> list[PreparedCase]:
    """Cases with the segmentation of the first stage in a folder.

    Raises:
        UserError: A segmentation is missing, or has another grid.
    """
    folder = first / NEXT_STAGE_FOLDER
    found = [
        replace(case, elsewhere={PREVIOUS.name: inside(folder, f"{case.id}.npy", case.id)}) for case in cases
    ]
    for case in found:
        case.extra(PREVIOUS.name)  # damaged ones are found now
    return found


def weights(maps: Sequence[ExtraMap]) -> list[ExtraMap]:
    """The maps that weight the loss."""
    return [extra for extra in maps if extra.role != "label"]


def covers(extra: ExtraMap, cases: Sequence[Case]) -> bool:
    return all(case.id in extra.paths for case in cases)


def original_weight(
    case: Case, dataset: SegmentationDataset, maps: Sequence[ExtraMap]
) -> NDArray[np.float32] | None:
    """The loss weights of the voxels (*S) of a case's image; None: there is no weight map."""
    weighing = weights(maps)
    if not weighing or not all(covers(extra, [case]) for extra in weighing):
        return None
    size = case_geometry(case, dataset).size
    known = [read_map(extra, case.id, size, dataset.files) for extra in weighing]
    return math.prod(known[1:], start=known[0])


def class_voxels(cases: Sequence[PreparedCase], dataset: SegmentationDataset) -> list[int]:
    """The number of annotated voxels of each class, or region."""
    labels = [region.labels for region in dataset.regions] or [(n,) for n in range(len(dataset.class_names))]
    return [sum(len(case.voxels(value)) for case in cases for value in values) for values in labels]


def unique(groups: Iterable[Iterable[Case]]) -> list[Case]:
    return list({case.id: case for group in groups for case in group}.values())


def annotated(cases: Sequence[PreparedCase], dataset: SegmentationDataset) -> list[PreparedCase]:
    """The cases with any annotation; the others are named in a warning.

    Raises:
        UserError: There are none.
    """
    without = [case.id for case in cases if not case.annotated_count]
    if len(without) == len(cases):
        raise UserError(
            f"{dataset.path}: no voxel of any training case is annotated. Annotate some voxels of at least "
            "one case (all others may stay -1)."
        )
    if without:
        echo(f"warning: not trained on, as nothing in them is annotated: {', '.join(without)}", err=True)
    return [case for case in cases if case.annotated_count]


def check_partly_annotated(
    cases: Sequence[PreparedCase], dataset: SegmentationDataset, session: SegmentationSession
) -> None:
    """Report the classes that some cases lack, and refuse labels that contradict it.

    Raises:
        UserError: A case has voxels of a class that it lacks the annotation of, or all cases lack one.
    """
    partly = [case for case in cases if case.annotated_classes is not None]
    if not partly:
        return
    for case in partly if not dataset.regions else ():
        for value in case.classes_present:
            name = dataset.class_names[value]
            if value and name not in (case.annotated_classes or ()):
                raise UserError(
                    f'{dataset.path}: "annotated" of dataset.json does not list {name} for the case '
                    f"{case.id}, but its label has voxels of it. List it, or remove them."
                )
    shares = []
    for region in dataset.compared:
        count = sum(case.annotated_classes is None or region.name in case.annotated_classes for case in cases)
        if not count:
            raise UserError(
                f"{dataset.path}: {region.name} is not annotated in any training case, by dataset.json, "
                "so it cannot be learned. Annotate it in some, or remove it from the labels."
            )
        shares.append(f"{region.name} in {count}")
    echo(f"annotated, of {len(cases)} training cases: {', '.join(shares)}")
    from lannunet_segmentation.maps.loss import CrossEntropyDice

    if not isinstance(session.learner.loss, CrossEntropyDice):
        echo(
            f"warning: the loss {type(session.learner.loss).__name__} is a plugin's; unless it reads "
            "labels['annotated'], classes without annotation in a case are background to it",
            err=True,
        )
