"""A run before its first image is read; `lannunet config check` uses this too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lannunet_core import SECOND_STAGE_FOLDER, LoadedConfig, RunInfo, UserError, read_yaml
from lannunet_segmentation.data.folders import open_dataset
from lannunet_segmentation.data.settings import settings_of
from lannunet_segmentation.data.splits import split
from lannunet_segmentation.predict.slabs import in_slabs
from lannunet_segmentation.schema import DatasetConfig, RunConfig
from lannunet_segmentation.types import Case, SegmentationDataset, Settings


@dataclass(frozen=True)
class OpenedRun:
    """A run with its opened data set.

    Attributes:
        config: Configuration of the run.
        dataset: Its cases and their files.
        settings: Preparation of cases.
        cases: Cases of each split.
        others: Summaries of the runs to compare with, by the name of their folder.
    """

    config: RunConfig
    dataset: SegmentationDataset
    settings: Settings
    cases: Mapping[str, Sequence[Case]]
    others: Mapping[str, Mapping[str, Any]]

    @property
    def seen_classes(self) -> int:
        """Number of classes of an earlier stage that the network sees, each in an additional channel."""
        return len(self.dataset.class_names) - 1 if self.config.preprocess.previous_stage else 0

    def describe(self, device: str) -> RunInfo:
        """The description of the run for plugins."""
        config, dimensions = self.config, self.dataset.dimensions
        patch = config.sampler.patch.sample_patch_size
        if len(patch) != dimensions:
            raise UserError(
                f"sampler.patch.sample_patch_size: {list(patch)} has {len(patch)} numbers, but the images in "
                f"{self.dataset.path} have {dimensions} dimensions; give one per dimension."
            )
        supervised = config.solver.num_res_supervisions if config.solver.deep_supervision else 1
        return RunInfo(
            task="segmentation",
            dimensions=dimensions,
            in_channels=len(self.dataset.channel_names) + self.seen_classes,
            outputs=self.dataset.outputs,
            input_size=patch,
            spacing=self.settings.spacing,
            supervised_resolutions=supervised,
            device=device,
            seed=config.solver.seed,
            regions=tuple(region.labels for region in self.dataset.regions),
        )


def open_run(loaded: LoadedConfig) -> OpenedRun:
    """Open the data set and everything else that the configuration names, except images.

    Raises:
        UserError: Something does not exist, or is inconsistent.
    """
    config = cast(RunConfig, loaded.run)
    in_slabs()  # raises now for a wrong value, not after training
    dataset = open_dataset(loaded)
    if config.preprocess.previous_stage is not None and dataset.layout == "preprocessed":
        raise UserError(
            f"the images in {dataset.path} are prepared already, so there is no other spacing for a "
            "second stage. Give the raw folder, or leave preprocess.previous_stage and refine out."
        )
    training, validation = split(dataset, config.trainer.fold, split_seed(config.dataset, config.solver.seed))
    cases = {"training": training, "validation": validation, "testing": dataset.testing}
    if not cases[config.inference.split]:
        raise UserError(
            f"{dataset.path}: there are no {config.inference.split} cases, so nothing can be "
            "evaluated; set inference.split (validation needs trainer.fold: 0 … 4)."
        )
    others = {path.name: summary_of(path) for path in config.output.compare_with}
    return OpenedRun(config, dataset, settings_of(config, dataset), cases, others)


def split_seed(dataset: DatasetConfig, seed: int) -> int:
    """The seed of the split into folds, in a run with a seed."""
    return seed if dataset.split_seed is None else dataset.split_seed


def summary_of(run: Path) -> dict[str, Any]:
    """The summary of an earlier run's evaluation; in two stages, that of the second.

    Raises:
        UserError: The folder holds no finished segmentation run.
    """
    return read_summary(last_stage(run) / "summary.json")


def read_summary(path: Path) -> dict[str, Any]:
    """The summary of an evaluation.

    Raises:
        UserError: The file is not that of a finished segmentation run.
    """
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"output.compare_with: {path} cannot be read ({error}). Name the folder of a finished run."
        ) from error
    if not _holds_dice(found):
        raise UserError(f"output.compare_with: {path} is not of a segmentation run. Name another folder.")
    return dict(found)


def last_stage(run: Path) -> Path:
    """The folder of a run's results; in two stages, that of the second.

    The configuration decides: a run that was resumed without `refine` keeps the folder of its second stage.
    """
    second, config = run / SECOND_STAGE_FOLDER, run / "config.yaml"
    refines = config.is_file() and any(entry.path[0] == "refine" for entry in read_yaml(config))
    return second if refines and (second / "run.json").is_file() else run


def _holds_dice(found: Any) -> bool:
    """Whether it has a number, or none, for each class of each case."""
    cases = found.get("dice") if isinstance(found, dict) else None
    return isinstance(cases, dict) and all(
        isinstance(case, dict)
        and all(value is None or isinstance(value, (int, float)) for value in case.values())
        for case in cases.values()
    )
