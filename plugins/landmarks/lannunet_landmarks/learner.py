"""The module that a landmark run optimises: network, loss and, if they are learned, the labels' widths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lannunet_images import level_scale
from torch import Tensor

from lannunet_core import (
    Floats,
    Learner,
    SigmaLoss,
    StridedLoss,
    UserError,
    level_sizes_of,
    levels,
    spatial_size,
)
from lannunet_landmarks.hooks import LandmarkHooks
from lannunet_landmarks.maps.labels import level_sigmas
from lannunet_landmarks.maps.learned_sigma import WIDEST, LearnedSigma, volumes
from lannunet_landmarks.schema import SamplerConfig

WIDTHS = "label_width."


class LandmarkLearner(Learner):
    """See `Learner`.

    Args:
        hooks: The run's hooks.
        sigma: Width of the Gaussians in input pixels.
        peak: Height of a heatmap.
        label_width: Learned width; replaces `sigma`.
        label_width_weight: `solver.regress_sigma_loss_weight`.

    Attributes:
        sampler: Determines the size of the network's inputs.
    """

    hooks: LandmarkHooks
    sampler: SamplerConfig | None = None

    def __init__(
        self,
        hooks: LandmarkHooks,
        sigma: float = 1.0,
        peak: float = 1.0,
        label_width: LearnedSigma | None = None,
        label_width_weight: float = 0.0,
    ) -> None:
        super().__init__(hooks)
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
        sizes = level_sizes_of(outputs, batch["image"].ndim - 2)
        count = batch["landmarks"].shape[1]
        self.check_channels(outputs, count)
        image_size = spatial_size(batch["image"])
        strides = [max(level_scale(image_size, size)) for size in sizes]
        if self.label_width is None:
            sigma = torch.full((count,), self.sigma, device=batch["landmarks"].device)
        else:
            self.label_width.keep_between(min(strides, default=1.0), WIDEST * min(image_size))
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

    def check_channels(self, outputs: Any, count: int) -> None:
        """Raise a UserError unless there is one map per landmark, which the task's labels and losses need."""
        if self.hooks.answering("loss") or self.hooks.answering("generate_labels"):
            return
        for maps in levels(outputs):
            if isinstance(maps, Tensor) and maps.ndim > 1 and maps.shape[1] != count:
                raise UserError(
                    f"The network of {self.hooks.answering('network')} returns {maps.shape[1]} maps, should "
                    f"be {count}, one per landmark: len(self.run.outputs) in the plugin."
                )

    def label_sigma(self) -> float:
        """The width of the labels' Gaussian in input pixels; the mean over landmarks if widths are
        learned."""
        return float(self.label_sigmas().mean())

    @torch.no_grad()
    def label_sigmas(self) -> Floats:
        """Each landmark's width (N,) if widths are learned, otherwise the width of all (1,)."""
        if self.label_width is None:
            return np.array([self.sigma])
        dimensions = self.label_width.dimensions
        widths = volumes(self.label_width()[None], dimensions)[0] ** (1 / dimensions)
        found: Floats = widths.double().cpu().numpy()
        return found

    def activate(self, outputs: Any, image_size: tuple[int, ...]) -> Any:
        sizes = level_sizes_of(outputs, len(image_size))
        if isinstance(self.loss, StridedLoss) and sizes:
            self.loss.stride = max(level_scale(image_size, sizes[0]))
        return super().activate(outputs, image_size)

    def advice(self, size: tuple[int, ...], nearest: tuple[int, ...]) -> tuple[str, str]:
        sampler, remedy = self.sampler, f"Set it to {list(nearest)}, which it takes."
        if sampler is None:
            return super().advice(size, nearest)
        if sampler.in_patches and size == sampler.sample_size:
            return "sampler.patch.sample_patch_size", remedy
        if size == sampler.image_size:
            return "sampler.input_size", remedy
        return (
            "sampler.patch.inference_mode",
            "Set it to patchify_and_stitch: images of any size are then predicted patch by patch.",
        )

    def figures(self) -> dict[str, Any]:
        return {} if self.label_width is None else self.label_width.figures()

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a state; the module's own widths are kept if `state_dict` has learned ones of another form."""
        own = {key: value for key, value in self.state_dict().items() if key.startswith(WIDTHS)}
        theirs = {
            key: value
            for key, value in state_dict.items()
            if not key.startswith(WIDTHS) or (key in own and own[key].shape == value.shape)
        }
        return super().load_state_dict(own | theirs, strict, assign)
