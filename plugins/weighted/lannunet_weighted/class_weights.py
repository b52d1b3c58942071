"""The weight of each class: as configured, or by its number of voxels in the training set."""

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
    """`ce_dice` with class weights that follow from the training set, once that is known.

    Args:
        plain: Whose factors it has.
        way: See `computed_weights`.
        beta: The same.
        names: The K classes.
        ignored: The class that has no gradient.
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
                "Annotate some, or give the weights."
            )
        shown = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(self.names, weights, strict=True))
        echo(f"class weights ({self.way}): {shown}")
        self.class_weights = torch.from_numpy(weights).float()


def computed_weights(voxels: Floats, way: Way, beta: float = 0.9999) -> Floats:
    """The weight of each class by its voxels n_k, on average 1 over those that have any; 0 for the others.

    - `inverse_frequency`: ∝ 1 / n_k.
    - `effective_number`: ∝ (1 − β) / (1 − β^n_k). (Cui, Jia, Lin, Song, Belongie: Class-Balanced Loss Based
      on Effective Number of Samples, CVPR 2019.) With many more voxels than 1 / (1 − β) classes weigh alike.

    Args:
        voxels: (K,).
        way: Which.
        beta: β.
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
    """(K,) as the YAML has them.

    Raises:
        UserError: They are of other classes, or no class is left.
    """
    where = f"{KEY}.class_weights"
    if isinstance(wanted, Mapping):
        unknown = [name for name in wanted if name not in names]
        if unknown:
            raise UserError(f"{where}: there is no class '{unknown[0]}'; there are {', '.join(names)}.")
        wanted = [wanted.get(name, 1.0) for name in names]
    if len(wanted) != len(names):
        raise UserError(
            f"{where}: {len(wanted)} weights for {len(names)} classes ({', '.join(names)}). Give one each."
        )
    weights = torch.tensor(wanted, dtype=torch.float32)
    if ignored is not None:
        weights[ignored] = 0
    if not weights[1:].any():
        raise UserError(f"{where}: every class but the background weighs 0. Give one of them a weight.")
    return weights


def label_value(ignored: int | str | None, names: Sequence[str]) -> int | None:
    """The label value of the class to ignore.

    Raises:
        UserError: There is no such class, or nothing else.
    """
    if ignored is None:
        return None
    value = names.index(ignored) if ignored in names else ignored
    if not isinstance(value, int) or not 0 <= value < len(names):
        known = ", ".join(f"{index} {name}" for index, name in enumerate(names))
        raise UserError(f"{KEY}.ignore_label: there is no class {ignored}; there are {known}.")
    return value
