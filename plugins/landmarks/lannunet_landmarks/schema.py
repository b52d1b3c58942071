"""The configuration of `task: landmarks`. Importing this must not import torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from lannunet_images import EnsembleConfig
from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictFloat, StrictInt
from pydantic_core import PydanticCustomError

import lannunet_core as core
from lannunet_core import Auto, File, Index, Section, Size, UserError, is_among

DEFAULT_JITTER = 8.0
RADII = (2.0, 2.5, 3.0, 4.0)
"""Radii of the success detection rates, in mm, in px if no spacing."""
AUTO_PATCH = {2: 128, 3: 64}

LOSSES = ("kl", "mse", "awl", "bce_topk")
"""The task's own names for `solver.loss_function`."""
NORMALISATIONS = ("zscore", "percentile", "ct", "nonzero", "none")
"""The task's own names for `sampler.normalisation`."""
DECODERS = ("auto", "peak", "quadratic", "dark", "soft_argmax", "gaussian_fit")
"""The task's own names for `inference.decoder`."""


def _unique(indices: list[int]) -> list[int]:
    if len(set(indices)) < len(indices):
        raise PydanticCustomError("unique", "should name each landmark once")
    return indices


def _none_if_empty(path: Any) -> Any:
    return None if path == "" else path


class DatasetConfig(core.DatasetConfig):
    root: Annotated[File | None, BeforeValidator(_none_if_empty)] = Field(
        None,
        description="Folder that image paths are relative to; that of the annotations when left out.",
    )
    src_targets: File = Field(
        description="The JSON of annotations, a folder of foldK.json, or annotations of another format."
    )
    landmarks: Annotated[list[Index], Field(min_length=1), AfterValidator(_unique)] | None = Field(
        None, description="Which landmarks to train, by index; all when left out."
    )
    flip_pairs: list[tuple[Index, Index]] = Field(
        [], description="Pairs of landmarks (dataset indices) that a mirror swaps."
    )

    @property
    def images_folder(self) -> Path:
        """The folder that image paths of the JSON are relative to."""
        if self.root is not None:
            return self.root
        is_file = self.src_targets.suffix.lower() == ".json" or self.src_targets.is_file()
        return self.src_targets.parent if is_file else self.src_targets


class PatchConfig(Section):
    sample_patch_size: Size | Auto = Field(
        "auto",
        description="Size of a patch (x, y[, z]); auto: 128 in 2D, 64 in 3D along each axis, at most the "
        "input size.",
    )
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
        description="patch_centred: training patches are moved by up to this many pixels per axis; "
        "auto: 8, in a second stage the validation error of the first.",
    )
    deterministic_jitter: StrictBool = Field(
        False, description="patch_centred: a landmark's patch has the same move in every epoch."
    )

    @property
    def jitter_pixels(self) -> float:
        return DEFAULT_JITTER if self.jitter == "auto" else self.jitter


class SamplerConfig(core.SamplerConfig):
    sample_mode: Literal["full", "patch_bias", "patch_centred"] = Field(
        "full",
        description="A training sample is the full image, a patch anywhere, or a patch around a prediction.",
    )
    input_size: Size = Field(
        (512, 512),
        description="Size (x, y[, z]) that images are resized to, except for patches of the original one.",
    )
    resize: Literal["letterbox", "stretch"] = Field(
        "letterbox", description="Keep the proportions and pad, or stretch."
    )
    letterbox_in: Literal["mm", "pixels"] = Field(
        "mm",
        description="letterbox: proportions are kept in mm if the spacing is known, or in pixels.",
        json_schema_extra={"before": "pixels"},
    )
    normalisation: str | Annotated[list[str], Field(min_length=1)] = Field(
        "zscore",
        description="How pixel values become the network's input, by name: zscore of the image; percentile, "
        "clipped before; ct, clipped and z-scored as the training images, with `clip`; nonzero, z-scored "
        "where the image is not 0; none; or one that a plugin provides. A list has one per channel.",
    )
    clip: list[tuple[StrictFloat, StrictFloat, StrictFloat, StrictFloat] | None] = Field(
        [],
        description="One per channel, for ct: lower and upper bound, mean and standard deviation; measured "
        "around the landmarks of the training and validation images when left out, then recorded.",
    )
    data_aug: str = Field("Upright", description="Augmentation scheme, by name.")
    data_aug_package: str = Field(
        "torch",
        description="Package that applies it: torch on the run's device, or the plugin of this name, such as "
        "imgaug, in the loader's workers.",
    )
    patch: PatchConfig = Field(default_factory=PatchConfig, description="Used by patch sampling.")

    @property
    def in_patches(self) -> bool:
        return self.sample_mode != "full"

    @property
    def image_size(self) -> tuple[int, ...] | None:
        """Size (x, y[, z]) that images are resized to; None: each keeps its own."""
        native = self.in_patches and self.patch.resolution_to_sample_from == "full"
        return None if native else self.input_size

    @property
    def sample_size(self) -> tuple[int, ...]:
        """Size (x, y[, z]) of a training sample."""
        return self.patch_size if self.in_patches else self.input_size

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Size (x, y[, z]) of a patch."""
        given = self.patch.sample_patch_size
        if given != "auto":
            return given
        side = AUTO_PATCH[len(self.input_size)]
        return tuple(min(side, of_image) for of_image in self.image_size or (side,) * len(self.input_size))

    def check_dimensions(self, dimensions: int, dataset: str) -> None:
        """Raise a UserError for sizes with another number of dimensions than the coordinates.

        Raises:
            UserError: A size has more or fewer.
        """
        sizes = {"sampler.input_size": self.image_size}
        if self.in_patches:
            sizes["sampler.patch.sample_patch_size"] = self.sample_size
        for key, size in sizes.items():
            if size is not None and len(size) != dimensions:
                raise UserError(
                    f"{key}: {list(size)} has {len(size)} numbers, but the coordinates in "
                    f"{dataset} have {dimensions}; give one per dimension."
                )


LearnedWidth = Annotated[
    Literal[False, "isotropic", "covariance"],
    BeforeValidator(lambda value: "isotropic" if value is True else value),
]


class SolverConfig(core.SolverConfig):
    data_loader_batch_size_eval: Annotated[StrictInt, Field(ge=1, le=65536)] | Auto = Field(  # type: ignore[assignment]
        "auto", description="Samples per evaluation batch; auto: 12, but whole images one by one on a CPU."
    )
    loss_function: str = Field("kl", description="Loss, by name: kl, mse, awl, bce_topk or a plugin's.")
    regress_sigma: LearnedWidth = Field(
        False, description="Learn the width of each landmark's heatmap: isotropic (one sigma) or covariance."
    )
    regress_sigma_loss_weight: StrictFloat = Field(
        0.005,
        gt=0,
        description="Under mse: weight of the penalty on learned widths, which limits them to weight^(-1/2D) "
        "pixels.",
    )


class TrainerConfig(core.TrainerConfig):
    fold: StrictInt = Field(
        0, ge=-1, description="Which foldK.json of a src_targets folder; -1: a plain file."
    )
    cache_data: StrictBool = Field(True, description="Keep prepared images in memory, as many as fit.")
    cache_dtype: Literal["float32", "float16", "uint8"] = Field(
        "float32",
        description="Precision of prepared images. float16 keeps twice as many, with 11 bits; uint8 four "
        "times, with 256 values per channel.",
    )
    compile: StrictBool = Field(
        False,
        description="Compile the network for training, by torch.compile; the first batch takes longer.",
    )
    channels_last: StrictBool = Field(
        False, description="Store the channels of a pixel side by side, as tensor cores use them."
    )


class ModelConfig(core.ModelConfig):
    architecture: str = Field("unet", description="The plugin that provides the network, by name.")
    gauss_sigma: StrictFloat = Field(2.0, gt=0, le=100, description="Heatmap width in input pixels.")
    hm_lambda_scale: StrictFloat = Field(100.0, gt=0, description="Peak of a heatmap.")


class InferenceConfig(EnsembleConfig):
    evaluation_mode: Literal["scale_heatmap_first", "scale_pred_coords", "use_input_size"] = Field(
        "scale_heatmap_first",
        description="Decode at the original resolution, decode at the input's and map back, or do not map.",
    )
    decoder: str = Field(
        "auto",
        description="Decoder, by name: auto, quadratic, dark, soft_argmax, gaussian_fit or a plugin's.",
    )
    tta: StrictBool = Field(
        False, description="Predict mirrored images too; the augmentation has to be one that mirrors."
    )
    mc_dropout: StrictInt = Field(
        0, ge=0, le=1000, description="Additional Monte-Carlo dropout passes; the network needs dropout."
    )
    confidence_radius: Annotated[StrictFloat, Field(gt=0)] | Auto = Field(
        "auto",
        description="Confidence is the probability that a point lies within this radius, in mm, in px if no "
        "spacing; auto: three widths of the heatmaps.",
    )
    correct_offsets: StrictBool = Field(
        True,
        description="Subtract each landmark's systematic error, measured on training images, from its "
        "predictions.",
    )
    centre_prior: StrictBool = Field(
        True,
        description="patch_centred, kl: positions count less the further they are from the centre, by the "
        "errors of the centres on validation images.",
    )
    shape_prior: StrictBool = Field(
        True,
        description="Whole images: a peak counts less if its position relative to the other landmarks "
        "differs from that in the training images.",
    )
    presence: StrictBool = Field(
        False,
        description="Decide whether a landmark is in the image at all; the validation list needs "
        '`"absent"` ones.',
    )
    coverage: StrictFloat = Field(
        0.9,
        gt=0,
        lt=1,
        description="With a calibration: probability with which a region contains the true point.",
    )
    debug: StrictBool = Field(False, description="Write pictures of predicted heatmaps to the output folder.")


class OutputConfig(core.OutputConfig):
    xlsx: StrictBool = Field(False, description="Also write predictions.xlsx.")
    success_radii: list[Annotated[StrictFloat, Field(gt=0)]] = Field(
        list(RADII), description="Radii of the success detection rates, in mm, in px if no spacing."
    )
    full_report: StrictBool = Field(
        False, description="Put pictures of all cases into the report, whatever its size; else up to 5 MB."
    )


class RunConfig(core.RunConfig):
    """The configuration of a run with `task: landmarks`, without the sections of its plugins."""

    task: Literal["landmarks"] = Field("landmarks", description="What to learn.")
    dataset: DatasetConfig = Field(description="Images and annotations.")
    sampler: SamplerConfig = Field(default_factory=SamplerConfig, description="How samples are made.")
    solver: SolverConfig = Field(default_factory=SolverConfig, description="How the network is trained.")
    trainer: TrainerConfig = Field(default_factory=TrainerConfig, description="The training loop.")
    model: ModelConfig = Field(default_factory=ModelConfig, description="The network and its labels.")
    inference: InferenceConfig = Field(default_factory=InferenceConfig, description="Prediction.")
    output: OutputConfig = Field(description="Output files.")
    refine: dict[str, Any] | None = Field(
        None,
        description="A second stage on patches around this run's predictions: its own `sampler`, `solver`, "
        "`trainer` and `model` keys.",
    )

    def idle_keys(self, replaced: Collection[str]) -> dict[str, str]:
        found = super().idle_keys(replaced)
        if not self.trainer.cache_data:
            found["trainer.cache_dtype"] = "trainer.cache_data"
        if self.trainer.inference_only:
            found |= dict.fromkeys(("trainer.compile", "trainer.channels_last"), "trainer.inference_only")
        sampler, patch = self.sampler, self.sampler.patch
        of_patches = {
            "full": tuple(PatchConfig.model_fields),
            "patch_bias": ("centres", "jitter", "deterministic_jitter"),
            "patch_centred": ("sampler_bias", "inference_mode"),
        }
        found |= {f"sampler.patch.{key}": "sampler.sample_mode" for key in of_patches[sampler.sample_mode]}
        if "sampler.sample_mode" in replaced:  # a plugin chooses where patches are cut
            found |= dict.fromkeys(
                ("sampler.patch.sampler_bias", "sampler.patch.deterministic_jitter"), "trainer.plugins"
            )
        names = sampler.normalisation
        if not any(is_among(one, ("ct",)) for one in ([names] if isinstance(names, str) else names)):
            found["sampler.clip"] = "sampler.normalisation"
        if sampler.resize == "stretch":
            found["sampler.letterbox_in"] = "sampler.resize"
        if sampler.sample_mode != "patch_centred":
            found["inference.centre_prior"] = "sampler.sample_mode"
        else:
            found["inference.shape_prior"] = "sampler.sample_mode"
            if patch.jitter == 0:
                found["sampler.patch.deterministic_jitter"] = "sampler.patch.jitter"
        if "solver.loss_function" not in replaced:
            if is_among(self.solver.loss_function, ("kl", "bce_topk")):
                found["model.hm_lambda_scale"] = "solver.loss_function"
            if is_among(self.solver.loss_function, ("kl",)):
                found["solver.regress_sigma_loss_weight"] = "solver.loss_function"
            elif is_among(self.solver.loss_function, LOSSES):
                found["inference.centre_prior"] = "solver.loss_function"
        if not self.solver.regress_sigma:
            found["solver.regress_sigma_loss_weight"] = "solver.regress_sigma"
        return found
