"""`ce_dice`: cross-entropy plus soft Dice, of the voxels that were annotated, each with its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lannunet_core import levels, sum_over_processes
from lannunet_segmentation.types import IGNORE


class CrossEntropyDice(nn.Module):
    """Both terms of a level, with voxel weights w, class weights c, labels y and probabilities p:

        cross-entropy   Σ_i w_i c_{y_i} (−log p_{i, y_i}) / Σ_i w_i c_{y_i}
        Dice            Σ_k c_k (1 − D_k) / Σ_k c_k,    over the annotated classes k without the background,
                        D_k = (2 Σ_i w_i p_ik [y_i = k] + s) / (Σ_i w_i p_ik + Σ_i w_i [y_i = k] + s)

    Sums run over all voxels i of the batch, in a run on several devices that of all processes. A class of
    which the batch has no annotated voxel has no Dice to learn; the cross-entropy says where it is not.
    Patches with few annotations lack classes often. D_k is the soft Dice of Drozdzal et al. (The Importance
    of Skip Connections in Biomedical Image Segmentation, 2016), over the batch as in Isensee et al. (nnU-
    Net, Nature Methods 18, 2021), with each voxel counted w_i times; for w of 0 and 1 it is the Dice of the
    voxels with 1. s = `SMOOTH` times the mean of the positive weights, so that a common factor of the
    weights changes nothing. Levels count 1, ½, ¼ …, normalised to sum 1.

    A voxel that is ignored or of weight 0 has no part in any sum, and a gradient of exactly 0. Where nothing
    is annotated, both terms are 0.

    Args:
        class_weights: (K,), at least 0; None: all alike.
        ce_factor: Of the cross-entropy term.
        dice_factor: Of the Dice term.
    """

    SMOOTH = 1e-5

    class_weights: Tensor | None

    def __init__(
        self, class_weights: Tensor | None = None, ce_factor: float = 1.0, dice_factor: float = 1.0
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.ce_factor, self.dice_factor = ce_factor, dice_factor

    def forward(self, outputs: Any, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        """Takes logits (B, K, *S_l) a level, finest first, or one tensor.

        Of the labels it reads `segmentation`, (B, *S_l) of integers a level, and, where it is given,
        `weight`, (B, *S_l) a level.
        """
        logits: Sequence[Tensor] = levels(outputs)
        weights = labels.get("weight", [None] * len(logits))
        terms = [
            self._terms(output.float(), target.long(), weight)
            for output, target, weight in zip(logits, labels["segmentation"], weights, strict=True)
        ]
        shares = [0.5**level / (2 - 0.5 ** (len(terms) - 1)) for level in range(len(terms))]
        cross_entropy, dice = (
            torch.stack([share * term for share, term in zip(shares, kind, strict=True)]).sum()
            for kind in zip(*terms, strict=True)
        )
        return {"cross_entropy": self.ce_factor * cross_entropy, "dice": self.dice_factor * dice}

    def activation(self, outputs: Any) -> Tensor:
        """Probabilities of the classes: (B, K, *S)."""
        return levels(outputs)[0].float().softmax(1)

    def _terms(self, logits: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Cross-entropy and Dice of logits (B, K, *S) against (B, *S)."""
        annotated = target != IGNORE
        weight = annotated.float() if weight is None else torch.where(annotated, weight.float(), 0.0)
        tiny = torch.finfo(weight.dtype).tiny
        counts = weight if self.class_weights is None else weight * self.class_weights[target.clamp(min=0)]
        positive, total, of_classes = sum_over_processes(
            torch.stack([(weight > 0).sum(), weight.sum(), counts.sum()])
        )
        weight = weight * (positive / total.clamp(min=tiny))  # a mean of 1 where it counts
        log_probabilities = logits.log_softmax(1)

        voxels = functional.nll_loss(log_probabilities, target, reduction="none", ignore_index=IGNORE)
        cross_entropy = (counts / of_classes.clamp(min=tiny) * voxels).sum()

        sums = []
        # One class at a time: its labels as a mask are the most that is held for the backward pass.
        for index, probability in enumerate(log_probabilities.exp().unbind(1)[1:], start=1):
            hit = target == index
            weighted = weight * probability
            sums += [
                torch.where(hit, weighted, 0.0).sum(),
                weighted.sum(),
                torch.where(hit, weight, 0.0).sum(),
            ]
        cross_entropy, *sums = sum_over_processes(torch.stack([cross_entropy, *sums])).unbind()
        common, found, wanted = (torch.stack(sums[kind::3]) for kind in range(3))
        losses = 1 - (2 * common + self.SMOOTH) / (found + wanted + self.SMOOTH)
        shares = (wanted > 0).float()
        if self.class_weights is not None:
            shares = shares * self.class_weights[1:]
        return cross_entropy, (shares / shares.sum().clamp(min=tiny) * losses).sum()
