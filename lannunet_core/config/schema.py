"""The core's part of a run's configuration: LaNNU-Net's words, lower-case. Each field says what it does.

Importing this must not import torch.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from lannunet_core.plugins.discovery import fold

KeyPath = tuple[str, ...]

MOST_PIXELS = 2**30
DEFAULT_JITTER = 8.0

LOSSES = ("kl", "mse", "awl", "bce_topk")
"""The core's own names for `solver.loss_function`."""
SEGMENTATION_LOSSES = ("ce_dice",)
"""Those for `task: segmentation`."""
DECODERS = ("auto", "peak", "quadratic", "dark", "soft_argmax", "gaussian_fit")
"""The core's own names for `inference.decoder`."""
SCHEMES = (
    "AffineSimple",
    "AffineComplex",
    "AffineComplexElastic",
    "AffineComplexElasticLight",
    "AffineComplexElasticBlur",
    "AffineComplexElasticBlurSharp",
    "payer19",
    "thaler21",
    "nnunet",
    "CenterCropOnly",
    "None",
)
"""The core's own names for `sampler.data_aug`."""


def _holdable(size: tuple[int, ...]) -> tuple[int, ...]:
    if prod(size) > MOST_PIXELS:
        raise PydanticCustomError("size", "should be at most 2^30 pixels in all")
    return size


def _unique(indices: list[int]) -> list[int]:
    if len(set(indices)) < len(indices):
        raise PydanticCustomError("unique", "should name each landmark once")
    return indices


def _path(path: Any) -> Any:
    if not isinstance(path, str | Path) or path == "":
        raise PydanticCustomError("path", "should be a path")
    return path


Auto = Literal["auto"]
Index = Annotated[StrictInt, Field(ge=0)]
Size = Annotated[
    tuple[Annotated[StrictInt, Field(ge=8, le=16384)], ...],
    Field(min_length=2, max_length=3),
    AfterValidator(_holdable),
]
File = Annotated[Path, BeforeValidator(_path)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


class DatasetConfig(Section):
    root: File = Field(
        None,  # type: ignore[assignment]  # filled in below
        validate_default=False,
        description="Folder that the image paths of the JSON are relative to; the JSON's own when left out.",
    )
    src_targets: File = Field(description="The JSON of annotations, or a folder of foldK.json.")
    landmarks: Annotated[list[Index], Field(min_length=1), AfterValidator(_unique)] | None = Field(
        None, description="Which landmarks to train, by index; all when left out."
    )
    flip_pairs: list[tuple[Index, Index]] = Field(
        [], description="Pairs of landmarks (dataset indices) that a mirror swaps."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_root_is_none(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("root", "") in ("", None):
            return {key: value for key, value in data.items() if key != "root"}
        return data

    @model_validator(mode="after")
    def _root_beside_annotations(self) -> DatasetConfig:
        if self.root is None:
            self.root = self.annotations_folder
        return self

    @property
    def annotations_folder(self) -> Path:
        is_file = self.src_targets.suffix.lower() == ".json" or self.src_targets.is_file()
        return self.src_targets.parent if is_file else self.src_targets


class PatchConfig(Section):
    sample_patch_size: Size = Field((128, 128), description="Size of a patch (x, y[, z]).")
    sampler_bias: StrictFloat = Field(
        0.66, ge=0, le=1, description="patch_bias: this share of patches is placed to hold a landmark."
    )
    resolution_to_sample_from: Literal["input_size", "full"] = Field(
        "input_size", description="Cut patches from the resized image or from the original one."
    )
    inference_mode: Literal["fully_convolutional", "patchify_and_stitch"] = Field(
        "fully_convolutional", description="Predict the whole image at once, or patch by patch."
    )
    centres: File | None = Field(
        None,
        description="patch_centred: predictions.csv to cut patches around; the annotations if left out.",
    )
    jitter: Annotated[StrictFloat, Field(ge=0, le=4096)] | Auto = Field(
        "auto",
        description="patch_centred: training patches are moved by up to so many pixels an axis; "
        "auto: 8, in a second stage the validation error of the first.",
    )
    deterministic_jitter: StrictBool = Field(
        False, description="patch_centred: a landmark's patch is moved alike in every epoch."
    )

    @property
    def jitter_pixels(self) -> float:
        return DEFAULT_JITTER if self.jitter == "auto" else self.jitter


class SamplerConfig(Section):
    sample_mode: Literal["full", "patch_bias", "patch_centred"] = Field(
        "full",
        description="A training sample is the full image, a patch anywhere, or a patch around a prediction.",
    )
    input_size: Size = Field((512, 512), description="Size (x, y[, z]) that images are resized to.")
    resize: Literal["letterbox", "stretch"] = Field(
        "letterbox", description="Keep the aspect ratio and pad, or stretch."
    )
    data_aug: str = Field("AffineComplex", description="Augmentation scheme, by name.")
    data_aug_package: Literal["torch", "imgaug"] = Field(
        "torch", description="What applies it: torch on the run's device, or imgaug in the loader's workers."
    )
    num_workers: Annotated[StrictInt, Field(ge=0, le=64)] | Auto = Field(
        "auto", description="Loader processes; auto: chosen by a short measurement."
    )
    debug: StrictBool = Field(False, description="Write pictures of training samples to the output folder.")
    patch: PatchConfig = Field(default_factory=PatchConfig, description="Used by patch sampling.")

    @property
    def in_patches(self) -> bool:
        return self.sample_mode != "full"

    @property
    def image_size(self) -> tuple[int, ...] | None:
        """Size (x, y[, z]) that images are resized to; None where each keeps its own."""
        native = self.in_patches and self.patch.resolution_to_sample_from == "full"
        return None if native else self.input_size

    @property
    def sample_size(self) -> tuple[int, ...]:
        """Size (x, y[, z]) of a training sample."""
        return self.patch.sample_patch_size if self.in_patches else self.input_size


LearnedWidth = Annotated[
    Literal[False, "isotropic", "covariance"],
    BeforeValidator(lambda value: "isotropic" if value is True else value),
]


class SolverConfig(Section):
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or LaNNU-Net's SGD.")
    base_lr: Annotated[StrictFloat, Field(gt=0, le=10)] | Auto = Field(
        "auto", description="Learning rate at the start; auto: 2e-3 for adamw, 0.01 for sgd."
    )
    decay_policy: Literal["poly", "none"] = Field("poly", description="poly: (1 - progress)^0.9.")
    budget_minutes: StrictFloat = Field(
        30, gt=0, le=100_000, description="Minutes of training that `max_epochs: auto` plans for."
    )
    max_epochs: Annotated[StrictInt, Field(ge=1)] | Auto = Field(
        "auto", description="Epochs; auto: measured and sized to budget_minutes, then recorded."
    )
    mini_batch_size: StrictInt = Field(150, ge=1, le=1000000, description="Batches an epoch.")
    data_loader_batch_size_train: StrictInt = Field(
        12, ge=1, le=65536, description="Samples a training batch."
    )
    data_loader_batch_size_eval: StrictInt = Field(
        12, ge=1, le=65536, description="Samples an evaluation batch."
    )
    early_stopping_patience: StrictInt = Field(
        15, ge=1, description="Stop after this many validations without a better validation error."
    )
    deep_supervision: StrictBool = Field(True, description="Supervise coarser resolutions too.")
    num_res_supervisions: StrictInt = Field(5, ge=1, le=10, description="How many resolutions.")
    loss_function: str = Field("kl", description="Loss, by name: kl, mse, awl, bce_topk or a plugin's.")
    regress_sigma: LearnedWidth = Field(
        False, description="Learn the width of each landmark's heatmap: isotropic (one sigma) or covariance."
    )
    regress_sigma_loss_weight: StrictFloat = Field(
        0.005,
        gt=0,
        description="mse: what widths are drawn back with, which limits them to weight^(-1/2D) pixels.",
    )
    auto_mixed_precision: StrictBool = Field(True, description="Mixed precision where the device has it.")
    seed: StrictInt = Field(0, ge=0, description="All random numbers follow from it.")


class TrainerConfig(Section):
    fold: StrictInt = Field(
        0, ge=-1, description="Which foldK.json of a src_targets folder; -1: a plain file."
    )
    validate_every: StrictInt = Field(
        10, ge=1, description="Validate every so many epochs, and after the last."
    )
    cache_data: StrictBool = Field(True, description="Keep prepared images in memory, as many as fit.")
    inference_only: StrictBool = Field(False, description="Skip training; evaluate `model.checkpoint`.")
    plugins: list[str] = Field([], description="Extensions laid over the architecture, by name.")


class ModelConfig(Section):
    architecture: str = Field("unet", description="The plugin that brings the network, by name.")
    gauss_sigma: StrictFloat = Field(2.0, gt=0, le=100, description="Heatmap width in input pixels.")
    hm_lambda_scale: StrictFloat = Field(100.0, gt=0, description="Peak of a heatmap.")
    checkpoint: File | None = Field(None, description="Start from this model's weights.")


class InferenceConfig(Section):
    split: Literal["training", "validation", "testing"] = Field("testing", description="What to evaluate.")
    evaluation_mode: Literal["scale_heatmap_first", "scale_pred_coords", "use_input_size"] = Field(
        "scale_heatmap_first",
        description="Decode at the original resolution, decode at the input's and map back, or do not map.",
    )
    decoder: str = Field(
        "auto",
        description="Decoder, by name: auto, quadratic, dark, soft_argmax, gaussian_fit or a plugin's.",
    )
    tta: StrictBool = Field(
        False, description="Look at mirrored images too; the augmentation has to be one that mirrors."
    )
    mc_dropout: StrictInt = Field(
        0, ge=0, le=1000, description="Look so many times more with dropout; the network has to have some."
    )
    presence: StrictBool = Field(
        False,
        description="Decide whether a landmark is in the image at all; the validation list has to have "
        '`"absent"` ones.',
    )
    ensemble_inference: StrictBool = Field(False, description="Predict with several models together.")
    ensemble_checkpoints: list[File] = Field(
        [],
        description="Those models: files or run folders, beside the one of this run; "
        "when empty, the foldK in the output folder.",
    )
    coverage: StrictFloat = Field(
        0.9,
        gt=0,
        lt=1,
        description="With a calibration: probability with which a region is to hold the true point.",
    )
    debug: StrictBool = Field(False, description="Write pictures of predicted heatmaps to the output folder.")


class OutputConfig(Section):
    output_dir: File = Field(description="Folder of this run's results.")
    xlsx: StrictBool = Field(False, description="Also write predictions.xlsx.")
    success_radii: list[Annotated[StrictFloat, Field(gt=0)]] = Field(
        [2.0, 2.5, 3.0, 4.0], description="Radii of the success detection rates, in mm, in px if no spacing."
    )


class RunConfig(Section):
    """A run's whole configuration, without the sections of its plugins (those are composed into it)."""

    task: Literal["landmarks", "segmentation"] = Field("landmarks", description="What to learn.")
    dataset: DatasetConfig = Field(description="Images and annotations.")
    sampler: SamplerConfig = Field(default_factory=SamplerConfig, description="How samples are made.")
    solver: SolverConfig = Field(default_factory=SolverConfig, description="How the network is trained.")
    trainer: TrainerConfig = Field(default_factory=TrainerConfig, description="The training loop.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The network and its labels.")
    inference: InferenceConfig = Field(default_factory=InferenceConfig, description="Prediction.")
    output: OutputConfig = Field(description="Where results go.")
    refine: dict[str, Any] | None = Field(
        None,
        description="A second stage on patches around this run's predictions: its own `sampler`, `solver`, "
        "`trainer` and `model` keys.",
    )


class SegmentationDatasetConfig(Section):
    root: File = Field(description="An nnU-Net folder: raw of version 1 or 2, or preprocessed of version 1.")


class PreprocessConfig(Section):
    spacing: list[Annotated[StrictFloat, Field(gt=0)]] | None = Field(
        None, description="mm per voxel (x, y[, z]) that images are resampled to; null: each keeps its own."
    )
    normalisation: list[Literal["zscore", "ct", "none"]] = Field(
        ["zscore"],
        description="One a channel, or one for all: zscore of the image; ct: clipped, z-scored with `clip`.",
    )
    clip: list[tuple[StrictFloat, StrictFloat, StrictFloat, StrictFloat] | None] = Field(
        [], description="One a channel, for ct: lower and upper bound, mean and standard deviation."
    )


PatchSize = Annotated[
    tuple[Annotated[StrictInt, Field(ge=1, le=16384)], ...],
    Field(min_length=2, max_length=3),
    AfterValidator(_holdable),
]


class SegmentationPatchConfig(Section):
    sample_patch_size: PatchSize = Field(description="Size of a patch (x, y[, z]).")


class SegmentationSamplerConfig(Section):
    sample_mode: Literal["foreground"] = Field(
        "foreground", description="Patches anywhere, a share of them around a voxel of a class."
    )
    foreground_share: StrictFloat = Field(0.33, ge=0, le=1, description="That share.")
    data_aug: str = Field("nnunet", description="Augmentation scheme, by name.")
    num_workers: Annotated[StrictInt, Field(ge=0, le=64)] | Auto = Field(
        "auto", description="Loader processes; auto: chosen by a short measurement."
    )
    debug: StrictBool = Field(False, description="Write pictures of training samples to the output folder.")
    patch: SegmentationPatchConfig = Field(description="What the network sees at once.")


class SegmentationSolverConfig(SolverConfig):
    mini_batch_size: StrictInt = Field(50, ge=1, le=1000000, description="Batches an epoch.")
    data_loader_batch_size_train: StrictInt = Field(
        2, ge=1, le=65536, description="Samples a training batch."
    )
    data_loader_batch_size_eval: StrictInt = Field(
        1, ge=1, le=65536, description="Patches predicted at once."
    )
    loss_function: str = Field("ce_dice", description="Loss, by name: ce_dice or one that a plugin brings.")
    regress_sigma: Literal[False] = Field(False, description="Landmarks only.")


class SegmentationTrainerConfig(TrainerConfig):
    fold: Annotated[StrictInt, Field(ge=0)] | Literal["all"] = Field(  # type: ignore[assignment]
        0, description="Which fold is held out for validation; all: every case trains, none is held out."
    )


class SegmentationInferenceConfig(Section):
    split: Literal["training", "validation", "testing"] = Field("testing", description="What to evaluate.")
    tta: StrictBool = Field(False, description="Average over mirrored images.")


class SegmentationModelConfig(Section):
    architecture: str = Field("unet", description="The plugin that brings the network, by name.")
    checkpoint: File | None = Field(None, description="Start from this model's weights.")


class SegmentationOutputConfig(Section):
    output_dir: File = Field(description="Folder of this run's results.")
    compare_with: list[File] = Field(
        [], description="Folders of runs on the same cases; the report gives the difference to each."
    )


class SegmentationRunConfig(RunConfig):
    """The configuration of a run with `task: segmentation`, without the sections of its plugins."""

    # mypy: these sections take the place of the landmark task's, whose code never sees them.
    task: Literal["segmentation"] = Field("segmentation", description="What to learn.")
    dataset: SegmentationDatasetConfig = Field(description="Images and labels.")  # type: ignore[assignment]
    preprocess: PreprocessConfig = Field(
        default_factory=PreprocessConfig, description="From image files to the network's input."
    )
    sampler: SegmentationSamplerConfig = Field(description="How samples are made.")  # type: ignore[assignment]
    solver: SegmentationSolverConfig = Field(
        default_factory=SegmentationSolverConfig, description="How the network is trained."
    )
    trainer: SegmentationTrainerConfig = Field(
        default_factory=SegmentationTrainerConfig, description="The training loop."
    )
    model: SegmentationModelConfig = Field(  # type: ignore[assignment]
        default_factory=SegmentationModelConfig, description="The network."
    )
    inference: SegmentationInferenceConfig = Field(  # type: ignore[assignment]
        default_factory=SegmentationInferenceConfig, description="Prediction."
    )
    output: SegmentationOutputConfig = Field(description="Where results go.")  # type: ignore[assignment]
    refine: None = Field(None, description="Landmarks only.")


def key_of(field_name: str, field: FieldInfo) -> str:
    """How a field is spelled in YAML."""
    return field.alias or field_name


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a section's keys; None for a key that holds a value."""
    found = field.annotation
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def canonical(path: KeyPath, model: type[BaseModel]) -> tuple[KeyPath, FieldInfo | None]:
    """Our spelling of a key path written in any case, with the field that it ends in; None: no such key.

    What follows the first unknown key, or a key that holds a value, is left as it is written.
    """
    spelled: list[str] = []
    section: type[BaseModel] | None = model
    field: FieldInfo | None = None
    for depth, key in enumerate(path):
        if section is None:
            return (*spelled, *path[depth:]), field
        found = [
            (name, other) for name, other in section.model_fields.items() if _is_spelling(key, name, other)
        ]
        if not found:
            return (*spelled, *path[depth:]), None
        field = found[0][1]
        spelled.append(key_of(*found[0]))
        section = section_of(field)
    return tuple(spelled), field


class Spellings(tuple[str, ...]):
    """Beside a plugin's section: its further names, in the form in which names are compared."""


def _is_spelling(key: str, name: str, field: FieldInfo) -> bool:
    if key.casefold() == key_of(name, field).casefold():
        return True
    return any(isinstance(names, Spellings) and fold(key) in names for names in field.metadata)
