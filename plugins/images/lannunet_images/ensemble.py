"""The ensemble of a configuration: models that predict together with the run's model.

Importing this must not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from pydantic import Field, StrictBool

import lannunet_core as core
from lannunet_core import File, LoadedConfig, UserError


class EnsembleConfig(core.InferenceConfig):
    """The section `inference` of a task with ensembles."""

    ensemble_inference: StrictBool = Field(False, description="Predict with several models together.")
    ensemble_checkpoints: list[File] = Field(
        [],
        description="Ensemble members in addition to this run's model: model files or run folders; "
        "if empty, the folders foldK in the output folder.",
    )


def members_of(named: Sequence[Path]) -> list[Path]:
    """The models at paths; a cross-validated run stands for those of all its folds.

    Raises:
        UserError: One is named twice, and would agree with itself.
    """
    from lannunet_core import best_model, models_of  # imports torch

    paths = [found for path in named for found in models_of(path)]
    files = [(path if path.is_file() else best_model(path) or path).resolve() for path in paths]
    for number, path in enumerate(paths):
        if files[number] in files[:number]:
            raise UserError(f"{path}: is in the ensemble twice. Name each model once.")
    return paths


def settle_ensemble(loaded: LoadedConfig) -> LoadedConfig:
    """The configuration with the paths of all ensemble members.

    The run's model is a member. If the run does not train and names no model, the first member is its model.

    Raises:
        UserError: A model does not exist, or models are named but not used.
    """
    run = loaded.run
    inference, model = cast(EnsembleConfig, run.inference), run.model
    if not inference.ensemble_inference:
        if inference.ensemble_checkpoints:
            raise UserError(
                "inference.ensemble_checkpoints: is only read with inference.ensemble_inference: true. "
                "Set it, or remove the models."
            )
        return loaded
    from lannunet_core import best_model, folds_of  # imports torch

    named = inference.ensemble_checkpoints or [run.output.output_dir]
    paths = members_of(named)
    if not inference.ensemble_checkpoints and not folds_of(run.output.output_dir):
        raise UserError(
            f"inference.ensemble_inference: {run.output.output_dir} has no folds (fold0, fold1 …) of a "
            "cross-validated run. Name the models in inference.ensemble_checkpoints."
        )
    for path in paths:
        if not path.is_file() and best_model(path) is None:
            raise UserError(f"inference.ensemble_checkpoints: {path} is not a model file or a run's folder.")
    if run.trainer.inference_only and model.checkpoint is None:
        model = model.model_copy(update={"checkpoint": paths.pop(0)})
    inference = inference.model_copy(update={"ensemble_checkpoints": paths})
    return replace(loaded, run=run.model_copy(update={"inference": inference, "model": model}))
