"""A third-party task: image classification. It uses only the public API of the core.

Images are in ROOT/SPLIT/CLASS/; a split is training, validation or testing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field

import lannunet_core as core
from lannunet_core import Defaults, File, Task, UserError, hookimpl


class DatasetConfig(core.DatasetConfig):
    root: File = Field(description="The folder of the splits.")


class SamplerConfig(core.SamplerConfig):
    input_size: core.Size = Field((32, 32), description="Size (x, y[, z]) that images are resized to.")


class SolverConfig(core.SolverConfig):
    loss_function: str = Field("cross_entropy", description="Loss, by name.")


class RunConfig(core.RunConfig):
    task: Literal["classification"] = "classification"
    dataset: DatasetConfig
    sampler: SamplerConfig = Field(default_factory=SamplerConfig)
    solver: SolverConfig = Field(default_factory=SolverConfig)
    trainer: core.TrainerConfig = Field(default_factory=core.TrainerConfig)
    model: core.ModelConfig
    inference: core.InferenceConfig = Field(default_factory=core.InferenceConfig)


class ClassificationDefaults(Defaults):
    @hookimpl
    def losses(self) -> Mapping[str, Callable[[], Any]]:
        from classification.work import CrossEntropy

        return {"cross_entropy": CrossEntropy}


class Classification(Task):
    config = RunConfig
    defaults = ClassificationDefaults
    names = {  # noqa: RUF012
        "solver.loss_function": ("losses", ("cross_entropy",)),
        "sampler.data_aug": ("augmentations", core.SCHEME_NAMES),
    }

    def check(self, loaded):
        root = loaded.run.dataset.root
        if not (root / "training").is_dir():
            raise UserError(f"{loaded.given['dataset.root']}: dataset.root: {root} has no folder training.")

    def start_session(self, loaded, run, fabric):
        from classification.work import start_session

        return start_session(loaded, run, fabric)

    def train(self, loaded, *, resume=False, overwrite=False):
        from classification.work import Work

        self.check(loaded)
        return core.carry_out(loaded, lambda: Work(loaded), resume=resume, overwrite=overwrite)

    def predict(self, request):
        from classification.work import predict

        request.refuse("classification", "also", "spacing", "calibration", "coverage", "tta")
        return predict(request)
