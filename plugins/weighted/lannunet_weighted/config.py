"""The settings of `trainer.weighted` and `trainer.ce-dice-weighted`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from lannunet_core import PluginConfig

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class WeightedConfig(PluginConfig):
    folder: Path | None = Field(
        None,
        description="Folder with CASE_weightmap.npy, .npz or an image file per case; default: the folder of "
        "the preprocessed cases, or weightmapsTr of a raw folder.",
    )
    generate: Literal["unet_border", "nearest_border"] | None = Field(
        None, description="Formula by which the maps are computed before training, instead of read."
    )
    w0: Weight = Field(10.0, le=60000, description="generate: the weight of borders.")
    sigma: float = Field(
        5.0, gt=0, allow_inf_nan=False, description="generate: the width of borders, in voxels."
    )
    ce_factor: Weight = Field(1.0, description="Factor of the cross-entropy term.")
    dice_factor: Weight = Field(1.0, description="Factor of the Dice term.")

    def idle_keys(self, task: str) -> dict[str, str]:
        return dict.fromkeys(("w0", "sigma") if self.generate is None else ("folder",), "generate")


class ClassWeightsConfig(PluginConfig):
    class_weights: Literal["inverse_frequency", "effective_number"] | list[Weight] | dict[str, Weight] = (
        Field(
            "inverse_frequency",
            description="Weights: one per class, background first; or by class name, with 1 for classes not "
            "named; or the formula that computes them from the training set.",
        )
    )
    beta: float = Field(0.9999, ge=0, lt=1, description="effective_number: β of the formula.")
    ignore_label: int | str | None = Field(
        None, description="A class, by name or label value, whose voxels have no gradient."
    )

    def idle_keys(self, task: str) -> dict[str, str]:
        return {} if self.class_weights == "effective_number" else {"beta": "class_weights"}
