"""The settings of `trainer.sparse`."""

from typing import Literal

from pydantic import Field

from lannunet_core import PluginConfig


class SparseConfig(PluginConfig):
    balance: Literal["voxels", "classes"] = Field(
        "voxels", description="Draw each annotated voxel as often, or each class that a case has."
    )
    offset: Literal["random", "centre"] = Field(
        "random", description="Where in the patch the drawn voxel lies: anywhere, or in the middle."
    )
