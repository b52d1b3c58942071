"""The loss: squared errors of heatmap and displacement, scaled to about 1 for an untrained network.

Shapes: B batch, N landmarks, D dimensions, P patches per axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lannunet_landmarks import penalties, volumes
from torch import Tensor, nn

from lannunet_core import State, UserError, sum_over_processes
from lannunet_phdnet.labels import undo_log_transform


class PatchLoss(nn.Module):
    """Loss with the named terms `heatmap` and `displacement`, for the branches of the network.

    Args:
        log_displacement: Whether displacements are log-transformed.
        displacement_unit: The displacement in the network's output that counts as an error of 1.
        has_widths: Whether the heatmap's labels are Gaussians, whose widths can be learned.
    """

    def __init__(self, log_displacement: bool, displacement_unit: float, has_widths: bool = True) -> None:
        super().__init__()
        self.log_displacement = log_displacement
        self.displacement_unit = displacement_unit
        self.has_widths = has_widths
        self.width_weight: float | None = None

    def learn_sigma(self, widths: Callable[[], Tensor], start: float, weight: float) -> None:
        if not self.has_widths:
            raise UserError(
                "solver.regress_sigma: needs heatmaps with Gaussians, which this PHD-Net does not have. Set "
                "model.phdnet.class_label_scheme to gaussian and branch_scheme to multi or heatmap, or "
                "regress_sigma to false."
            )
        self.width_weight = weight

    def forward(self, outputs: Mapping[str, Tensor], labels: Mapping[str, Any]) -> dict[str, Tensor]:
        """The terms for outputs of `PHDNet` and labels of `generate_labels`; `weight` (B, N) is optional."""
        state = labels["state"]
        counts = torch.ones(state.shape, device=state.device)
        counts = counts * labels.get("weight", counts)
        terms = {}
        if "heatmap" in outputs:
            error = (outputs["heatmap"].float() - labels["heatmap"].float()).square()
            of_landmark = (labels["heatmap_weight"].float() * error).flatten(2).sum(-1)
            labelled = (counts * (state != State.UNLABELLED)).flatten()
            if self.width_weight is not None:
                # The error divided by the label's squared volume, with a penalty on the width: see
                # lannunet_landmarks.maps.learned_sigma. heatmap_weight contains one division by the volume.
                volume = volumes(labels["sigmas"], error.ndim - 2)[0]
                visible = state == State.VISIBLE
                scale = volume.detach() / volume.square()
                of_landmark = of_landmark * torch.where(visible, scale, scale.detach())
                penalty = self.width_weight * penalties(labels["sigmas"], error.ndim - 2)[0] * visible
                terms["sigma"] = batch_mean(penalty.flatten(), labelled)
            terms["heatmap"] = batch_mean(of_landmark.flatten(), labelled)
        if "displacement" in outputs:
            error = (outputs["displacement"].float() - labels["displacement"].float()).square()
            dimensions = error.ndim - 2
            error = error.unflatten(1, (-1, dimensions)).mean(2) / self.displacement_unit**2  # (B, N, *P)
            of_landmark = weighted_mean(error.flatten(2), labels["displacement_weight"].float().flatten(2))
            terms["displacement"] = batch_mean(
                of_landmark.flatten(), (counts * (state == State.VISIBLE)).flatten()
            )
        return terms

    def activation(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert outputs to heatmaps within 0 … 1 and displacements in pixels."""
        maps = {}
        if "heatmap" in outputs:
            maps["heatmap"] = outputs["heatmap"].float().clamp(0, 1)
        if "displacement" in outputs:
            displacement = outputs["displacement"].float()
            maps["displacement"] = undo_log_transform(displacement) if self.log_displacement else displacement
        return maps


def batch_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over the batch of all processes; 0 with a gradient of 0 if all weights are 0."""
    total = sum_over_processes(weights.sum()).clamp(min=torch.finfo(weights.dtype).tiny)
    return sum_over_processes((values * (weights / total)).sum())


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean over the last axis; 0 with a gradient of 0 if all weights are 0."""
    total = weights.sum(-1, keepdim=True)
    return (values * (weights / torch.where(total > 0, total, 1))).sum(-1)
