"""What a run of segmentation brings: its data set, prepared cases and predictions."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from lannunet_core import (
    BalancedLoss,
    ExtraMap,
    LoadedConfig,
    RunInfo,
    UserError,
    carry_out,
    make_scheme,
    progress_bar,
)
from lannunet_segmentation.data.folders import (
    case_geometry,
    check_case,
    read_case,
    read_dataset,
    split,
    write_label,
)
from lannunet_segmentation.data.preprocess import (
    PreparedCase,
    cache_folder,
    prepare_cases,
    prepare_image,
    read_map,
)
from lannunet_segmentation.data.samples import TrainingPatches
from lannunet_segmentation.predict.resample import in_slabs, label_map
from lannunet_segmentation.predict.sliding import predict_scores
from lannunet_segmentation.schema import RunConfig
from lannunet_segmentation.session import SegmentationSession
from lannunet_segmentation.types import IGNORE, Case, Labels, SegmentationDataset, SegmentedCase, Settings

SCORES_IN_MEMORY = 2 << 30  # bytes; larger ones go to a file

PREDICTIONS = "predictions"


def train(loaded: LoadedConfig, *, resume: bool = False, overwrite: bool = False) -> list[SegmentedCase]:
    """Train as configured, then segment and evaluate the chosen split with the best model.

    Args:
        loaded: The run's configuration, of `task: segmentation`.
        resume: Go on with the run in the output folder.
        overwrite: Replace the run in the output folder.
    """
    work = carry_out(loaded, lambda: SegmentationWork(loaded), resume=resume, overwrite=overwrite)
    return work.segmented


class SegmentationWork:
    """See `lannunet_core.Work`.

    Args:
        loaded: The run's configuration.

    Attributes:
        segmented: The cases of the evaluated split, once it is evaluated.
    """

    segmented: list[SegmentedCase]

    def __init__(self, loaded: LoadedConfig) -> None:
        config = cast(RunConfig, loaded.run)
        self.config = config
        in_slabs()  # what is wrong with its switch is said now, not after training
        self.dataset = read_dataset(config.dataset.root)
        self.settings = settings_of(config, self.dataset)
        training, validation = split(self.dataset, config.trainer.fold, config.solver.seed)
        self.others = {path.name: summary_of(path) for path in config.output.compare_with}
        self.cases = {"training": training, "validation": validation, "testing": self.dataset.testing}
        if not self.cases[config.inference.split]:
            raise UserError(
                f"{self.dataset.path}: there are no {config.inference.split} cases, so nothing can be "
                "evaluated; set inference.split (validation needs trainer.fold: 0 … 4)."
            )

    def describe(self, device: str) -> RunInfo:
        config, dimensions = self.config, self.dataset.dimensions
        patch = config.sampler.patch.sample_patch_size
        if len(patch) != dimensions:
            raise UserError(
                f"sampler.patch.sample_patch_size: {list(patch)} has {len(patch)} numbers, but the images in "
                f"{self.dataset.path} have {dimensions} dimensions; give one a dimension."
            )
        supervised = config.solver.num_res_supervisions if config.solver.deep_supervision else 1
        return RunInfo(
            task="segmentation",
            dimensions=dimensions,
            in_channels=len(self.dataset.channel_names),
            outputs=self.dataset.class_names,
            input_size=patch,
            spacing=self.settings.spacing,
            supervised_resolutions=supervised,
            device=device,
            seed=config.solver.seed,
        )

    def read(self, session: SegmentationSession) -> None:
        config, dataset = self.config, self.dataset
        make_scheme(config.sampler.data_aug, session.hooks.augmentations())  # refused now if unknown
        used = [self.cases[config.inference.split]]
        if not config.trainer.inference_only:
            used += [self.cases["training"], self.cases["validation"]]
        with progress_bar("checking cases", len(every := unique(used))) as bar:
            for case in every:
                check_case(case, dataset)
                bar.advance()
        if config.trainer.inference_only:
            return
        maps = session.hooks.extra_maps(
            dataset=dataset, folder=config.output.output_dir.parent / "preprocessed"
        )
        session.learner.extra_maps = maps
        self.training = annotated(self._prepared(self.cases["training"], maps), dataset)
        held_out = self.cases["validation"]
        self.held_out = self._prepared(held_out, [one for one in weights(maps) if covers(one, held_out)])
        for case in self.cases[config.inference.split]:
            original_weight(case, dataset, maps)  # damaged ones are found now
        if isinstance(session.learner.loss, BalancedLoss):
            session.learner.loss.balance(class_voxels(self.training, len(dataset.class_names)))

    def _prepared(self, cases: Sequence[Case], extra_maps: Sequence[ExtraMap]) -> list[PreparedCase]:
        folder = cache_folder(self.dataset, self.settings, extra_maps, self.config.output.output_dir.parent)
        return prepare_cases(cases, self.dataset, self.settings, folder, extra_maps)

    def training_samples(self, session: SegmentationSession) -> TrainingPatches:
        scheme = make_scheme(self.config.sampler.data_aug, session.hooks.augmentations())
        sampling, maps = session.hooks.sampling(), session.learner.extra_maps
        return TrainingPatches(self.training, sampling, scheme, session.run.seed, maps)

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
        self.segmented = segment(
            session, self.cases[chosen], self.dataset, self.settings, folder / PREDICTIONS, chosen
        )
        title = f"{self.dataset.name}: {chosen}"
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
        )


def weights(maps: Sequence[ExtraMap]) -> list[ExtraMap]:
    """Those that weigh the loss."""
    return [extra for extra in maps if extra.role != "label"]


def covers(extra: ExtraMap, cases: Sequence[Case]) -> bool:
    return all(case.id in extra.paths for case in cases)


def original_weight(
    case: Case, dataset: SegmentationDataset, maps: Sequence[ExtraMap]
) -> NDArray[np.float32] | None:
    """How much the loss would weigh each voxel (*S) of a case's image; None: no map says."""
    weighing = weights(maps)
    if not weighing or not all(covers(extra, [case]) for extra in weighing):
        return None
    size = case_geometry(case, dataset).size
    known = [read_map(extra, case.id, size) for extra in weighing]
    return math.prod(known[1:], start=known[0])


def class_voxels(cases: Sequence[PreparedCase], classes: int) -> list[int]:
    """How many voxels are annotated as each class."""
    return [sum(len(case.voxels(index)) for case in cases) for index in range(classes)]


def summary_of(run: Path) -> dict[str, Any]:
    """What an earlier run's evaluation found.

    Raises:
        UserError: The folder holds no finished segmentation run.
    """
    path = run / "summary.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"output.compare_with: {path} cannot be read ({error}). Name the folder of a finished run."
        ) from error
    if "dice" not in found:
        raise UserError(f"output.compare_with: {path} is not of a segmentation run. Name another folder.")
    return found


def settings_of(config: RunConfig, dataset: SegmentationDataset) -> Settings:
    """How images are prepared, with one entry a channel.

    Raises:
        UserError: The configuration says more or fewer than the data set has.
    """
    wanted, channels = config.preprocess, len(dataset.channel_names)
    if wanted.spacing is not None and len(wanted.spacing) != dataset.dimensions:
        raise UserError(
            f"preprocess.spacing: {wanted.spacing} has {len(wanted.spacing)} numbers, but the images in "
            f"{dataset.path} have {dataset.dimensions} dimensions; give one a dimension."
        )
    normalisation = wanted.normalisation * (channels if len(wanted.normalisation) == 1 else 1)
    clip = wanted.clip or [None] * channels
    for key, entries in (("normalisation", normalisation), ("clip", clip)):
        if len(entries) != channels:
            raise UserError(
                f"preprocess.{key}: has {len(entries)} entries, but the images in {dataset.path} have "
                f"{channels} channel(s); give one a channel."
            )
    if missing := [k for k, kind in enumerate(normalisation) if kind == "ct" and clip[k] is None]:
        raise UserError(
            f"preprocess.clip: channel {missing[0]} is normalised as ct, which needs its four numbers here; "
            "`lannunet plan` measures them."
        )
    spacing = None if wanted.spacing is None else tuple(wanted.spacing)
    return Settings(spacing, tuple(normalisation), tuple(clip))


def unique(groups: Iterable[Iterable[Case]]) -> list[Case]:
    return list({case.id: case for group in groups for case in group}.values())


def annotated(cases: Sequence[PreparedCase], dataset: SegmentationDataset) -> list[PreparedCase]:
    """The cases that have something to learn from; the others are named once.

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
        print(
            f"warning: not trained on, as nothing in them is annotated: {', '.join(without)}", file=sys.stderr
        )
    return [case for case in cases if case.annotated_count]


@torch.inference_mode()
def scores_of(
    session: SegmentationSession, image: np.ndarray[Any, np.dtype[np.float32]], mirror: bool
) -> torch.Tensor:
    """The activated maps (K, *S) of a prepared image (C, *S)."""
    run, learner = session.run, session.learner
    size = 2 * len(run.outputs) * int(np.prod(image.shape[1:]))
    folder = session.config.output.output_dir
    return predict_scores(
        learner.network.eval(),
        image,
        run.input_size,
        session.fabric.device,
        classes=len(run.outputs),
        batch_size=session.config.solver.data_loader_batch_size_eval,
        mirror=mirror,
        scratch=folder if size > SCORES_IN_MEMORY and folder.is_dir() else None,
        activation=learner.loss.activation,
    )


def segment(
    session: SegmentationSession,
    cases: Sequence[Case],
    dataset: SegmentationDataset,
    settings: Settings,
    folder: Path,
    title: str,
) -> list[SegmentedCase]:
    """Predict cases and write their label maps to `folder`, in the geometry of their images."""
    config = session.config
    folder.mkdir(exist_ok=True)
    done = []
    ending = dataset.file_ending if dataset.layout != "preprocessed" else ".nii.gz"
    with progress_bar(f"segmenting {title} cases", len(cases)) as bar:
        for case in cases:
            stored = read_case(case, dataset, with_label=False)
            image, affine = prepare_image(stored, settings, dataset)
            scores = scores_of(session, image, config.inference.tta)
            labels = label_map(
                scores,
                affine,
                stored.pixels.shape[:0:-1],
                lambda maps: session.hooks.get_segmentation(maps=maps),
            )
            path = folder / f"{case.id}{ending}"
            write_label(path, labels, stored.geometry)
            done.append(SegmentedCase(case.id, case.images, path, case.label))
            bar.advance()
    return done


def validation_error(session: SegmentationSession, cases: Sequence[PreparedCase]) -> dict[str, float] | None:
    """1 − the mean Dice of all classes and cases, on the prepared grid, of the annotated voxels.

    Where cases have weights, the same of the weighted Dice is added.
    """
    session.learner.eval()
    scores: list[float] = []
    weighted: list[float] = []
    with progress_bar("validating", len(cases)) as bar:
        for case in cases:
            label = case.label()
            assert label is not None
            maps = scores_of(session, case.image(), mirror=False)
            predicted = session.hooks.get_segmentation(maps=maps.float()).numpy()
            scores += dice_of_classes(predicted, label, len(session.run.outputs))
            found = [case.extra(extra.name) for extra in weights(session.learner.extra_maps)]
            known = [values.astype(np.float32) for values in found if values is not None]
            if known:
                weight = math.prod(known[1:], start=known[0])
                weighted += dice_of_classes(predicted, label, len(session.run.outputs), weight)
            bar.advance()
    if not scores:
        return None
    figures = {"validation_error": 1 - float(np.mean(scores))}
    return figures | ({"weighted_validation_error": 1 - float(np.mean(weighted))} if weighted else {})


def dice_of_classes(
    predicted: np.ndarray[Any, Any], label: Labels, classes: int, weight: NDArray[np.float32] | None = None
) -> list[float]:
    """Dice of each class but the background that is predicted or annotated, of the annotated voxels.

    With `weight` (*S), each voxel counts so often.
    """
    known = label != IGNORE
    counts = None if weight is None else weight[known]
    predicted, label = predicted[known], label[known]
    hit = predicted == label
    found = np.bincount(predicted, counts, minlength=classes)
    wanted = np.bincount(label, counts, minlength=classes)
    common = np.bincount(label[hit], None if counts is None else counts[hit], minlength=classes)
    total = (found + wanted)[1:]
    return [float(2 * both / all_) for both, all_ in zip(common[1:], total, strict=True) if all_]
