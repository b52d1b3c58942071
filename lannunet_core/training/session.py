"""What a run, or a model in use, is made of: plugins, network and images on a device."""

from __future__ import annotations

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
from lannunet_core.data.loading import EvaluationSamples, PreparedImages, batches, collate
from lannunet_core.data.reader import image_header
from lannunet_core.errors import UserError
from lannunet_core.evaluation.summary import radial_errors
from lannunet_core.geometry import resize_affine
from lannunet_core.plugins.api import RunInfo
from lannunet_core.plugins.defaults import Defaults
from lannunet_core.plugins.manager import Hooks, build
from lannunet_core.training import predictor
from lannunet_core.training import progress as terminal
from lannunet_core.training.learner import Learner
from lannunet_core.types import Prediction, Sample, State


@dataclass
class Session:
    """What a run, or a model in use, is made of."""

    loaded: LoadedConfig
    run: RunInfo
    fabric: Fabric
    hooks: Hooks
    learner: Learner

    @property
    def config(self) -> RunConfig:
        return self.loaded.run


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16, as far as the system tells."""
    described = Path("/proc/cpuinfo")
    return described.exists() and bool({"avx512_bf16", "amx_bf16"} & set(described.read_text().split()))


def make_fabric(config: RunConfig) -> Fabric:
    """One device, the best there is, in mixed precision where that is asked for and the device has it."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    if config.solver.auto_mixed_precision:
        if torch.cuda.is_available():
            precision = "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
        elif not torch.backends.mps.is_available() and cpu_has_bfloat16():
            precision = "bf16-mixed"
    return Fabric(accelerator="auto", devices=1, precision=precision)


def describe(config: RunConfig, dataset: LandmarkDataset, device: str) -> RunInfo:
    """What plugins are told, from the configuration and the headers of the training images."""
    size, dimensions = config.sampler.input_size, dataset.dimensions
    if len(size) != dimensions:
        raise UserError(
            f"sampler.input_size: {list(size)} has {len(size)} numbers, but the coordinates in "
            f"{dataset.path} have {dimensions}; give one a dimension."
        )
    headers = [image_header(sample.image, dimensions) for sample in dataset.samples["training"]]
    spacings = []  # of input pixels
    for sample, header in zip(dataset.samples["training"], headers, strict=True):
        spacing = sample.spacing or header.spacing
        if spacing is not None:
            matrix = resize_affine(header.size, size, config.sampler.resize)
            spacings.append(np.diag(matrix)[:-1] * spacing)
    known = len(spacings) == len(headers)
    return RunInfo(
        task=config.task,
        dimensions=dimensions,
        in_channels=headers[0].channels,
        outputs=dataset.landmark_names,
        input_size=size,
        spacing=tuple(float(s) for s in np.median(spacings, axis=0)) if known else None,
        supervised_resolutions=config.solver.num_res_supervisions if config.solver.deep_supervision else 1,
        device=device,
        seed=config.solver.seed,
    )


def start_session(loaded: LoadedConfig, run: RunInfo, fabric: Fabric) -> Session:
    """Plugins, network and loss of a run; the same seed gives the same weights."""
    config = loaded.run
    hooks = build(loaded, run, Defaults(config, run))
    torch.manual_seed(run.seed)
    learner = Learner(hooks, config.model.gauss_sigma, config.model.hm_lambda_scale)
    return Session(loaded, run, fabric, hooks, learner)


def prepare_images(
    session: Session, samples: Sequence[Sample], title: str, reference: Path | None = None
) -> PreparedImages:
    """A split's images, read into memory as far as they fit."""
    sampler, run = session.config.sampler, session.run
    images = PreparedImages(
        samples,
        run.dimensions,
        run.in_channels,
        run.input_size,
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


class Evaluator:
    """Predicts one split with a session's learner."""

    def __init__(
        self, session: Session, images: PreparedImages, samples: Sequence[Sample], title: str
    ) -> None:
        self.session, self.samples, self.title = session, samples, title
        self.loader = make_loader(
            EvaluationSamples(images, samples),
            0,
            session.fabric.device,
            batch_size=session.config.solver.data_loader_batch_size_eval,
        )

    def predict(self, debug_folder: Path | None = None) -> list[Prediction]:
        session = self.session
        with terminal.bar(f"predicting {self.title} images", len(self.samples)) as bar:
            return predictor.predict(
                session.learner,
                session.hooks,
                session.fabric,
                batches(self.loader),
                self.samples,
                session.config.inference.evaluation_mode,
                debug_folder,
                bar.advance,
            )

    def error(self) -> float | None:
        """Mean radial error in pixels, None where nothing is annotated.

        A landmark that was not found counts as far off as the first pixel is from the farthest annotation.
        """
        predictions = self.predict()
        targets = np.concatenate(
            [p.target for p in predictions if p.target is not None] or [np.empty((0, 1))]
        )
        if not np.isfinite(targets).any():
            return None
        lost = float(np.nanmax(np.linalg.norm(targets, axis=-1)))
        errors = []
        for prediction in predictions:
            if prediction.target is not None and prediction.states is not None:
                visible = prediction.states == State.VISIBLE
                errors.append(np.nan_to_num(radial_errors(prediction)[0], nan=lost)[visible])
        return float(np.concatenate(errors).mean())
