"""The task `segmentation`: nnU-Net folders, also of partial and weighted annotations."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lannunet_images import settle_ensemble

import lannunet_core as core
from lannunet_core import (
    Entry,
    KeyPath,
    LoadedConfig,
    Plan,
    PlanRequest,
    PredictRequest,
    RunInfo,
    Stage,
    Task,
    Value,
)
from lannunet_segmentation.cascade import as_recorded, full_resolution
from lannunet_segmentation.defaults import SegmentationDefaults
from lannunet_segmentation.hooks import SegmentationHooks
from lannunet_segmentation.schema import LOSSES, NORMALISATIONS, SCHEMES, RunConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from lannunet_segmentation.conformance.bench import SegmentationBench
    from lannunet_segmentation.predict.model import SegmentationModel
    from lannunet_segmentation.session import SegmentationSession
    from lannunet_segmentation.types import SegmentationDataset, SegmentedCase

DROPPED = {
    "trainer.cache_data": "prepared cases are read from their files, piece by piece",
    "solver.regress_sigma": "it is for landmarks",
    "solver.regress_sigma_loss_weight": "it is for landmarks",
}
"""Keys that core 0.1.0 wrote into the files of a run, and why they have no meaning."""


class SegmentationTask(Task):
    """See `Task`."""

    config = RunConfig
    hooks = SegmentationHooks
    defaults = SegmentationDefaults
    error_unit = "(1 − Dice)"
    names = {  # noqa: RUF012
        "solver.loss_function": ("losses", LOSSES),
        "preprocess.normalisation": ("normalisations", NORMALISATIONS),
        "sampler.data_aug": ("augmentations", SCHEMES),
    }

    def why_dropped(self, key: str) -> str | None:
        return DROPPED.get(key)

    def stage(
        self, written: Sequence[Entry], values: Mapping[KeyPath, Value], first: core.RunConfig, path: Path
    ) -> Stage:
        return full_resolution(written, values, cast(RunConfig, first), path)

    def as_trained(self, loaded: LoadedConfig, recorded: Mapping[str, Any]) -> LoadedConfig:
        return as_recorded(settle_ensemble(loaded), recorded)

    def check(self, loaded: LoadedConfig) -> None:
        from lannunet_segmentation.check import check

        check(loaded)

    def start_session(self, loaded: LoadedConfig, run: RunInfo, fabric: Fabric) -> SegmentationSession:
        from lannunet_segmentation.session import start_session

        return start_session(loaded, run, fabric)

    def train(
        self, loaded: LoadedConfig, *, resume: bool = False, overwrite: bool = False
    ) -> list[SegmentedCase]:
        from lannunet_segmentation.predict.stages import train_stages

        return train_stages(loaded, resume=resume, overwrite=overwrite)

    def predict(self, request: PredictRequest) -> list[SegmentedCase]:
        from lannunet_segmentation.predict.loose import predict

        return predict(request)

    def load(
        self,
        model: Path,
        *,
        also: Sequence[Path] = (),
        tta: bool | None = None,
        plugins: Sequence[Path] = (),
        device: str = "auto",
    ) -> SegmentationModel:
        from lannunet_segmentation.predict.model import SegmentationModel

        return SegmentationModel(model, also, tta, plugins, device)

    def read_dataset(self, path: Path) -> SegmentationDataset:
        from lannunet_segmentation.data.folders import read_dataset

        return read_dataset(path)

    def evaluate(self, predictions: Any, truth: Any, **options: Any) -> dict[str, Any]:
        from lannunet_segmentation.evaluation.given import evaluate_given

        return evaluate_given(predictions, truth, **options)

    def after_folds(self, folders: Sequence[Path], base: Path) -> str | None:
        held_out = "--runs " + " ".join(shlex.quote(str(folder)) for folder in folders)
        return (
            f"all folds together: lannunet predict {shlex.quote(str(base))} IMAGES -o OUT; with "
            "inference.split: validation, all cases together: "
            f"lannunet evaluate {held_out} -o {shlex.quote(str(base / 'pooled'))}"
        )

    def recognises(self, dataset: Path) -> bool:
        from lannunet_segmentation.data.folders import is_dataset

        return is_dataset(dataset)

    def dataset_name(self, dataset: Path) -> str:
        from lannunet_segmentation.data.nnunet_v1 import is_stage
        from lannunet_segmentation.data.nnunet_v2 import configuration_cases
        from lannunet_segmentation.data.places import located

        dataset = located(dataset)
        below = is_stage(dataset) or bool(configuration_cases(dataset))
        return (dataset.parent if below else dataset).resolve().name

    def plan(self, request: PlanRequest) -> Plan:
        from lannunet_segmentation.data.fingerprint import fingerprint
        from lannunet_segmentation.data.folders import read_dataset
        from lannunet_segmentation.data.plan import make_plan

        return make_plan(fingerprint(read_dataset(request.dataset)), request)

    def bench(self) -> SegmentationBench:
        from lannunet_segmentation.conformance.bench import SegmentationBench

        return SegmentationBench()
