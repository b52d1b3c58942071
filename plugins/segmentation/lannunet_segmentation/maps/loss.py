"""`ce_dice`: cross-entropy plus soft Dice, over the annotated voxels and classes."""

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

    Sums run over all voxels i of the batch; in a run on several devices, over the batches of all processes. A
    class without an annotated voxel in the batch has no Dice term; the cross-entropy still penalises it
    elsewhere. Patches with few annotations often lack classes. D_k is the soft Dice of Drozdzal et al. (The
    Importance of Skip Connections in Biomedical Image Segmentation, 2016), over the batch as in Isensee et
    al. (nnU-Net, Nature Methods 18, 2021), with weight w_i for each voxel; for w of 0 and 1 it is the Dice
    of the voxels with 1. s = `SMOOTH` times the mean of the positive weights, so that a common factor of the
    weights has no effect. Levels have weights 1, ½, ¼ …, normalised to sum 1.

    If a case lacks the annotation of some classes (`annotated`), its background may be any of these:
    in its cross-entropy p of the background is the sum of p over the background and those classes, and
    it is left out of their Dice. That is the marginal loss of Shi, Xiao, Chen, Zhou (Marginal loss and
    exclusion loss for partially supervised multi-organ segmentation, Medical Image Analysis 70, 2021);
    label sets are those of Fidon et al. (Label-set loss functions for partial
    supervision, MICCAI 2021).

    A voxel that is ignored or of weight 0 is left out of all sums, and has a gradient of exactly 0. Without
    any annotation, both terms are 0.

    Args:
        class_weights: (K,), at least 0; None: equal weights.
        ce_factor: Factor of the cross-entropy term.
        dice_factor: Factor of the Dice term.
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
        """Compute the loss of logits, one (B, K, *S_l) per level, finest first, or one tensor.

        It uses the labels `segmentation`, integers (B, *S_l) per level, and, if given,
        `weight`, (B, *S_l) per level, and `annotated`, (B, K), False where a case lacks a class's annotation.
        """
        logits: Sequence[Tensor] = levels(outputs)
        weights = labels.get("weight", [None] * len(logits))
        annotated: Tensor | None = labels.get("annotated")
        terms = [
            self._terms(output.float(), target.long(), _masked(weight, target), annotated)
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

    def _terms(
        self, logits: Tensor, target: Tensor, weight: Tensor, annotated: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and Dice of logits (B, K, *S) against (B, *S)."""
        tiny = torch.finfo(weight.dtype).tiny
        counts = weight if self.class_weights is None else weight * self.class_weights[target.clamp(min=0)]
        positive, total, of_classes = sum_over_processes(
            torch.stack([(weight > 0).sum(), weight.sum(), counts.sum()])
        )
        weight = weight * (positive / total.clamp(min=tiny))  # with a mean of 1 over weighted voxels
        log_probabilities = logits.log_softmax(1)

        known = log_probabilities if annotated is None else _marginal(log_probabilities, annotated)
        voxels = functional.nll_loss(known, target, reduction="none", ignore_index=IGNORE)
        cross_entropy = (counts / of_classes.clamp(min=tiny) * voxels).sum()

        sums = []
        # One class at a time: its mask is the largest tensor that is stored for the backward pass.
        for index, probability in enumerate(log_probabilities.exp().unbind(1)[1:], start=1):
            sums += _sums(probability, target == index, _counted(weight, annotated, index))
        cross_entropy, *sums = sum_over_processes(torch.stack([cross_entropy, *sums])).unbind()
        return cross_entropy, self._dice(sums, None if self.class_weights is None else self.class_weights[1:])

    def _dice(self, sums: Sequence[Tensor], class_weights: Tensor | None) -> Tensor:
        """The Dice term from the results of `_sums` for each class."""
        common, found, wanted = (torch.stack(list(sums[kind::3])) for kind in range(3))
        losses = 1 - (2 * common + self.SMOOTH) / (found + wanted + self.SMOOTH)
        shares = (wanted > 0).float()
        if class_weights is not None:
            shares = shares * class_weights
        return (shares / shares.sum().clamp(min=torch.finfo(shares.dtype).tiny) * losses).sum()


class RegionCrossEntropyDice(CrossEntropyDice):
    """As `CrossEntropyDice` for regions, which may overlap: each is one output, against everything else.

    With the weights w of `CrossEntropyDice`, sigmoids p and y_ir = 1 where voxel i is of region r:

        cross-entropy   −Σ_i Σ_r w_ir (y_ir log p_ir + (1 − y_ir) log(1 − p_ir)) / Σ_i Σ_r w_ir
        Dice            1 − D_r, averaged over the regions of which the batch has an annotated voxel

    w_ir is w_i, and 0 where the case lacks the annotation of the region. (Isensee et al., nnU-Net for Brain
    Tumor Segmentation, 2020.)

    Args:
        regions: The label values of each of the R outputs.
    """

    def __init__(self, regions: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.regions = tuple(map(tuple, regions))

    def activation(self, outputs: Any) -> Tensor:
        """Probabilities of the regions: (B, R, *S)."""
        return levels(outputs)[0].float().sigmoid()

    def _terms(
        self, logits: Tensor, target: Tensor, weight: Tensor, annotated: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and Dice of logits (B, R, *S) against (B, *S)."""
        tiny = torch.finfo(weight.dtype).tiny
        positive, total = sum_over_processes(torch.stack([(weight > 0).sum(), weight.sum()]))
        weight = weight * (positive / total.clamp(min=tiny))  # with a mean of 1 over weighted voxels
        entropies, counts, sums = [], [], []
        for index, (logit, labels) in enumerate(zip(logits.unbind(1), self.regions, strict=True)):
            hit = torch.isin(target, target.new_tensor(labels))
            counted = _counted(weight, annotated, index)
            entropy = functional.binary_cross_entropy_with_logits(logit, hit.float(), reduction="none")
            entropies.append((counted * entropy).sum())
            counts.append(counted.sum())
            sums += _sums(logit.sigmoid(), hit, counted)
        entropy, count, *sums = sum_over_processes(
            torch.stack([torch.stack(entropies).sum(), torch.stack(counts).sum(), *sums])
        ).unbind()
        return entropy / count.clamp(min=tiny), self._dice(sums, None)


def _masked(weight: Tensor | None, target: Tensor) -> Tensor:
    """Weights (B, *S), 0 without annotation."""
    annotated = target != IGNORE
    return annotated.float() if weight is None else torch.where(annotated, weight.float(), 0.0)


def _sums(probability: Tensor, hit: Tensor, weight: Tensor) -> list[Tensor]:
    """The sums of one class's soft Dice: its p where it is, its p, and its voxels; all are (B, *S)."""
    weighted = weight * probability
    return [torch.where(hit, weighted, 0.0).sum(), weighted.sum(), torch.where(hit, weight, 0.0).sum()]


def _counted(weight: Tensor, annotated: Tensor | None, index: int) -> Tensor:
    """Weights (B, *S), 0 in the cases that lack the annotation of output `index`."""
    if annotated is None:
        return weight
    return weight * annotated[:, index].to(weight).reshape(-1, *[1] * (weight.ndim - 1))


def _marginal(log_probabilities: Tensor, annotated: Tensor) -> Tensor:
    """Logarithms (B, K, *S) of probabilities; the background's includes all classes without annotation."""
    merged = ~annotated.bool()
    merged[:, 0] = True
    shape = (*merged.shape, *[1] * (log_probabilities.ndim - 2))
    background = log_probabilities.masked_fill(~merged.reshape(shape), -torch.inf).logsumexp(1, keepdim=True)
    return torch.cat([background, log_probabilities[:, 1:]], 1)
