"""The one module that is optimised: network, label parameters and loss, so that each is wrapped, optimised,
checkpointed and resumed alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lannunet_core.errors import UserError
from lannunet_core.hookspecs import Loss
from lannunet_core.labels import level_sigmas
from lannunet_core.plugins.manager import Hooks


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


class Learner(nn.Module):
    """Network, label parameters and loss of a run.

    Args:
        hooks: The run's hooks.
        sigma: Width of the Gaussians in input pixels.
        peak: Height of a heatmap.
    """

    def __init__(self, hooks: Hooks, sigma: float, peak: float) -> None:
        super().__init__()
        self.network = hooks.network()
        self.loss: Loss = hooks.loss()
        self.hooks = hooks
        self.sigma = sigma
        self.peak = peak

    def labels(self, batch: Mapping[str, Any], outputs: Any) -> dict[str, Any]:
        sizes = level_sizes_of(outputs)
        count = batch["landmarks"].shape[1]
        sigma = torch.full((count,), self.sigma, device=batch["landmarks"].device)
        return self.hooks.generate_labels(
            landmarks=batch["landmarks"],
            states=batch["states"],
            corner=batch["corner"],
            image_size=spatial_size(batch["image"]),
            sigmas=level_sigmas(sigma, len(sizes)),
            num_res_levels=len(sizes),
            level_sizes=sizes,
            lambda_scale=self.peak,
            sample=batch,
        )

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """A training batch to its loss terms. Labels and loss are computed in float32, outside of autocast."""
        outputs = self.network(batch["image"])
        with torch.autocast(batch["image"].device.type, enabled=False):
            outputs = map_tensors(outputs, Tensor.float)
            return self.loss(outputs, self.labels(batch, outputs))

    def maps(self, image: Tensor) -> Any:
        """Image (B, C, *S) to activated maps in float32."""
        outputs = self.network(image)
        with torch.autocast(image.device.type, enabled=False):
            return self.loss.activation(map_tensors(outputs, Tensor.float))


def check_network(learner: Learner, probe: Tensor, outputs: int, plugin: str) -> None:
    """One forward pass of `probe` (B, C, *S): a network of the wrong width is the author's to hear of early."""
    was_training = learner.training
    learner.eval()
    with torch.inference_mode():
        answer = learner.network(probe)
    learner.train(was_training)
    finest = answer[0] if isinstance(answer, (list, tuple)) else answer
    if not isinstance(finest, Tensor):
        return
    if finest.dim() != probe.dim() or finest.shape[0] != probe.shape[0]:
        raise UserError(
            f"plugin {plugin}: its network answers a tensor of shape {tuple(finest.shape)} to an image of shape "
            f"{tuple(probe.shape)}; the contract is (B, N, *S) with N = {outputs}."
        )
