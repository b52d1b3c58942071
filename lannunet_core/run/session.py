"""What a run, or a model in use, is made of: plugins, network and images on a device."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from lannunet_core.config.compose import LoadedConfig
from lannunet_core.config.schema import RunConfig
from lannunet_core.data.annotations import LandmarkDataset
from lannunet_core.data.centres import Centres, check_centres, read_centres
from lannunet_core.data.loading import PreparedImages, collate
from lannunet_core.data.reader import image_header
from lannunet_core.errors import UserError
from lannunet_core.geometry import resize_affine
from lannunet_core.learned_sigma import LearnedSigma
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.defaults import Defaults, chosen
from lannunet_core.plugins.manager import Hooks, build
from lannunet_core.training import progress as terminal
from lannunet_core.training.learner import Learner
from lannunet_core.training.patchwise import output_strides
from lannunet_core.types import Sample

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


@dataclass
class Session:
    """What a run, or a model in use, is made of."""

    loaded: LoadedConfig
    run: RunInfo
    fabric: Fabric
    hooks: Hooks
    learner: Learner
    presence: Sequence[float] | None = None
    """The least confidence with which each landmark is taken to be in an image; None: not known."""
    centres: Centres | None = None
    """With patch_centred: where the landmarks are looked for; None: where they are annotated."""

    @property
    def config(self) -> RunConfig:
        return self.loaded.run


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, as far as the system tells."""
    described = Path("/proc/cpuinfo")
    return described.exists() and bool({"avx512_bf16", "amx_bf16"} & set(described.read_text().split()))


def training_precision(config: RunConfig) -> Precision:
    """Mixed precision where it is asked for and the device has it. Prediction is always in float32."""
    if not config.solver.auto_mixed_precision:
        return "32-true"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    on_cpu = not torch.backends.mps.is_available()
    return "bf16-mixed" if on_cpu and cpu_has_bfloat16() else "32-true"


def make_fabric(config: RunConfig) -> Fabric:
    """One device, the best there is."""
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)  # run.json tells device and precision
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(accelerator="auto", devices=1, precision=training_precision(config))


def describe(config: RunConfig, dataset: LandmarkDataset, device: str) -> RunInfo:
    """What plugins are told, from the configuration and the headers of the training images."""
    sampler, dimensions = config.sampler, dataset.dimensions
    sizes = {"sampler.input_size": sampler.image_size}
    if sampler.in_patches:
        sizes["sampler.patch.sample_patch_size"] = sampler.sample_size
    for key, size in sizes.items():
        if size is not None and len(size) != dimensions:
            raise UserError(
                f"{key}: {list(size)} has {len(size)} numbers, but the coordinates in "
                f"{dataset.path} have {dimensions}; give one a dimension."
            )
    headers = [image_header(sample.image, dimensions) for sample in dataset.samples["training"]]
    spacings = []  # of the pixels that samples are cut from
    for sample, header in zip(dataset.samples["training"], headers, strict=True):
        image_size = sampler.image_size or header.size
        if any(patch > image for patch, image in zip(sampler.sample_size, image_size, strict=True)):
            what = "sampler.input_size" if sampler.image_size else f"the training image {sample.image}"
            raise UserError(
                f"sampler.patch.sample_patch_size: {list(sampler.sample_size)} is larger than {what}, "
                f"{list(image_size)}; choose a smaller patch."
            )
        spacing = sample.spacing or header.spacing
        if spacing is not None:
            matrix = resize_affine(header.size, image_size, sampler.resize)
            spacings.append(np.diag(matrix)[:-1] * spacing)
    known = len(spacings) == len(headers)
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


def start_session(
    loaded: LoadedConfig, run: RunInfo, fabric: Fabric, centres: Centres | None = None
) -> Session:
    """Plugins, network and loss of a run; the same seed gives the same weights.

    Args:
        loaded: The configuration.
        run: What plugins are told of it.
        fabric: The device.
        centres: Where patches are cut around, in place of what the configuration says.
    """
    config = loaded.run
    hooks = build(loaded, run, Defaults(config, run))
    torch.manual_seed(run.seed)
    if run.task == "segmentation":
        return Session(loaded, run, fabric, hooks, Learner(hooks))
    solver, start = config.solver, config.model.gauss_sigma
    width = None
    if solver.regress_sigma:
        width = LearnedSigma(run.outputs, run.dimensions, start, solver.regress_sigma == "covariance")
    learner = Learner(hooks, start, config.model.hm_lambda_scale, width, solver.regress_sigma_loss_weight)
    chosen("inference.decoder", config.inference.decoder, hooks.decoders())  # refused now if unknown
    sampler = config.sampler
    if sampler.in_patches:
        try_patch(learner, run, str(loaded.architecture.installed))
    if centres is None and sampler.sample_mode == "patch_centred" and sampler.patch.centres is not None:
        centres = read_centres(sampler.patch.centres, run.outputs)
    return Session(loaded, run, fabric, hooks, learner, centres=centres)


def try_patch(learner: Learner, run: RunInfo, architecture: str) -> None:
    """Refuse a patch size that the network cannot take, or divides into something with a remainder."""
    size = "×".join(map(str, run.input_size))
    refused = f"sampler.patch.sample_patch_size: the network of {architecture} cannot take patches of {size}"
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
    session: Session, samples: Sequence[Sample], title: str, reference: Path | None = None
) -> PreparedImages:
    """A split's images, read into memory as far as they fit."""
    sampler, run = session.config.sampler, session.run
    if session.centres is not None:
        check_centres(session.centres, samples, run.input_size, run.outputs)
    images = PreparedImages(
        samples,
        run.dimensions,
        run.in_channels,
        sampler.image_size,
        sampler.resize,
        cache_data=session.config.trainer.cache_data,
        reference=reference,
    )
    with terminal.bar(f"reading {title} images", len(samples)) as bar:
        kept = images.preload(bar.advance)
    if session.config.trainer.cache_data and kept < len(samples):
        print(f"{kept} of {len(samples)} {title} images fit into memory; the others are read when needed.")
    return images


def ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the workers leave when the main process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def make_loader(dataset: Any, workers: int, device: torch.device, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        pin_memory=device.type == "cuda",
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator(),  # the loader's own draws must not move the global generator
        **options,
    )
