"""The parts of a landmark run, or of a model in use: plugins, network and images on a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lannunet_images import ZSCORES, ExtraFields, ImageFiles, Room, Window, resize_affine
from lightning_fabric import Fabric
from numpy.typing import NDArray

from lannunet_core import (
    Floats,
    LoadedConfig,
    Normalisation,
    RunInfo,
    Session,
    UserError,
    assemble,
    choose,
    echo,
    is_among,
    progress_bar,
)
from lannunet_landmarks.data.annotations import LandmarkDataset
from lannunet_landmarks.data.centres import Centres, check_centres, read_centres
from lannunet_landmarks.data.intensities import Clip, measured_clips
from lannunet_landmarks.data.proportions import input_pixel_shape, pixel_in
from lannunet_landmarks.data.samples import PreparedImages
from lannunet_landmarks.defaults import LandmarkDefaults
from lannunet_landmarks.evaluation.mean_position import as_plain, from_plain
from lannunet_landmarks.evaluation.reliability import ConfidenceCalibration
from lannunet_landmarks.hooks import LandmarkHooks
from lannunet_landmarks.learner import LandmarkLearner
from lannunet_landmarks.maps.confidence import ProbabilityLoss
from lannunet_landmarks.maps.learned_sigma import LearnedSigma
from lannunet_landmarks.predict.patchwise import output_strides
from lannunet_landmarks.predict.prior import CentrePrior
from lannunet_landmarks.predict.shape import ShapePrior
from lannunet_landmarks.schema import RunConfig
from lannunet_landmarks.types import Sample

DEFAULT_BATCH = 12


@dataclass
class LandmarkSession(Session):
    """See `Session`."""

    hooks: LandmarkHooks
    learner: LandmarkLearner
    presence: Sequence[float] | None = None
    """The smallest probability of presence (without one, raw confidence) with which each landmark is treated
    as present in an image; None: unknown."""
    calibrations: tuple[ConfidenceCalibration, ...] = ()
    """Calibrations of the confidences, applied one after the other."""
    offsets: Floats | None = None
    """(N, D) the systematic error of each landmark in input pixels; None: unknown."""
    offsets_of: str | None = None
    """The decoder that offsets were measured with; None: unknown."""
    prior_scale: float | None = None
    """With patch_centred: scale of the prior around centres, in input pixels; None: unknown."""
    shape: ShapePrior | None = None
    """Distribution of the landmarks' relative positions in input pixels; None: unknown."""
    pixel: tuple[float, ...] | None = None
    """Shape (x, y[, z]) of the training images' pixels, medians, with the shortest side 1; None: unknown."""
    centres: Centres | None = None
    """With patch_centred: expected positions of the landmarks; None: the annotated positions."""
    defaults: LandmarkDefaults | None = None
    """The task's default hook implementations."""
    extra: ExtraFields | None = None
    """Additional fields of samples that reach batches; None: those of the current samples."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the training and validation lists of a run."""
    mean_position: Floats | None = None
    """(N, D) of the training images, relative to their size; None: unknown."""
    given: ImageFiles | None = None
    """Reader of images that a program provides; None: images are files."""
    room: Room = field(default_factory=Room)
    """Batch and window sizes that fit into memory."""

    @property
    def config(self) -> RunConfig:
        return cast(RunConfig, self.loaded.run)

    @property
    def other_decoder(self) -> str | None:
        """The decoder that offsets were measured with, if it is another one than that of predictions."""
        measured = self.offsets_of
        return None if measured is None or same_decoder(measured, self.config.inference.decoder) else measured

    def say_left_out(self, model: Path) -> None:
        """Say it if the correction of systematic errors of a model (file or folder) is left out."""
        decoder = self.other_decoder
        if decoder and self.offsets is not None and self.config.inference.correct_offsets:
            echo(
                f"{model}: its correction of systematic errors is left out, as it was measured with "
                f"inference.decoder {decoder}, not with {self.config.inference.decoder}"
            )

    @property
    def correction(self) -> Floats:
        """(N, D) what is subtracted from predictions in input pixels."""
        if self.offsets is None or self.other_decoder or not self.config.inference.correct_offsets:
            return np.zeros((len(self.run.outputs), self.run.dimensions))
        return self.offsets

    @property
    def centre_prior(self) -> CentrePrior | None:
        """What weights the maps of patches around centres; None: nothing, or they are no probabilities."""
        if self.prior_scale is None or self.centres is None or not self.config.inference.centre_prior:
            return None
        return CentrePrior(self.prior_scale) if isinstance(self.learner.loss, ProbabilityLoss) else None

    @property
    def shape_prior(self) -> ShapePrior | None:
        """What weights the maps of whole images; None: nothing, or a plugin decodes maps of its own kind."""
        ours = self.hooks.answering("get_coords_from_heatmap") is None
        return self.shape if ours and self.config.inference.shape_prior else None

    @property
    def batch_size(self) -> int:
        """The number of images that are predicted at once.

        On a CPU it is one by default: the maps of several exceed its caches, and exceed the size from which
        on the allocator requests memory from the system again for each layer.
        """
        given = self.config.solver.data_loader_batch_size_eval
        on_cpu = self.fabric.device.type == "cpu"
        return 1 if given == "auto" and on_cpu else self.patches_at_once

    @property
    def patches_at_once(self) -> int:
        """The number of patches that are predicted at once."""
        given = self.config.solver.data_loader_batch_size_eval
        return DEFAULT_BATCH if given == "auto" else given

    @property
    def files(self) -> ImageFiles:
        """The reader of images."""
        return self.given or ImageFiles.of(self.loaded)

    def learned(self) -> dict[str, Any]:
        learned: dict[str, Any] = {"data": dict(self.data)} if self.data else {}
        if self.mean_position is not None:
            learned["mean_position"] = as_plain(self.mean_position)
        if self.presence is not None:
            learned["present_from"] = list(self.presence)
        if self.offsets is not None:
            learned["offsets"] = self.offsets.tolist()
            learned["offsets_of"] = self.offsets_of
        if self.prior_scale is not None:
            learned["prior_scale"] = self.prior_scale
        if self.shape is not None:
            learned["shape"] = self.shape.learned()
        if self.pixel is not None:
            learned["pixel"] = list(self.pixel)
        if self.calibrations:
            learned["confidence"] = self.calibrations[0].learned()
        return learned

    def recall(self, learned: dict[str, Any]) -> None:
        self.presence = learned.get("present_from")
        before = learned.get("presence")
        if self.presence is None and before is not None:  # of core 0.1.0, which used the peaks' heights
            self.presence = before
            if self.defaults is not None:
                self.defaults.made_by = None
        self.offsets = from_plain(learned.get("offsets"), (len(self.run.outputs), self.run.dimensions))
        self.offsets_of = learned.get("offsets_of")
        self.prior_scale = learned.get("prior_scale")
        if "shape" in learned:
            self.shape = ShapePrior.read(learned["shape"])
        self.pixel = tuple(map(float, learned["pixel"])) if "pixel" in learned else None
        known = learned.get("confidence")
        self.calibrations = (ConfidenceCalibration.read(known),) if known else ()
        if "mean_position" in learned:
            shape = (len(self.run.outputs), self.run.dimensions)
            self.mean_position = from_plain(learned["mean_position"], shape)


def has_presence(learned: Mapping[str, Any]) -> bool:
    """Whether a model has thresholds of presence, in the format of this version or the previous one."""
    return bool(learned.get("present_from") or learned.get("presence"))


def same_decoder(one: str, other: str) -> bool:
    default = ("auto", "peak")
    return is_among(one, (other,)) or (is_among(one, default) and is_among(other, default))


def describe(config: RunConfig, dataset: LandmarkDataset, device: str) -> RunInfo:
    """The run description for plugins, from the configuration and the headers of the training images.

    Without training images, the evaluated images are used.
    """
    sampler, dimensions = config.sampler, dataset.dimensions
    sampler.check_dimensions(dimensions, str(dataset.path))
    samples = first_images(dataset, config)
    headers = [dataset.files.header(sample.image, dimensions) for sample in samples]
    spacings = []  # of the original pixels
    for sample, header in zip(samples, headers, strict=True):
        image_size = sampler.image_size or header.size
        if any(patch > image for patch, image in zip(sampler.sample_size, image_size, strict=True)):
            kind = "training image" if dataset.samples["training"] else "image"
            what = "sampler.input_size" if sampler.image_size else f"the {kind} {sample.image}"
            raise UserError(
                f"sampler.patch.sample_patch_size: {list(sampler.sample_size)} is larger than {what}, "
                f"{list(image_size)}; choose a smaller patch."
            )
        spacing = sample.spacing or header.spacing
        if spacing is not None:
            spacings.append(spacing)
    known = len(spacings) == len(headers)
    if known and sampler.image_size is not None:
        shape = None
        if sampler.letterbox_in == "mm":
            shape = input_pixel_shape([header.size for header in headers], spacings, sampler.image_size)
        spacings = [  # of the pixels that samples are cut from
            tuple(np.diag(resize_affine(header.size, sampler.image_size, sampler.resize, pixel))[:-1] * own)
            for header, own in zip(headers, spacings, strict=True)
            for pixel in [pixel_in(own, shape)]
        ]
    return RunInfo(
        task=config.task,
        dimensions=dimensions,
        in_channels=headers[0].channels,
        outputs=dataset.landmark_names,
        input_size=sampler.sample_size,
        spacing=tuple(float(s) for s in np.median(spacings, axis=0)) if known else None,
        supervised_resolutions=config.solver.num_res_supervisions if config.solver.deep_supervision else 1,
        device=device,
        seed=config.solver.seed,
    )


def first_images(dataset: LandmarkDataset, config: RunConfig) -> Sequence[Sample]:
    """The training samples; without any, the evaluated samples."""
    return dataset.samples["training"] or dataset.samples[config.inference.split]


def start_session(
    loaded: LoadedConfig, run: RunInfo, fabric: Fabric, centres: Centres | None = None
) -> LandmarkSession:
    """Start a run with plugins, network and loss; the same seed gives the same weights.

    Args:
        loaded: The configuration.
        run: Description of the run for plugins.
        fabric: The device.
        centres: Centres of patches, instead of the configured ones.
    """
    config = cast(RunConfig, loaded.run)
    defaults = LandmarkDefaults(config, run)
    hooks = assemble(loaded.plugins, run, defaults, LandmarkHooks)
    torch.manual_seed(run.seed)
    solver, start = config.solver, config.model.gauss_sigma
    width = None
    if solver.regress_sigma:
        width = LearnedSigma(run.outputs, run.dimensions, start, solver.regress_sigma == "covariance")
    learner = LandmarkLearner(
        hooks, start, config.model.hm_lambda_scale, width, solver.regress_sigma_loss_weight
    )
    defaults.made_by = learner.loss
    choose("inference.decoder", config.inference.decoder, hooks.decoders())  # raises now if unknown
    learner.sampler = sampler = config.sampler
    if sampler.in_patches and not hooks.answered("network_inputs"):
        try_patch(learner, run, str(loaded.architecture.installed))
    if centres is None and sampler.sample_mode == "patch_centred" and sampler.patch.centres is not None:
        centres = read_centres(sampler.patch.centres, run.outputs)
    return LandmarkSession(loaded, run, fabric, hooks, learner, centres=centres, defaults=defaults)


def pixel_shape(config: RunConfig, run: RunInfo) -> tuple[float, ...] | None:
    """The shape of an input pixel in mm in a run's description; see `PreparedImages`."""
    if config.sampler.letterbox_in == "pixels":
        return None
    spacing = run.spacing or (1.0,) * run.dimensions
    return tuple(round(length / min(spacing), 5) for length in spacing)


def say_shape(session: LandmarkSession) -> None:
    """Print a note if a letterbox does not give cubic pixels."""
    sampler, spacing = session.config.sampler, session.run.spacing
    if sampler.resize == "stretch" or sampler.image_size is None or spacing is None:
        return
    if max(pixel_shape(session.config, session.run) or [1]) > 1:
        echo(
            f"images are letterboxed to pixels of {'×'.join(f'{step:.3g}' for step in spacing)} mm, with "
            "their own proportions: cubes would leave most of sampler.input_size empty",
        )


def try_patch(learner: LandmarkLearner, run: RunInfo, architecture: str) -> None:
    """Raise a UserError for a patch size that the network does not accept, or that does not divide evenly."""
    size = "×".join(map(str, run.input_size))
    refused = f"sampler.patch.sample_patch_size: the network of {architecture} cannot take patches of {size}"
    learner.try_size(run)
    try:
        output_strides(learner.network.eval(), run.in_channels, run.input_size)
    except UserError as error:
        raise UserError(f"{refused}: {error}") from None
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{refused} ({reason}). Choose another size, such as a multiple of a larger power of two."
        ) from error


def prepare_images(
    session: LandmarkSession, samples: Sequence[Sample], title: str, reference: Path | None = None
) -> PreparedImages:
    """Read a split's images into memory, as many as fit."""
    sampler, run = session.config.sampler, session.run
    if session.centres is not None:
        check_centres(session.centres, samples, run.input_size, run.outputs, session.files)
    images = PreparedImages(
        samples,
        run.dimensions,
        run.in_channels,
        sampler.image_size,
        sampler.resize,
        cache_data=session.config.trainer.cache_data,
        dtype=getattr(torch, session.config.trainer.cache_dtype),
        reference=reference,
        files=session.files,
        normalisations=normalisations(session),
        pixel_shape=pixel_shape(session.config, run),
    )
    with progress_bar(f"reading {title} images", len(samples)) as bar:
        kept = images.preload(bar.advance)
    if session.config.trainer.cache_data and kept < len(samples):
        echo(f"{kept} of {len(samples)} {title} images fit into memory; the others are read when needed.")
    return images


def normalisations(session: LandmarkSession) -> list[Normalisation | None]:
    """One per channel; None is the core's z-score."""
    named, channels = session.config.sampler.normalisation, session.run.in_channels
    names = [named] * channels if isinstance(named, str) else named
    if len(names) != channels:
        raise UserError(
            f"sampler.normalisation: has {len(names)} entries, but the images have {channels} channel(s); "
            "give one per channel, or one for all."
        )
    clips = session.config.sampler.clip or [None] * channels
    if len(clips) != channels:
        raise UserError(
            f"sampler.clip: has {len(clips)} entries, but the images have {channels} channel(s); give one "
            "per channel."
        )

    def found(name: str, clip: Clip | None) -> Normalisation | None:
        known: dict[str, Callable[[], Normalisation | None]] = {
            "zscore": lambda: None,
            "none": lambda: unchanged,
            "ct": lambda: windowed(clip),
            **{one: lambda one=one: ZSCORES[one] for one in ZSCORES},  # type: ignore[misc]
        }
        return choose("sampler.normalisation", name, {**known, **session.hooks.normalisations()})()

    return [found(name, clip) for name, clip in zip(names, clips, strict=True)]


def windowed(clip: Clip | None) -> Window:
    if clip is None:
        raise UserError(
            "sampler.clip: a channel that is normalised as ct needs its four numbers here; leave the key out "
            "to have them measured."
        )
    return Window(*clip)


def with_clips(loaded: LoadedConfig, dataset: LandmarkDataset, channels: int) -> LoadedConfig:
    """The configuration, with measured numbers of `sampler.clip` if a channel needs them and they are not
    given."""
    config = cast(RunConfig, loaded.run)
    if config.sampler.clip or "sampler.clip" in config.idle_keys(()):
        return loaded
    # Folds of a cross-validation share the numbers, so that their models have the same input.
    samples = [*dataset.samples["training"], *dataset.samples["validation"]]
    measured = measured_clips(samples, channels, dataset.files)
    sampler = config.sampler.model_copy(update={"clip": measured})
    return replace(loaded, run=config.model_copy(update={"sampler": sampler}))


def unchanged(channel: NDArray[np.float32]) -> NDArray[np.float32]:
    return channel
