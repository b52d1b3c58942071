"""The loss: squared errors of heatmap and displacement, in units in which knowing nothing costs about 1.

Shapes: B batch, N landmarks, D dimensions, P patches an axis.
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
    """Named terms `heatmap` and `displacement`, of those branches that the network has.

    Args:
        log_displacement: Displacements are log-transformed.
        displacement_unit: What counts as an error of 1 in the displacement that the network puts out.
        has_widths: Whether the heatmap's labels are Gaussians, the widths of which can be learned.
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
                "solver.regress_sigma: PHD-Net learns the width of its heatmaps' Gaussians, and has none; "
                "set model.phdnet.class_label_scheme to gaussian and branch_scheme to multi or heatmap, or "
                "regress_sigma to false."
            )
        self.width_weight = weight

    def forward(self, outputs: Mapping[str, Tensor], labels: Mapping[str, Any]) -> dict[str, Tensor]:
        """Outputs of `PHDNet`, labels of `generate_labels`, with `weight` (B, N) if there is one."""
        state = labels["state"]
        counts = torch.ones(state.shape, device=state.device)
        counts = counts * labels.get("weight", counts)
        terms = {}
        if "heatmap" in outputs:
            error = (outputs["heatmap"].float() - labels["heatmap"].float()).square()
            of_landmark = (labels["heatmap_weight"].float() * error).flatten(2).sum(-1)
            labelled = (counts * (state != State.UNLABELLED)).flatten()
            if self.width_weight is not None:
                # The error over the label's squared volume, with a penalty on the width: see
                # lannunet_landmarks.maps.learned_sigma. heatmap_weight has divided by the volume once.
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
        """Heatmaps within 0 … 1, displacements in pixels."""
        maps = {}
        if "heatmap" in outputs:
            maps["heatmap"] = outputs["heatmap"].float().clamp(0, 1)
        if "displacement" in outputs:
            displacement = outputs["displacement"].float()
            maps["displacement"] = undo_log_transform(displacement) if self.log_displacement else displacement
        return maps


def batch_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Over the batch of all processes; where nothing has weight it is 0, with a gradient of 0."""
    total = sum_over_processes(weights.sum()).clamp(min=torch.finfo(weights.dtype).tiny)
    return sum_over_processes((values * (weights / total)).sum())


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Over the last axis; where nothing has weight it is 0, with a gradient of 0."""
    total = weights.sum(-1, keepdim=True)
    return (values * (weights / torch.where(total > 0, total, 1))).sum(-1)
