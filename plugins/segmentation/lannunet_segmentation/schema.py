"""The configuration of `task: segmentation`. Importing this must not import torch."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal

from lannunet_images import EnsembleConfig
from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictFloat, StrictInt

import lannunet_core as core
from lannunet_core import File, Section, holdable, is_among

LOSSES = ("ce_dice",)
"""The task's own names for `solver.loss_function`."""
SCHEMES = (*core.SCHEME_NAMES, "nnunet", "nnunet_upright")
"""The names for `sampler.data_aug`, the core's and the task's own."""
NORMALISATIONS = ("zscore", "ct", "none", "percentile", "nonzero")
"""The task's own names for `preprocess.normalisation`."""


def _written_out(root: Any) -> Any:
    """The number of a data set, formatted as in a path."""
    return str(root) if type(root) is int and root >= 0 else root


class DatasetConfig(core.DatasetConfig):
    root: Annotated[File, BeforeValidator(_written_out)] = Field(
        description="An nnU-Net folder: raw of version 1 or 2, or preprocessed of version 1; the number or "
        "name of one in `nnUNet_raw` or `nnUNet_preprocessed`; or what the `format` of a plugin opens."
    )
    split_seed: Annotated[StrictInt, Field(ge=0)] | None = Field(
        None,
        description="Seed of the split into folds, where there is no splits_final.json; null: "
        "`solver.seed`. Runs of several seeds on one split set it.",
    )


class PreprocessConfig(Section):
    spacing: list[Annotated[StrictFloat, Field(gt=0)]] | None = Field(
        None, description="mm per voxel (x, y[, z]) that images are resampled to; null: each keeps its own."
    )
    interpolation: Literal["cubic", "linear"] = Field(
        "cubic",
        description="cubic, with the nearest slice along a thick axis (nnU-Net's); or linear, averaged where "
        "shrunk.",
        json_schema_extra={"before": "linear"},
    )
    normalisation: list[str] = Field(
        ["zscore"],
        min_length=1,
        description="One per channel, or one for all, by name: zscore of the image; percentile: clipped; "
        "nonzero: z-scored where the image is not 0; ct: clipped, z-scored with `clip`; none; or one that a "
        "plugin provides.",
    )
    clip: list[tuple[StrictFloat, StrictFloat, StrictFloat, StrictFloat] | None] = Field(
        [], description="One per channel, for ct: lower and upper bound, mean and standard deviation."
    )
    previous_stage: File | None = Field(
        None,
        description="Set in a second stage (`refine`): the first one's folder or model, whose segmentation "
        "the network gets as additional channels.",
    )


PatchSize = Annotated[
    tuple[Annotated[StrictInt, Field(ge=1, le=16384)], ...],
    Field(min_length=2, max_length=3),
    AfterValidator(holdable),
]


class PatchConfig(Section):
    sample_patch_size: PatchSize = Field(description="Size of a patch (x, y[, z]).")


class SamplerConfig(core.SamplerConfig):
    sample_mode: Literal["foreground"] = Field(
        "foreground", description="Patches anywhere, a share of them around a voxel of a class."
    )
    foreground_share: StrictFloat = Field(0.33, ge=0, le=1, description="That share.")
    data_aug: str = Field("nnunet", description="Augmentation scheme, by name.")
    data_aug_package: str = Field(
        "torch",
        description="What applies it to images: torch on the run's device, or the plugin of this name, "
        "such as imgaug, in the loader's workers.",
    )
    patch: PatchConfig = Field(description="The network's input.")


class SolverConfig(core.SolverConfig):
    mini_batch_size: StrictInt = Field(50, ge=1, le=1000000, description="Batches per epoch.")
    data_loader_batch_size_train: StrictInt = Field(
        2, ge=1, le=65536, description="Samples per training batch."
    )
    data_loader_batch_size_eval: StrictInt = Field(
        1, ge=1, le=65536, description="Patches predicted at once."
    )
    loss_function: str = Field("ce_dice", description="Loss, by name: ce_dice or one that a plugin provides.")


class TrainerConfig(core.TrainerConfig):
    fold: Annotated[StrictInt, Field(ge=0)] | Literal["all"] = Field(
        0, description="Fold that is held out for validation; all: every case trains, none is held out."
    )
    compile: StrictBool = Field(
        False,
        description="Compile the network for training, by torch.compile; the first batch takes longer.",
    )
    channels_last: StrictBool = Field(
        False, description="Store the channels of a pixel side by side, as tensor cores use them."
    )


class InferenceConfig(EnsembleConfig):
    tta: StrictBool = Field(False, description="Average over mirrored images.")


class ModelConfig(core.ModelConfig):
    architecture: str = Field("unet", description="The plugin that provides the network, by name.")


class OutputConfig(core.OutputConfig):
    compare_with: list[File] = Field(
        [], description="Folders of runs on the same cases; the report shows the difference to each."
    )
    full_report: StrictBool = Field(
        False, description="Put pictures of all cases into the report, whatever its size; else up to 5 MB."
    )


class RunConfig(core.RunConfig):
    """The configuration of a run with `task: segmentation`, without the sections of its plugins."""

    task: Literal["segmentation"] = Field("segmentation", description="What to learn.")
    dataset: DatasetConfig = Field(description="Images and labels.")
    preprocess: PreprocessConfig = Field(
        default_factory=PreprocessConfig, description="From image files to the network's input."
    )
    sampler: SamplerConfig = Field(description="How samples are made.")
    solver: SolverConfig = Field(default_factory=SolverConfig, description="How the network is trained.")
    trainer: TrainerConfig = Field(default_factory=TrainerConfig, description="The training loop.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The network.")
    inference: InferenceConfig = Field(default_factory=InferenceConfig, description="Prediction.")
    output: OutputConfig = Field(description="Output files.")
    refine: dict[str, Any] | None = Field(
        None,
        description="A second stage, which sees the image and the segmentation of this one: its own "
        "`preprocess`, `sampler`, `solver`, `trainer` and `model` keys.",
    )

    def idle_keys(self, replaced: Collection[str]) -> dict[str, str]:
        found = super().idle_keys(replaced)
        if self.trainer.inference_only:
            found |= dict.fromkeys(("trainer.compile", "trainer.channels_last"), "trainer.inference_only")
        if self.preprocess.spacing is None:
            found["preprocess.interpolation"] = "preprocess.spacing"
        names, clips = self.preprocess.normalisation, self.preprocess.clip
        names = names * (len(clips) if len(names) == 1 else 1)
        if any(clip and not is_among(name, ("ct",)) for name, clip in zip(names, clips, strict=False)):
            found["preprocess.clip"] = "preprocess.normalisation"
        return found
