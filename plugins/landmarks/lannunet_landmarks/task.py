"""The task `landmarks`: points in images, found through heatmaps."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lannunet_core as core
from lannunet_core import SCHEME_NAMES, KeyPath, LoadedConfig, PredictRequest, RunInfo, Task, UserError
from lannunet_landmarks import lannunet_yaml
from lannunet_landmarks.defaults import LandmarkDefaults
from lannunet_landmarks.hooks import LandmarkHooks
from lannunet_landmarks.schema import DECODERS, LOSSES, RunConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from lannunet_landmarks.conformance.bench import LandmarkBench
    from lannunet_landmarks.session import LandmarkSession
    from lannunet_landmarks.types import Prediction


class LandmarkTask(Task):
    """See `Task`."""

    config = RunConfig
    hooks = LandmarkHooks
    defaults = LandmarkDefaults
    names = {  # noqa: RUF012
        "solver.loss_function": ("losses", LOSSES),
        "inference.decoder": ("decoders", DECODERS),
        "sampler.data_aug": ("augmentations", SCHEME_NAMES),
    }

    def translate(self, key: str, value: Any, foreign: bool) -> tuple[str, Any, str | None]:
        key, value, note = lannunet_yaml.translate(key, value)
        if note is None and foreign and key == lannunet_yaml.PATIENCE:
            note = "here it counts validations, not epochs"
        return key, value, note

    def why_dropped(self, key: str) -> str | None:
        return lannunet_yaml.why_dropped(key)

    def import_config(self, path: Path) -> tuple[str, list[tuple[str, str]]]:
        return lannunet_yaml.import_config(path)

    def stage(
        self, first: core.RunConfig, own: set[KeyPath]
    ) -> tuple[Mapping[str, Any], tuple[KeyPath, ...]]:
        if cast(RunConfig, first).inference.evaluation_mode == "use_input_size":
            raise UserError(
                "refine: the first stage has to predict in original pixels, so "
                "inference.evaluation_mode cannot be use_input_size."
            )
        sampler: dict[str, Any] = {"sample_mode": "patch_centred"}
        if ("sampler", "patch", "resolution_to_sample_from") not in own:
            sampler["patch"] = {"resolution_to_sample_from": "full"}
        return {"sampler": sampler}, (("sampler", "sample_mode"), ("sampler", "patch", "centres"))

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
        from lannunet_landmarks.predict.models import settle_ensemble
        from lannunet_landmarks.predict.stages import around

        if not loaded.fixed:
            return settle_ensemble(loaded)
        config = cast(RunConfig, loaded.run)
        if config.sampler.patch.jitter == "auto":
            loaded = around(loaded, config.output.output_dir, recorded["sampler"]["patch"]["jitter"])
        return loaded

    def check_fold(self, loaded: LoadedConfig) -> None:
        from lannunet_landmarks.data.annotations import load_dataset

        config = cast(RunConfig, loaded.run)
        if not config.dataset.src_targets.is_dir():
            raise UserError(
                f"--folds: dataset.src_targets ({config.dataset.src_targets}) is no folder of "
                "foldK.json. Make one with lannunet folds, and name it there."
            )
        load_dataset(config.dataset, config.trainer.fold)

    def after_folds(self, folders: Sequence[Path], base: Path) -> str | None:
        pooled = " ".join(shlex.quote(str(folder)) for folder in folders)
        return (
            f"all images together: lannunet evaluate --runs {pooled} -o {shlex.quote(str(base / 'pooled'))}"
        )

    def predict(self, request: PredictRequest) -> list[Prediction]:
        from lannunet_landmarks.predict.loose import predict

        return predict(request)

    def bench(self) -> LandmarkBench:
        from lannunet_landmarks.conformance.bench import LandmarkBench

        return LandmarkBench()
