"""The core's own answers to every hook but `network`. They use nothing that a plugin cannot use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lannunet_core.config.schema import SegmentationRunConfig
from lannunet_core.errors import UserError
from lannunet_core.plugins.api import RunInfo, hookimpl

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lannunet_core.config.schema import RunConfig, SolverConfig
    from lannunet_core.hookspecs import Coordinates, Decoder, EvaluationMode, Loss, Sampling
    from lannunet_core.plugins.manager import Hooks
    from lannunet_core.stitch import Windows
    from lannunet_core.types import Prediction

Built = TypeVar("Built")

POLY_EXPONENT = 0.9
NESTEROV_MOMENTUM = 0.99
SGD_WEIGHT_DECAY = 3e-5


def poly_schedule(optimizer: torch.optim.Optimizer, total_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate times (1 − progress)^0.9 (Chen et al. 2017, DeepLab); learned widths start later."""
    from torch.optim.lr_scheduler import LambdaLR

    from lannunet_core.learned_sigma import HOLD

    def factor(step: int) -> float:
        return float(max(0.0, 1 - step / total_steps) ** POLY_EXPONENT)

    def held(step: int) -> float:
        return factor(step) if step >= HOLD * total_steps else 0.0

    return LambdaLR(optimizer, [factor, *[held] * (len(optimizer.param_groups) - 1)])


class Defaults:
    """Registered at the bottom of every run.

    Attributes:
        hooks: The run's hooks, set when they are built: all are asked for names.
    """

    hooks: Hooks

    def __init__(self, config: RunConfig, run: RunInfo) -> None:
        self.config = config
        self.run = run

    @hookimpl
    def optimizer_and_scheduler(
        self, module: nn.Module, solver: SolverConfig, base_lr: float, total_steps: int
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
        import torch

        from lannunet_core.learned_sigma import MOMENTUM, parameter_groups

        groups = parameter_groups(module, base_lr)
        optimizer: torch.optim.Optimizer
        if solver.optimizer == "sgd":
            for widths in groups[1:]:
                widths["momentum"] = MOMENTUM
            optimizer = torch.optim.SGD(
                groups,
                lr=base_lr,
                momentum=NESTEROV_MOMENTUM,
                nesterov=True,
                weight_decay=SGD_WEIGHT_DECAY,
            )
        else:
            optimizer = torch.optim.AdamW(groups, lr=base_lr)
        return optimizer, poly_schedule(optimizer, total_steps) if solver.decay_policy == "poly" else None

    @hookimpl
    def loss(self) -> Loss:
        return chosen("solver.loss_function", self.config.solver.loss_function, self.hooks.losses())()

    @hookimpl
    def losses(self) -> Mapping[str, Callable[[], Loss]]:
        if self.run.task == "segmentation":
            from lannunet_core.segmentation.loss import CrossEntropyDice

            return {"ce_dice": CrossEntropyDice}
        from lannunet_core.losses import LOSSES

        model = self.config.model
        finest = max(model.gauss_sigma, 1.0)  # no level's Gaussian is narrower than a pixel
        return {
            name: partial(build, model.hm_lambda_scale, finest, self.run.dimensions)
            for name, build in LOSSES.items()
        }

    @hookimpl
    def sampling(self) -> Sampling:
        if isinstance(self.config, SegmentationRunConfig):
            from lannunet_core.segmentation.sampling import ForegroundBias

            patches = self.config.sampler
            return ForegroundBias(patches.patch.sample_patch_size, patches.foreground_share)
        from lannunet_core.data.centres import read_centres
        from lannunet_core.data.sampling import FullImage, PatchBias, PatchCentred

        sampler = self.config.sampler
        patch = sampler.patch
        if sampler.sample_mode == "patch_bias":
            return PatchBias(patch.sample_patch_size, patch.sampler_bias)
        if sampler.sample_mode == "patch_centred":
            centres = None if patch.centres is None else read_centres(patch.centres, self.run.outputs)
            seed = self.run.seed if patch.deterministic_jitter else None
            return PatchCentred(patch.sample_patch_size, patch.jitter_pixels, centres, seed)
        return FullImage(sampler.sample_size)

    @hookimpl
    def generate_labels(
        self,
        landmarks: Tensor,
        states: Tensor,
        corner: Tensor,
        image_size: tuple[int, ...],
        sigmas: Tensor,
        num_res_levels: int,
        level_sizes: Sequence[tuple[int, ...]],
        lambda_scale: float,
        sample: Mapping[str, Any],
    ) -> dict[str, Any]:
        if self.run.task == "segmentation":
            from lannunet_core.segmentation.labels import segmentation_labels

            levels = segmentation_labels(sample["label"], level_sizes, sample.get("weight"))
            return {"state": states, **levels}
        from lannunet_core.labels import generate_labels

        return generate_labels(
            landmarks, states, corner, image_size, sigmas, num_res_levels, level_sizes, lambda_scale, sample
        )

    @hookimpl
    def get_coords_from_heatmap(
        self, heatmaps: Any, affine: Tensor, original_sizes: Tensor, evaluation_mode: EvaluationMode
    ) -> Coordinates:
        return self._decoder(
            heatmaps=heatmaps, affine=affine, original_sizes=original_sizes, evaluation_mode=evaluation_mode
        )

    @cached_property
    def _decoder(self) -> Decoder:
        return chosen("inference.decoder", self.config.inference.decoder, self.hooks.decoders())()

    @hookimpl
    def stitch_heatmap(
        self, patches: Iterable[tuple[Any, Sequence[tuple[int, ...]]]], windows: Windows
    ) -> Any:
        from lannunet_core.stitch import stitch

        return stitch(patches, windows)

    @hookimpl
    def get_segmentation(self, maps: Tensor) -> Tensor:
        return maps.argmax(0)

    @hookimpl
    def decoders(self) -> Mapping[str, Callable[[], Decoder]]:
        from lannunet_core.decode import DECODERS

        return DECODERS

    @hookimpl
    def debug_sample(self, batch: Mapping[str, Any], labels: Mapping[str, Any], folder: Path) -> bool:
        if self.run.task == "segmentation":
            from lannunet_core.segmentation.pictures import draw_training_patches

            draw_training_patches(batch, folder)
            return True
        from lannunet_core.evaluation.pictures import draw_training_batch

        draw_training_batch(batch, labels, folder)
        return True

    @hookimpl
    def debug_prediction(
        self, batch: Mapping[str, Any], heatmaps: Any, predictions: Sequence[Prediction], folder: Path
    ) -> bool:
        from lannunet_core.evaluation.pictures import draw_predicted_maps

        draw_predicted_maps(batch, heatmaps, predictions, folder)
        return True


def chosen(key: str, name: str, known: Mapping[str, Built]) -> Built:
    """What `name` stands for among `known`, in any spelling of its case."""
    from difflib import get_close_matches

    by_name = {other.lower(): value for other, value in known.items()}
    if name.lower() in by_name:
        return by_name[name.lower()]
    nearest = get_close_matches(name.lower(), by_name, n=1)
    hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
    raise UserError(f"{key}: '{name}' is not known; there are {', '.join(sorted(known))}.{hint}")
