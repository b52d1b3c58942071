"""The weight of each class: configured, or computed from its number of voxels in the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from lannunet_segmentation import CrossEntropyDice
from torch import Tensor

from lannunet_core import Floats, UserError, echo

Way = Literal["inverse_frequency", "effective_number"]
KEY = "trainer.ce-dice-weighted"


class Balanced(CrossEntropyDice):
    """`ce_dice` with class weights that are computed from the training set by `balance`.

    Args:
        plain: The loss from which the factors of the two terms are copied.
        way: See `computed_weights`.
        beta: See `computed_weights`.
        names: The K classes.
        ignored: The class without a gradient.
    """

    def __init__(
        self, plain: CrossEntropyDice, way: Way, beta: float, names: Sequence[str], ignored: int | None
    ) -> None:
        super().__init__(None, plain.ce_factor, plain.dice_factor)
        self.way, self.beta, self.names, self.ignored = way, beta, names, ignored

    def balance(self, voxels: Sequence[int]) -> None:
        """See `hookspecs.BalancedLoss`."""
        counts = np.array(voxels, np.float64)
        if self.ignored is not None:
            counts[self.ignored] = 0
        weights = computed_weights(counts, self.way, self.beta)
        if not weights[1:].any():
            raise UserError(
                f"{KEY}.class_weights: {self.way} needs a voxel of at least one class in the training set. "
                "Annotate a class, or give the weights."
            )
        shown = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(self.names, weights, strict=True))
        echo(f"class weights ({self.way}): {shown}")
        self.class_weights = torch.from_numpy(weights).float()


def computed_weights(voxels: Floats, way: Way, beta: float = 0.9999) -> Floats:
    """The weight of each class by its voxels n_k: mean 1 over classes with voxels; 0 for the others.

    - `inverse_frequency`: ∝ 1 / n_k.
    - `effective_number`: ∝ (1 − β) / (1 − β^n_k). (Cui, Jia, Lin, Song, Belongie: Class-Balanced Loss Based
      on Effective Number of Samples, CVPR 2019.) Classes with far more than 1 / (1 − β) voxels have equal
      weights.

    Args:
        voxels: (K,) numbers of voxels n_k.
        way: The formula.
        beta: β of `effective_number`.
    """
    weights, there = np.zeros(len(voxels)), voxels > 0
    if way == "inverse_frequency":
        weights[there] = 1 / voxels[there]
    else:
        weights[there] = (1 - beta) / -np.expm1(voxels[there] * np.log(beta)) if beta else 1
    weights *= there.sum() / max(weights.sum(), np.finfo(float).tiny)
    return weights


def given_weights(
    wanted: Sequence[float] | Mapping[str, float], names: Sequence[str], ignored: int | None
) -> Tensor:
    """The configured weights (K,).

    Raises:
        UserError: They are for other classes, or all classes except the background have the weight 0.
    """
    where = f"{KEY}.class_weights"
    if isinstance(wanted, Mapping):
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise UserError(f"{where}: '{unknown[0]}' is not a class. The classes are {', '.join(names)}.")
        wanted = [wanted.get(name, 1.0) for name in names]
    if len(wanted) != len(names):
        raise UserError(
            f"{where}: has {len(wanted)} weights for {len(names)} classes ({', '.join(names)}). Give one per "
            "class."
        )
    weights = torch.tensor(wanted, dtype=torch.float32)
    if ignored is not None:
        weights[ignored] = 0
    if not weights[1:].any():
        raise UserError(
            f"{where}: every class except the background has the weight 0. Give one of them a weight."
        )
    return weights


def label_value(ignored: int | str | None, names: Sequence[str]) -> int | None:
    """The label value of the class to ignore.

    Raises:
        UserError: There is no such class.
    """
    if ignored is None:
        return None
    value = names.index(ignored) if ignored in names else ignored
    if not isinstance(value, int) or not 0 <= value < len(names):
        known = ", ".join(f"{index} {name}" for index, name in enumerate(names))
        raise UserError(f"{KEY}.ignore_label: {ignored} is not a class. The classes are {known}.")
    return value
