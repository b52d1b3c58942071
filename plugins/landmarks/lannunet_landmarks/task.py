"""The task `landmarks`: points in images, found through heatmaps."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lannunet_images import settle_ensemble

import lannunet_core as core
from lannunet_core import (
    AUTO,
    SCHEME_NAMES,
    Entry,
    KeyPath,
    LoadedConfig,
    Plan,
    PlanRequest,
    PredictRequest,
    RunInfo,
    Stage,
    Task,
    UserError,
    Value,
    is_among,
)
from lannunet_landmarks import lannunet_yaml
from lannunet_landmarks.defaults import LandmarkDefaults
from lannunet_landmarks.hooks import LandmarkHooks
from lannunet_landmarks.schema import DECODERS, LOSSES, NORMALISATIONS, RunConfig
from lannunet_landmarks.second_stage import around_first

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from lannunet_landmarks.conformance.bench import LandmarkBench
    from lannunet_landmarks.data.annotations import LandmarkDataset
    from lannunet_landmarks.predict.model import LandmarkModel
    from lannunet_landmarks.session import LandmarkSession
    from lannunet_landmarks.types import Prediction


class LandmarkTask(Task):
    """See `Task`."""

    config = RunConfig
    hooks = LandmarkHooks
    defaults = LandmarkDefaults
    error_unit = "px"
    names = {  # noqa: RUF012
        "solver.loss_function": ("losses", LOSSES),
        "inference.decoder": ("decoders", DECODERS),
        "sampler.normalisation": ("normalisations", NORMALISATIONS),
        "sampler.data_aug": ("augmentations", SCHEME_NAMES),
    }

    def translate(self, key: str, value: Any, foreign: bool) -> tuple[str, Any, str | None]:
        return lannunet_yaml.translate(key, value, foreign)

    def convert(self, values: Mapping[str, Any], foreign: Collection[str]) -> Mapping[str, tuple[Any, str]]:
        return lannunet_yaml.convert(values, foreign)

    def why_dropped(self, key: str) -> str | None:
        return lannunet_yaml.why_dropped(key)

    def import_config(self, path: Path) -> tuple[str, list[tuple[str, str]]]:
        return lannunet_yaml.import_config(path)

    def stage(
        self, written: Sequence[Entry], values: Mapping[KeyPath, Value], first: core.RunConfig, path: Path
    ) -> Stage:
        return around_first(written, values, cast(RunConfig, first), path)

    def check(self, loaded: LoadedConfig) -> None:
        from lannunet_landmarks.check import check

        check(loaded)

    def start_session(self, loaded: LoadedConfig, run: RunInfo, fabric: Fabric) -> LandmarkSession:
        from lannunet_landmarks.session import start_session

        return start_session(loaded, run, fabric)

    def train(
        self, loaded: LoadedConfig, *, resume: bool = False, overwrite: bool = False
    ) -> list[Prediction]:
        from lannunet_landmarks.predict.stages import train_stages

        return train_stages(loaded, resume=resume, overwrite=overwrite)

    def as_trained(self, loaded: LoadedConfig, recorded: Mapping[str, Any]) -> LoadedConfig:
        from lannunet_landmarks.predict.stages import around

        loaded = with_recorded_patch_size(loaded, recorded["sampler"])
        if not loaded.fixed:
            return settle_ensemble(loaded)
        config = cast(RunConfig, loaded.run)
        # The second stages of the compared models belong to the first stages, which are compared as well.
        members = [Path(path) for path in recorded["inference"].get("ensemble_checkpoints", [])]
        inference = config.inference.model_copy(update={"ensemble_checkpoints": members})
        loaded = replace(loaded, run=config.model_copy(update={"inference": inference}))
        if config.sampler.patch.jitter == "auto":
            loaded = around(loaded, config.output.output_dir, recorded["sampler"]["patch"]["jitter"])
        return loaded

    def check_fold(self, loaded: LoadedConfig) -> None:
        from lannunet_landmarks.data.annotations import open_dataset
        from lannunet_landmarks.data.exchange import format_names, format_of

        config = cast(RunConfig, loaded.run)
        dataset = config.dataset
        named = dataset.format == AUTO or is_among(dataset.format, format_names())
        if named and (not dataset.src_targets.is_dir() or format_of(dataset.src_targets, -1, dataset.format)):
            raise UserError(
                f"--folds: dataset.src_targets ({config.dataset.src_targets}) is not a folder of "
                "foldK.json. Make one with `lannunet folds`, and name it there."
            )
        open_dataset(loaded)

    def after_folds(self, folders: Sequence[Path], base: Path) -> str | None:
        pooled = " ".join(shlex.quote(str(folder)) for folder in folders)
        return (
            f"all images together: lannunet evaluate --runs {pooled} -o {shlex.quote(str(base / 'pooled'))}"
        )

    def predict(self, request: PredictRequest) -> list[Prediction]:
        from lannunet_landmarks.predict.loose import predict

        return predict(request)

    def load(
        self,
        model: Path,
        *,
        also: Sequence[Path] = (),
        tta: bool | None = None,
        plugins: Sequence[Path] = (),
        device: str = "auto",
    ) -> LandmarkModel:
        from lannunet_landmarks.predict.model import LandmarkModel

        return LandmarkModel(model, also, tta, plugins=plugins, device=device)

    def read_dataset(self, path: Path) -> LandmarkDataset:
        from lannunet_landmarks.data.annotations import open_first

        return open_first(path)

    def evaluate(self, predictions: Any, truth: Any, **options: Any) -> dict[str, Any]:
        from lannunet_landmarks.evaluation.given import evaluate_given

        return evaluate_given(predictions, truth, **options)

    def recognises(self, dataset: Path) -> bool:
        from lannunet_landmarks.data.formats import matching
        from lannunet_landmarks.data.json_file import may_be_annotations

        return may_be_annotations(dataset) or matching(dataset) is not None

    def plan(self, request: PlanRequest) -> Plan:
        from lannunet_landmarks.planning.plan import plan

        return plan(request)

    def bench(self) -> LandmarkBench:
        from lannunet_landmarks.conformance.bench import LandmarkBench

        return LandmarkBench()


def with_recorded_patch_size(loaded: LoadedConfig, recorded: Mapping[str, Any]) -> LoadedConfig:
    """`sample_patch_size: auto` as the run recorded it, unless patches of another size were trained on."""
    config = cast(RunConfig, loaded.run)
    sampler = config.sampler
    size = recorded["patch"].get("sample_patch_size", AUTO)  # absent if no patches were cut
    differs = sampler.in_patches and size != list(sampler.patch_size)
    if sampler.patch.sample_patch_size != AUTO or size == AUTO or differs:
        return loaded
    patch = sampler.patch.model_copy(update={"sample_patch_size": tuple(size)})
    sampler = sampler.model_copy(update={"patch": patch})
    return replace(loaded, run=config.model_copy(update={"sampler": sampler}))
