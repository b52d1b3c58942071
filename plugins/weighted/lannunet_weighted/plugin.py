"""The plugins. The task's loss `ce_dice` multiplies the weights of voxels and of classes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lannunet_core import Plugin, UserError, hookimpl, is_among
from lannunet_weighted.config import ClassWeightsConfig, WeightedConfig

if TYPE_CHECKING:
    from lannunet_segmentation import CrossEntropyDice, SegmentationDataset

    from lannunet_core import ExtraMap, Loss
    from lannunet_weighted.maps import Mode

DIAGS = "nnUNetTrainerV2Weighted"
"""The name of `weighted` in DIAG's nnU-Net."""
MODES: dict[str, Mode] = {"unet_border": "unet", "nearest_border": "nearest"}


class Weighted(Plugin):
    """Voxels are weighted by the weight map of their case."""

    tasks = ("segmentation",)
    Config = WeightedConfig
    config: WeightedConfig

    @classmethod
    def notes(cls, name: str, config: WeightedConfig) -> Sequence[str]:
        if not is_among(name, (DIAGS,)) or config.dice_factor == 0:
            return ()
        return [
            f"{DIAGS}: the weighted Dice term has the factor {config.dice_factor:g}; DIAG's nnU-Net has no "
            "Dice term. To match it, set trainer.weighted.dice_factor: 0"
        ]

    @hookimpl
    def extra_maps(self, dataset: SegmentationDataset, folder: Path) -> Sequence[ExtraMap]:
        from lannunet_core import ExtraMap
        from lannunet_weighted.training import find_maps, generate_maps

        config = self.config
        if config.generate is None:
            paths = find_maps(dataset, config.folder)
        else:
            paths = generate_maps(dataset, folder, MODES[config.generate], config.w0, config.sigma)
        return [ExtraMap("weightmap", "weight", "linear", 0.0, paths)]

    @hookimpl(wrapper=True)
    def loss(self) -> Generator[None, Loss, Loss]:
        loss = yield
        if (self.config.ce_factor, self.config.dice_factor) == (1, 1):
            return loss
        if self.config.ce_factor == self.config.dice_factor == 0:
            raise UserError("trainer.weighted: ce_factor and dice_factor are both 0. Set one above 0.")
        changed = as_ce_dice(loss, "weighted")
        changed.ce_factor *= self.config.ce_factor
        changed.dice_factor *= self.config.dice_factor
        return changed


class ClassWeights(Plugin):
    """Rare classes have higher weights, in cross-entropy and Dice."""

    tasks = ("segmentation",)
    Config = ClassWeightsConfig
    config: ClassWeightsConfig

    @hookimpl(wrapper=True)
    def loss(self) -> Generator[None, Loss, Loss]:
        from lannunet_weighted.class_weights import Balanced, given_weights, label_value

        loss = yield
        if self.run.regions:
            raise UserError(
                "trainer.ce-dice-weighted: weights mutually exclusive classes, and this data set has "
                "regions. Remove it from trainer.plugins."
            )
        plain, wanted, names = (
            as_ce_dice(loss, "ce-dice-weighted"),
            self.config.class_weights,
            self.run.outputs,
        )
        ignored = label_value(self.config.ignore_label, names)
        if isinstance(wanted, str):
            return Balanced(plain, wanted, self.config.beta, names, ignored)
        plain.class_weights = given_weights(wanted, names, ignored)
        return plain

    @hookimpl(wrapper=True)
    def generate_segmentation_labels(self) -> Generator[None, dict[str, Any], dict[str, Any]]:
        from lannunet_segmentation import IGNORE

        from lannunet_weighted.class_weights import label_value

        labels = yield
        ignored = label_value(self.config.ignore_label, self.run.outputs)
        if ignored is None:
            return labels
        levels = [level.masked_fill(level == ignored, IGNORE) for level in labels["segmentation"]]
        return {**labels, "segmentation": levels}


def as_ce_dice(loss: Loss, name: str) -> CrossEntropyDice:
    from lannunet_segmentation import CrossEntropyDice

    if not isinstance(loss, CrossEntropyDice):
        raise UserError(
            f"trainer.{name}: changes solver.loss_function: ce_dice, but this run's loss is "
            f"{type(loss).__name__}. Choose ce_dice, or remove {name} from trainer.plugins."
        )
    return loss
