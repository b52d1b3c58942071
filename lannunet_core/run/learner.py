"""The one module that is optimised: network, label parameters and loss, so that each is wrapped, optimised,
checkpointed and resumed alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.errors import UserError
from lannunet_core.hookspecs import Loss, SigmaLoss
from lannunet_core.labels import level_scale, level_sigmas
from lannunet_core.learned_sigma import WIDEST, LearnedSigma
from lannunet_core.plugins.manager import Hooks
from lannunet_core.segmentation.types import ExtraMap


def map_tensors(nest: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply `function` to every tensor of a nest of lists, tuples and dicts."""
    if isinstance(nest, Tensor):
        return function(nest)
    if isinstance(nest, Mapping):
        return {key: map_tensors(value, function) for key, value in nest.items()}
    if isinstance(nest, (list, tuple)):
        return type(nest)(map_tensors(value, function) for value in nest)
    return nest


def spatial_size(tensor: Tensor) -> tuple[int, ...]:
    """(x, y[, z]) of a tensor (B, C, *S)."""
    return tuple(reversed(tensor.shape[2:]))


def level_sizes_of(outputs: Any) -> list[tuple[int, ...]]:
    """Sizes (x, y[, z]) of a network's outputs, finest first; those of the first tensors for other nests."""
    if isinstance(outputs, Tensor):
        return [spatial_size(outputs)]
    if isinstance(outputs, Mapping):
        outputs = list(outputs.values())
    return [size for output in outputs for size in level_sizes_of(output)[:1]]


class Unrounded:
    """A batch that passes through Fabric's wrapper as it is.

    Under mixed precision the wrapper rounds every tensor that it sees, and 8 bits are half a pixel of a
    coordinate beyond 128.
    """

    def __init__(self, batch: Mapping[str, Any]) -> None:
        self.batch = batch


class Learner(nn.Module):
    """Network, label parameters and loss of a run.

    Args:
        hooks: The run's hooks.
        sigma: Width of the Gaussians in input pixels.
        peak: Height of a heatmap.
        label_width: Takes the place of `sigma`, where it is learned.
        label_width_weight: `solver.regress_sigma_loss_weight`.

    Attributes:
        extra_maps: What batches hold beside images and labels.
    """

    extra_maps: Sequence[ExtraMap] = ()

    def __init__(
        self,
        hooks: Hooks,
        sigma: float = 1.0,
        peak: float = 1.0,
        label_width: LearnedSigma | None = None,
        label_width_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = hooks.network()
        self.loss: Loss = hooks.loss()
        self.hooks = hooks
        self.sigma = sigma
        self.peak = peak
        self.label_width = label_width
        if label_width is not None:
            if not isinstance(self.loss, SigmaLoss):
                raise UserError(
                    "solver.regress_sigma: the loss of this run does not learn the heatmaps' width; use "
                    "solver.loss_function kl or mse, or set regress_sigma to false."
                )
            self.loss.learn_sigma(label_width.forward, sigma, label_width_weight)

    def labels(self, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
        sizes = level_sizes_of(outputs)
        count = batch["landmarks"].shape[1]
        image_size = spatial_size(batch["image"])
        strides = [max(level_scale(image_size, size)) for size in sizes]
        if self.label_width is None:
            sigma = torch.full((count,), self.sigma, device=batch["landmarks"].device)
        else:
            self.label_width.keep_between(min(strides), WIDEST * min(image_size))
            sigma = self.label_width()
        sigmas = level_sigmas(sigma, strides)
        labels = self.hooks.generate_labels(
            landmarks=batch["landmarks"],
            states=batch["states"],
            corner=batch["corner"],
            image_size=image_size,
            sigmas=sigmas,
            num_res_levels=len(sizes),
            level_sizes=sizes,
            lambda_scale=self.peak,
            sample=batch,
        )
        return labels if self.label_width is None else labels | {"sigmas": sigmas}

    def forward(self, given: Mapping[str, Any] | Unrounded) -> dict[str, Tensor]:
        """A training batch to its loss terms; labels and loss in float32, outside of autocast."""
        batch = given.batch if isinstance(given, Unrounded) else given
        outputs = self.network(batch["image"])
        with torch.autocast(batch["image"].device.type, enabled=False):
            outputs = map_tensors(outputs, Tensor.float)
            return self.loss(outputs, self.labels(batch, outputs))

    def maps(self, image: Tensor) -> Any:
        """Image (B, C, *S) to activated maps in float32."""
        return self.loss.activation(map_tensors(self.network(image), Tensor.float))
